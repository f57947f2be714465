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
use crate::outbound::{agent, check_trusted_url, read_bounded};

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
            JwksSource::Url(url) => check_trusted_url(url)?,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::auth::tests::keys::{TestKey, jwks};
    use crate::auth::{AuthConfig, Authenticator};
    use crate::outbound::scripted::Server;

    const NOW_S: u64 = 1_700_000_000;

    /// A provider whose answer can be changed, and which counts.
    #[derive(Clone)]
    struct Provider(Arc<Mutex<(Answer, usize)>>);

    type Answer = Result<Vec<u8>, String>;

    impl Provider {
        fn new(keys: &[Json]) -> Self {
            Self(Arc::new(Mutex::new((Ok(jwks(keys)), 0))))
        }

        fn answer(&self, answer: Answer) {
            self.0.lock().unwrap().0 = answer;
        }

        fn fetches(&self) -> usize {
            self.0.lock().unwrap().1
        }

        fn fetch(&self) -> Fetch {
            let state = Arc::clone(&self.0);
            Arc::new(move |_| {
                let mut state = state.lock().unwrap();
                state.1 += 1;
                state.0.clone()
            })
        }

        fn authenticator(&self) -> Authenticator {
            let source = JwksSource::Url("https://issuer.example/jwks".to_owned());
            authenticator(source, self.fetch())
        }

        fn jwks(&self) -> Arc<Jwks> {
            let source = JwksSource::Url("https://issuer.example/jwks".to_owned());
            Arc::new(Jwks::new(source, self.fetch()).unwrap())
        }
    }

    fn authenticator(source: JwksSource, fetch: Fetch) -> Authenticator {
        let config = AuthConfig {
            jwks: Some(source),
            ..AuthConfig::default()
        };
        Authenticator::with_fetch(config, fetch).unwrap()
    }

    fn token(key: TestKey, kid: &str) -> String {
        let payload = json!({"sub": "ada", "gw": "shop", "exp": NOW_S + 10_000});
        let header = json!({"alg": "ES256", "kid": kid});
        key.sign(&header.to_string(), payload.to_string())
    }

    #[test]
    fn keys_come_in_the_clear_only_from_this_machine_or_a_private_network() {
        let start = |url: &str| {
            let source = JwksSource::Url(url.to_owned());
            let config = AuthConfig {
                jwks: Some(source),
                ..AuthConfig::default()
            };
            let started = Authenticator::with_fetch(config, Provider::new(&[]).fetch());
            started.map(drop).map_err(|error| error.to_string())
        };
        let private = [
            "https://issuer.example/jwks",
            "http://localhost:8080/jwks",
            "http://127.0.0.1/jwks",
            "http://[::1]:1/jwks",
            "http://10.1.2.3/jwks",
            "http://172.31.0.1/jwks",
            "http://192.168.0.7:8080/jwks",
            "http://[fd00::1]/jwks",
            "http://keycloak:8080/jwks",
            "http://idp.svc.cluster.local/jwks",
        ];
        for url in private {
            assert_eq!(start(url), Ok(()), "{url}");
        }
        let public = [
            "http://issuer.example/jwks",
            "http://localhost.evil.example/jwks",
            "http://127.0.0.1.evil.example/jwks",
            "http://127.0.0.1@evil.example/jwks",
            "http://10.evil.example/jwks",
            "http://172.32.0.1/jwks",
            "http://8.8.8.8/jwks",
            "http://[2001:db8::1]/jwks",
            "http://[fd00.evil.example]/jwks",
        ];
        for url in public {
            let refused = start(url).expect_err(url);
            assert!(refused.contains("https://"), "{url}: {refused}");
        }
        assert!(
            start("http://issuer.example/jwks")
                .unwrap_err()
                .contains("private network")
        );
    }

    #[tokio::test]
    async fn a_rotated_key_is_fetched_once_and_not_more_often_than_every_ten_seconds() {
        let provider = Provider::new(&[TestKey::Ec1.jwk("one")]);
        let authenticator = provider.authenticator();
        assert_eq!(
            provider.fetches(),
            0,
            "a server starts without its provider"
        );
        authenticator
            .identify(&token(TestKey::Ec1, "one"), NOW_S)
            .await
            .unwrap();
        authenticator
            .identify(&token(TestKey::Ec1, "one"), NOW_S)
            .await
            .unwrap();
        assert_eq!(provider.fetches(), 1);

        provider.answer(Ok(jwks(&[
            TestKey::Ec1.jwk("one"),
            TestKey::Ec2.jwk("two"),
        ])));
        let early = authenticator
            .identify(&token(TestKey::Ec2, "two"), NOW_S + 9)
            .await;
        assert!(early.unwrap_err().message.contains("no known key"));
        for i in 0..100 {
            let invented = token(TestKey::Ec2, &format!("invented{i}"));
            assert!(authenticator.identify(&invented, NOW_S + 9).await.is_err());
        }
        assert_eq!(provider.fetches(), 1);
        authenticator
            .identify(&token(TestKey::Ec2, "two"), NOW_S + 10)
            .await
            .unwrap();
        assert_eq!(provider.fetches(), 2);
        authenticator
            .identify(&token(TestKey::Ec1, "one"), NOW_S + 10)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn keys_stay_while_the_provider_is_away_and_unknown_ones_may_come_later() {
        let provider = Provider::new(&[TestKey::Ec1.jwk("one")]);
        provider.answer(Err("connection refused".to_owned()));
        let authenticator = provider.authenticator();
        let (one, two) = (token(TestKey::Ec1, "one"), token(TestKey::Ec2, "two"));
        let away = authenticator.identify(&one, NOW_S).await.unwrap_err();
        assert_eq!(away.code.as_str(), "ADAPTER_ERROR");
        assert!(!away.message.contains("issuer.example"), "{away}");

        provider.answer(Ok(jwks(&[TestKey::Ec1.jwk("one")])));
        authenticator.identify(&one, NOW_S + 10).await.unwrap();
        let broken: [Answer; 4] = [
            Err("timed out".to_owned()),
            Ok(b"<html>".to_vec()),
            Ok(jwks(&[])),
            Ok(vec![b' '; JWKS_BYTES_MAX + 1]),
        ];
        for (i, answer) in (0..).zip(broken) {
            provider.answer(answer);
            let now_s = NOW_S + 100 * (i + 1);
            let unknown = authenticator.identify(&two, now_s).await.unwrap_err();
            assert_eq!(unknown.code.as_str(), "ADAPTER_ERROR", "{i}");
            authenticator.identify(&one, now_s).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_withdrawn_key_ends_for_known_tokens_too() {
        let provider = Provider::new(&[TestKey::Ec1.jwk("one"), TestKey::Ec2.jwk("two")]);
        let jwks_of = provider.jwks();
        assert!(jwks_of.current(Some("one"), NOW_S).await.keys.knows("one"));
        provider.answer(Ok(jwks(&[TestKey::Ec2.jwk("two")])));
        assert_eq!(
            jwks_of.current(Some("one"), NOW_S + 599).await.generation,
            1
        );
        // The first request of a new age does not wait; the next one after the fetch sees the change.
        jwks_of.current(Some("one"), NOW_S + 600).await;
        drop(jwks_of.turn.lock().await);
        let current = jwks_of.current(Some("two"), NOW_S + 600).await;
        assert_eq!(current.generation, 2);
        assert!(!current.keys.knows("one"));
        // The same keys again are no change: known tokens stay known.
        jwks_of.current(Some("two"), NOW_S + 1_200).await;
        drop(jwks_of.turn.lock().await);
        assert_eq!(
            jwks_of.current(Some("two"), NOW_S + 1_200).await.generation,
            2
        );
        assert_eq!(provider.fetches(), 3);
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, jwks(&[TestKey::Ec1.jwk("one")])).unwrap();
        let authenticator = authenticator(JwksSource::File(path.clone()), http_fetch());
        let (one, two) = (token(TestKey::Ec1, "one"), token(TestKey::Ec2, "two"));
        authenticator.identify(&one, NOW_S).await.unwrap();
        std::fs::write(&path, "{").unwrap();
        authenticator.identify(&one, NOW_S + 1).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        authenticator.identify(&one, NOW_S + 2).await.unwrap();
        std::fs::write(&path, jwks(&[TestKey::Ec2.jwk("two")])).unwrap();
        authenticator.identify(&two, NOW_S + 3).await.unwrap();
        assert!(
            authenticator.identify(&one, NOW_S + 3).await.is_err(),
            "withdrawn"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_requests_at_once_make_one_fetch() {
        let provider = Provider::new(&[TestKey::Ec1.jwk("one")]);
        let authenticator = Arc::new(provider.authenticator());
        let requests = (0..40).map(|_| {
            let authenticator = Arc::clone(&authenticator);
            let token = token(TestKey::Ec1, "one");
            tokio::spawn(async move { authenticator.identify(&token, NOW_S).await.is_ok() })
        });
        for request in requests.collect::<Vec<_>>() {
            assert!(request.await.unwrap());
        }
        assert_eq!(provider.fetches(), 1);
    }

    #[tokio::test]
    async fn a_fetch_that_nobody_waits_for_is_kept() {
        let (begun, begin) = std::sync::mpsc::channel();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let fetch: Fetch = Arc::new(move |_| {
            begun.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            Ok(jwks(&[TestKey::Ec1.jwk("one")]))
        });
        let source = JwksSource::Url("https://issuer.example/jwks".to_owned());
        let jwks = Arc::new(Jwks::new(source, fetch).unwrap());
        let request = tokio::spawn({
            let jwks = Arc::clone(&jwks);
            async move { jwks.current(Some("one"), NOW_S).await }
        });
        tokio::task::spawn_blocking(move || begin.recv().unwrap())
            .await
            .unwrap();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        drop(jwks.turn.lock().await);
        assert!(jwks.current(Some("one"), NOW_S).await.keys.knows("one"));
    }

    #[test]
    fn the_fetch_over_http_is_bounded_and_follows_nothing() {
        let answers: [(&str, Vec<u8>, &str); 4] = [
            ("200 OK", b"{}".to_vec(), ""),
            ("500 Oops", b"{}".to_vec(), "status 500"),
            (
                "302 Found\r\nLocation: http://127.0.0.1:1/",
                Vec::new(),
                "status 302",
            ),
            ("200 OK", vec![b' '; JWKS_BYTES_MAX + 1], "larger than"),
        ];
        for (status, body, fault) in answers {
            let server = Server::start(move |_, _| (status.to_owned(), body.clone()));
            match http_fetch()(&server.url()) {
                Ok(bytes) => assert_eq!((bytes.as_slice(), fault), (&b"{}"[..], "")),
                Err(reason) => {
                    assert!(
                        !fault.is_empty() && reason.contains(fault),
                        "{status}: {reason}"
                    );
                }
            }
            assert_eq!(server.requests().len(), 1, "{status}");
        }
    }
}
