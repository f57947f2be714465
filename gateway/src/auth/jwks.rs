//! The key set of an identity provider, kept up to date.
//!
//! **Invariant:** at most one fetch runs at a time and one begins in ten seconds, whatever tokens come; keys that were
//! good stay good while the provider cannot be reached, and go when it says so.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio::task::spawn_blocking;

use super::config::JwksSource;
use super::keys::{JWKS_BYTES_MAX, KeySet};
use crate::outbound::{agent, check_url, read_bounded};

/// Gets the bytes of an address, or says why not. It may block for seconds and must bound what it reads.
pub type Fetch = Arc<dyn Fn(&str) -> Result<Vec<u8>, String> + Send + Sync>;

/// Seconds from one fetch to the next at least: tokens with invented key names must not make us flood the provider.
const FETCH_INTERVAL_S: u64 = 10;

/// Seconds after which keys are fetched again though all are known: a key that was withdrawn must end.
const KEYS_AGE_MAX_S: u64 = 600;

/// Seconds from one look at a key file to the next.
const FILE_INTERVAL_S: u64 = 1;

/// How long one fetch may take: requests wait for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The key set as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    /// The keys; empty before the first fetch.
    pub(super) keys: Arc<KeySet>,
    /// Counts the changes of the keys.
    pub(super) generation: u64,
    /// Whether the last attempt to get them failed.
    pub(super) failed: bool,
}

#[derive(Debug, Default)]
struct State {
    current: Current,
    bytes: Vec<u8>,
    attempted_s: Option<u64>,
    fetched_s: Option<u64>,
    failure: Option<String>,
}

/// A key set and where it comes from.
pub(super) struct Jwks {
    source: JwksSource,
    fetch: Fetch,
    state: Mutex<State>,
    turn: Arc<Turn<()>>,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Jwks {
    /// The set at `source`. A file is read now; an address is fetched when the first token needs it, so that a server
    /// starts while its provider is down.
    ///
    /// # Errors
    /// A phrase when the file cannot be used, or the address is of no kind that can be fetched.
    pub(super) fn new(source: JwksSource, fetch: Fetch) -> Result<Self, String> {
        let mut state = State::default();
        match &source {
            JwksSource::File(path) => state.take(read_file(path))?,
            JwksSource::Url(url) => check_url(url)?,
        }
        Ok(Self {
            source,
            fetch,
            state: Mutex::new(state),
            turn: Arc::new(Turn::new(())),
        })
    }

    /// The keys for a token that names `kid`, after a refresh when one is due. Safe to cancel: a fetch that has begun
    /// ends and is kept, though nobody waits for it.
    pub(super) async fn current(self: &Arc<Self>, kid: Option<&str>, now_s: u64) -> Current {
        let Some(wait) = self.due(kid, now_s) else {
            return self.state().current.clone();
        };
        let turn = match wait {
            Wait::ForKeys => Arc::clone(&self.turn).lock_owned().await,
            Wait::No => match Arc::clone(&self.turn).try_lock_owned() {
                Ok(turn) => turn,
                Err(_) => return self.state().current.clone(),
            },
        };
        if self.due(kid, now_s).is_some() {
            let refresh = self.refresh(now_s, turn);
            if matches!(wait, Wait::ForKeys) && refresh.await.is_err() {
                tracing::error!("fetching the JWKS panicked");
            }
        }
        self.state().current.clone()
    }

    fn due(&self, kid: Option<&str>, now_s: u64) -> Option<Wait> {
        let state = self.state();
        // A wall clock that was set back counts as time that passed.
        let passed = |since: Option<u64>, s| since.is_none_or(|at_s| now_s.abs_diff(at_s) >= s);
        match self.source {
            JwksSource::File(_) => {
                passed(state.attempted_s, FILE_INTERVAL_S).then_some(Wait::ForKeys)
            }
            JwksSource::Url(_) if !passed(state.attempted_s, FETCH_INTERVAL_S) => None,
            JwksSource::Url(_) => match kid {
                Some(kid) if !state.current.keys.knows(kid) => Some(Wait::ForKeys),
                _ => passed(state.fetched_s, KEYS_AGE_MAX_S).then_some(Wait::No),
            },
        }
    }

    fn refresh(
        self: &Arc<Self>,
        now_s: u64,
        turn: OwnedMutexGuard<()>,
    ) -> tokio::task::JoinHandle<()> {
        self.state().attempted_s = Some(now_s);
        let jwks = Arc::clone(self);
        spawn_blocking(move || {
            let bytes = match &jwks.source {
                JwksSource::File(path) => read_file(path),
                JwksSource::Url(url) => (jwks.fetch)(url),
            };
            jwks.take(bytes, now_s);
            drop(turn);
        })
    }

    fn take(&self, bytes: Result<Vec<u8>, String>, now_s: u64) {
        let mut state = self.state();
        match state.take(bytes) {
            Ok(()) => state.fetched_s = Some(now_s),
            Err(reason) if state.failure.as_ref() != Some(&reason) => {
                tracing::warn!(source = ?self.source, reason, "the JWKS cannot be read; known keys stay");
                state.failure = Some(reason);
            }
            Err(_) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the request can go on with the keys that are known.
#[derive(Clone, Copy, Debug)]
enum Wait {
    ForKeys,
    No,
}

impl State {
    fn take(&mut self, bytes: Result<Vec<u8>, String>) -> Result<(), String> {
        self.current.failed = true;
        let bytes = bytes?;
        if self.current.generation == 0 || bytes != self.bytes {
            self.current.keys = Arc::new(KeySet::read(&bytes)?);
            self.current.generation += 1;
            self.bytes = bytes;
        }
        self.current.failed = false;
        self.failure = None;
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    read_bounded(file, JWKS_BYTES_MAX).map_err(|error| error.to_string())
}

/// Fetches over HTTP or HTTPS, in bounded time and bytes, without following redirects.
pub(super) fn http_fetch() -> Fetch {
    Arc::new(|url| {
        let answer = agent(url, FETCH_TIMEOUT).get(url).call();
        let mut answer = answer.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => read_bounded(answer.body_mut().as_reader(), JWKS_BYTES_MAX)
                .map_err(|error| error.to_string()),
            status => Err(format!("it answered with status {status}")),
        }
    })
}
