//! The bearer token, and where another one comes from.
//!
//! Invariant: a token is shown in no error, no log and no `Debug`.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::TransportError;

/// What gives a token: asked before the first request, and whenever the gateway has refused the last one.
pub(super) type TokenSource =
    dyn Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync;

/// Who the client says it is.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    held: Arc<Mutex<Option<String>>>,
    source: Option<Arc<TokenSource>>,
}

impl Credentials {
    pub(super) fn of_token(token: &str) -> Credentials {
        Credentials {
            held: Arc::new(Mutex::new(Some(token.to_owned()))),
            source: None,
        }
    }

    pub(super) fn of_source(source: Arc<TokenSource>) -> Credentials {
        Credentials {
            held: Arc::default(),
            source: Some(source),
        }
    }

    /// The value of the header `Authorization`, when there is anything to present.
    pub(super) fn header(&self) -> Result<Option<String>, TransportError> {
        let held = self.held().clone();
        let token = match (held, &self.source) {
            (Some(token), _) => token,
            (None, None) => return Ok(None),
            (None, Some(source)) => {
                let token = source().map_err(|error| TransportError::Token {
                    reason: error.to_string(),
                })?;
                *self.held() = Some(token.clone());
                token
            }
        };
        // What no header can hold would be an error of every exchange, with the token in its text.
        match token.bytes().all(|byte| byte.is_ascii_graphic()) && !token.is_empty() {
            true => Ok(Some(format!("Bearer {token}"))),
            false => Err(TransportError::Token {
                reason: "it must be letters, digits and signs without spaces".to_owned(),
            }),
        }
    }

    /// Asks for another token. Without an answer there is none any more, so that the next request asks again, and says
    /// what the source says.
    pub(super) fn refresh(&self) -> bool {
        let Some(source) = &self.source else {
            return false;
        };
        let fresh = source().ok();
        let mut held = self.held();
        let other = fresh.is_some() && fresh != *held;
        *held = fresh;
        other
    }

    fn held(&self) -> MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("token", &self.held().is_some())
            .field("source", &self.source.is_some())
            .finish()
    }
}
