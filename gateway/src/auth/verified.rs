//! Tokens that were verified, so that a client that sends one with each request is not verified each time.
//!
//! **Invariant:** only verified tokens are kept, by their hash, and not more than a fixed number of them; whoever takes
//! one out still asks for its time and its key.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::claims::Verified;

/// Tokens in each of the two halves: a token and its claims take some kilobytes at most, so tens of megabytes in all.
const HALF_TOKENS_MAX: usize = 4_096;

/// The hash of a token: the token itself is not kept.
pub(super) type TokenHash = [u8; 32];

/// A verified token and what verified it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) verified: Verified,
    /// The generation of the key set; none when it was a secret.
    pub(super) generation: Option<u64>,
}

/// The tokens that were seen last. The older half goes when the younger one is full.
#[derive(Debug, Default)]
pub(super) struct KnownTokens(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<TokenHash, Arc<Known>>,
    old: HashMap<TokenHash, Arc<Known>>,
}

impl KnownTokens {
    pub(super) fn hash(token: &str) -> TokenHash {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Known>> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = halves.young.get(hash) {
            return Some(Arc::clone(known));
        }
        let known = halves.old.remove(hash)?;
        halves.insert(*hash, Arc::clone(&known));
        Some(known)
    }

    pub(super) fn insert(&self, hash: TokenHash, known: Arc<Known>) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.insert(hash, known);
    }
}

impl Halves {
    fn insert(&mut self, hash: TokenHash, known: Arc<Known>) {
        if self.young.len() >= HALF_TOKENS_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::config::AuthConfig;

    #[test]
    fn no_more_than_two_halves_are_kept_and_the_used_ones_longest() {
        let payload = serde_json::json!({"sub": "ada", "gw": "shop", "exp": 1});
        let payload = payload.as_object().unwrap();
        let verified = Verified::read(payload, &AuthConfig::default()).unwrap();
        let known = Arc::new(Known {
            verified,
            generation: None,
        });
        let tokens = KnownTokens::default();
        let often = KnownTokens::hash("often");
        tokens.insert(often, Arc::clone(&known));
        for i in 0..5 * HALF_TOKENS_MAX {
            tokens.insert(KnownTokens::hash(&i.to_string()), Arc::clone(&known));
            if i % 100 == 0 {
                assert!(tokens.get(&often).is_some(), "forgotten at {i}");
            }
        }
        assert!(tokens.get(&KnownTokens::hash("0")).is_none());
        let halves = tokens.0.lock().unwrap();
        assert!(halves.young.len() <= HALF_TOKENS_MAX && halves.old.len() <= HALF_TOKENS_MAX);
    }
}
