//! TLS for the listener: a certificate chain and a key from PEM files, with ring.
//!
//! **Invariant:** a key that does not fit its certificate is refused when the server starts, not at the first handshake.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;
use crate::error::{Error, Result};

/// Reads and checks the certificate and its key.
///
/// # Errors
/// [`Error::Invalid`] naming the file.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(&read(&files.cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, &"it holds no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?);
    let key = key.map_err(|error| {
        wrong(
            &files.key,
            &format!("it holds no private key in PEM form ({error})"),
        )
    })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.cert, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| {
        wrong(
            &files.key,
            &format!("it is not the key of {} ({error})", files.cert.display()),
        )
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!("{}: {reason}", path.display()))
}
