//! From a bearer token to an [`Identity`]. Read [`Authenticator::identify`].
//!
//! **Invariant:** an identity is given only for a token whose signature a configured key made, within its time; what is
//! refused is refused with 401 and a reason that shows nothing of the token or of a key.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use lakesync_proto::ErrorCode;
use thiserror::Error;

use super::claims::Verified;
use super::config::{AuthConfig, JwksSource};
use super::identity::Identity;
use super::jwks::{Fetch, Jwks, http_fetch};
use super::keys::signed_by;
use super::token::{Compact, TOKEN_BYTES_MAX};
use super::verified::{Known, KnownTokens};
use crate::error::Refusal;

/// Secrets that may be configured: the current one and the previous one.
const SECRETS_MAX: usize = 2;

/// A configuration of authentication that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthConfigError {
    /// Neither a secret nor a key set.
    #[error(
        "authentication has no key: give an HS256 secret or a JWKS, or leave authentication out"
    )]
    NoKey,
    /// Too many secrets.
    #[error(
        "{0} HS256 secrets are configured, {SECRETS_MAX} are allowed: the current one and the previous one"
    )]
    TooManySecrets(usize),
    /// The key set cannot be used.
    #[error("the JWKS at {place} cannot be used: {reason}")]
    Jwks {
        /// Its path or address.
        place: String,
        /// Why not.
        reason: String,
    },
}

/// Checks tokens by the configured keys.
#[derive(Debug)]
pub struct Authenticator {
    config: AuthConfig,
    jwks: Option<Arc<Jwks>>,
    known: KnownTokens,
}

impl Authenticator {
    /// Checks tokens as `config` says. A key file is read now, an address is fetched when a token first needs it.
    ///
    /// # Errors
    /// [`AuthConfigError`] says what to change.
    pub fn new(config: AuthConfig) -> Result<Self, AuthConfigError> {
        Self::with_fetch(config, http_fetch())
    }

    /// The same with another way to fetch a key set.
    ///
    /// # Errors
    /// As [`Authenticator::new`].
    pub fn with_fetch(config: AuthConfig, fetch: Fetch) -> Result<Self, AuthConfigError> {
        if config.hs256.len() > SECRETS_MAX {
            return Err(AuthConfigError::TooManySecrets(config.hs256.len()));
        }
        let jwks = match &config.jwks {
            None if config.hs256.is_empty() => return Err(AuthConfigError::NoKey),
            None => None,
            Some(source) => {
                let jwks = Jwks::new(source.clone(), fetch);
                let place = || match source {
                    JwksSource::File(path) => path.display().to_string(),
                    JwksSource::Url(url) => url.clone(),
                };
                let jwks = jwks.map_err(|reason| AuthConfigError::Jwks {
                    place: place(),
                    reason,
                })?;
                Some(Arc::new(jwks))
            }
        };
        Ok(Self {
            config,
            jwks,
            known: KnownTokens::default(),
        })
    }

    /// Who the holder of `token` is, at `now_s` seconds since 1970. Waits only when a token names a key that is not
    /// known yet. Safe to cancel.
    ///
    /// # Errors
    /// `AUTH_ERROR` (401) when the token is refused; `ADAPTER_ERROR` when it names a key that is not known and the key
    /// set could not be fetched: the same token may be good later.
    pub async fn identify(&self, token: &str, now_s: u64) -> Result<Identity, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused(&format!(
                "it has {} bytes, {TOKEN_BYTES_MAX} are allowed",
                token.len()
            )));
        }
        let hash = KnownTokens::hash(token);
        let known = match self.known(&hash, now_s).await {
            Some(known) => known,
            None => {
                let known = Arc::new(self.verify(token, now_s).await?);
                self.known.insert(hash, Arc::clone(&known));
                known
            }
        };
        let leeway_s = self.config.leeway.as_secs();
        let timely = known.verified.check_time(now_s, leeway_s);
        timely.map_err(|reason| refused(&reason))?;
        Ok(known.verified.identity.clone())
    }

    /// The token, when it was verified before by keys that are still those of now.
    async fn known(&self, hash: &[u8; 32], now_s: u64) -> Option<Arc<Known>> {
        let known = self.known.get(hash)?;
        match (known.generation, &self.jwks) {
            (None, _) => Some(known),
            (Some(generation), Some(jwks)) => {
                let current = jwks.current(None, now_s).await;
                (current.generation == generation).then_some(known)
            }
            (Some(_), None) => None,
        }
    }

    async fn verify(&self, token: &str, now_s: u64) -> Result<Known, Refusal> {
        let compact = Compact::parse(token).map_err(|reason| refused(&reason))?;
        let generation = match compact.algorithm {
            Algorithm::HS256 => self.verify_secret(&compact)?,
            _ => self.verify_public(&compact, now_s).await?,
        };
        let claims = compact.claims();
        let verified = claims.and_then(|claims| Verified::read(&claims, &self.config));
        Ok(Known {
            verified: verified.map_err(|reason| refused(&reason))?,
            generation,
        })
    }

    fn verify_secret(&self, token: &Compact<'_>) -> Result<Option<u64>, Refusal> {
        match (
            signed_by(&self.config.hs256, token),
            self.config.hs256.is_empty(),
        ) {
            (true, _) => Ok(None),
            (false, true) => Err(refused("HS256 is not configured here")),
            (false, false) => Err(refused("its signature is wrong")),
        }
    }

    async fn verify_public(&self, token: &Compact<'_>, now_s: u64) -> Result<Option<u64>, Refusal> {
        let Some(jwks) = &self.jwks else {
            return Err(refused("public keys are not configured here"));
        };
        let Some(kid) = &token.key_id else {
            return Err(refused("its header has no `kid`, which names the key"));
        };
        let current = jwks.current(Some(kid), now_s).await;
        if current.failed && !current.keys.knows(kid) {
            return Err(Refusal::new(
                ErrorCode::AdapterError,
                "the keys of the identity provider cannot be fetched now; send again in a few seconds",
            ));
        }
        let verified = current.keys.verify(kid, token);
        verified.map_err(|reason| refused(&reason))?;
        Ok(Some(current.generation))
    }
}

fn refused(reason: &str) -> Refusal {
    Refusal::new(
        ErrorCode::AuthError,
        format!("Bearer token refused: {reason}"),
    )
}
