//! Whose certificates are trusted.
//!
//! Invariant: either the public authorities, or exactly those that were given; never both, so a private gateway cannot be
//! played by whoever has a public certificate.

#[cfg(all(feature = "tls", feature = "live"))]
use std::sync::Arc;

#[cfg(feature = "tls")]
use rustls::pki_types::CertificateDer;
#[cfg(feature = "tls")]
use rustls::pki_types::pem::PemObject as _;
#[cfg(feature = "tls")]
use ureq::tls::{Certificate, RootCerts, TlsConfig};

#[cfg(feature = "tls")]
use crate::transport::TransportError;

/// The authorities whose certificates are trusted.
#[derive(Clone, Debug, Default)]
pub(super) struct Roots {
    #[cfg(feature = "tls")]
    given: Vec<CertificateDer<'static>>,
}

#[cfg(feature = "tls")]
impl Roots {
    /// These, and those of a PEM file's text.
    pub(super) fn with_pem(mut self, pem: &[u8]) -> Result<Roots, TransportError> {
        let refuse = |reason: String| TransportError::Certificate { reason };
        let before = self.given.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.given
                .push(certificate.map_err(|error| refuse(error.to_string()))?);
        }
        if self.given.len() == before {
            let text = "there is no BEGIN CERTIFICATE in it: give the text of a PEM file";
            return Err(refuse(text.to_owned()));
        }
        // Whether an authority's certificate is one, is found here and not at the first exchange.
        self.store()?;
        Ok(self)
    }

    pub(super) fn for_requests(&self) -> TlsConfig {
        let roots = match self.given.is_empty() {
            true => RootCerts::WebPki,
            false => {
                let given = self.given.iter();
                given
                    .map(|certificate| Certificate::from_der(certificate).to_owned())
                    .into()
            }
        };
        TlsConfig::builder().root_certs(roots).build()
    }

    #[cfg(feature = "live")]
    pub(super) fn for_sockets(&self) -> Result<Arc<rustls::ClientConfig>, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_root_certificates(self.store()?)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn store(&self) -> Result<rustls::RootCertStore, TransportError> {
        let mut store = rustls::RootCertStore::empty();
        if self.given.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for certificate in &self.given {
            store
                .add(certificate.clone())
                .map_err(|error| TransportError::Certificate {
                    reason: error.to_string(),
                })?;
        }
        Ok(store)
    }
}
