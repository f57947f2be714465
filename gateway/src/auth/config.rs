//! What authentication is told, as plain data.
//!
//! **Invariant:** a [`Secret`] is long enough to sign with, and no log or error shows it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes that a secret must have at least: those of an HS256 signature, as RFC 7518 asks. A shorter one can be found
/// by trying, from a single token.
pub const SECRET_BYTES_MIN: usize = 32;

/// A secret that signs and verifies HS256 tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Checks the text and takes its bytes; white space around it (a file's last newline) is no part of it.
    ///
    /// # Errors
    /// A sentence when it is shorter than [`SECRET_BYTES_MIN`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.len() {
            n if n < SECRET_BYTES_MIN => Err(format!(
                "the HS256 secret has {n} bytes, {SECRET_BYTES_MIN} are needed: make one with `openssl rand -hex 32`"
            )),
            _ => Ok(Self(text.as_bytes().to_vec())),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

/// Where public keys come from: a JSON Web Key Set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// An `https://` address (`http://` only of this machine or a private network), fetched when first needed, every ten minutes, and
    /// when a token names a key that is not known.
    Url(String),
}

/// How tokens are checked. At least one of `hs256` and `jwks` must be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The secrets of HS256: the current one and, while tokens of it live, the previous one. At most two.
    pub hs256: Vec<Secret>,
    /// Where the public keys for RS256, ES256 and EdDSA are. None refuses such tokens.
    pub jwks: Option<JwksSource>,
    /// What a token's `iss` must be. None takes any: right when every token that the keys sign is meant for us.
    pub issuer: Option<String>,
    /// What a token's `aud` must be, or hold. None takes any: wrong when the issuer signs for other services too.
    pub audience: Option<String>,
    /// How far the issuer's clock may differ from ours (default 30 s). Larger keeps ended tokens alive that much
    /// longer; smaller refuses honest ones.
    pub leeway: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            hs256: Vec::new(),
            jwks: None,
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(30),
        }
    }
}
