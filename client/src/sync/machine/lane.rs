//! What waits after a failure, each kind of exchange by itself.
//!
//! Invariant: a lane that has failed is closed until its wait is over, and open again when the wall clock was set back
//! before the failure: no wait outlives the clock that it was measured by.

use crate::sync::backoff;

/// A kind of exchange, or what all of them need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// The local database.
    Local,
    /// Any answer at all.
    Link,
    Schemas,
    Push,
    Read,
    Verify,
    Live,
}

impl Lane {
    pub(crate) const ALL: [Lane; 7] = [
        Lane::Local,
        Lane::Link,
        Lane::Schemas,
        Lane::Push,
        Lane::Read,
        Lane::Verify,
        Lane::Live,
    ];
}

/// How an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No answer: nothing else is asked for a while.
    NoAnswer,
    /// The token is not accepted.
    Token,
    /// The gateway said no, or not now.
    Refused {
        /// The least wait that it asks for.
        retry_after_ms: Option<u64>,
    },
    /// The answer speaks of tables or columns that are not known here.
    Schema,
    /// The answer cannot be right.
    Garbled,
    /// The local database said no.
    Local,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    failures: u32,
    wait: Option<Wait>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    since_ms: u64,
    until_ms: u64,
}

/// All lanes.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    seed: u64,
    states: [State; Lane::ALL.len()],
}

impl Lanes {
    pub(super) fn new(seed: u64) -> Lanes {
        Lanes {
            seed,
            states: Default::default(),
        }
    }

    pub(super) fn fail(&mut self, lane: Lane, now_ms: u64, asked_ms: Option<u64>) {
        let seed = self.seed;
        let state = self.state_mut(lane);
        state.failures = state.failures.saturating_add(1);
        let wait_ms = backoff::wait_ms(seed, state.failures, now_ms, asked_ms);
        state.wait = Some(Wait {
            since_ms: now_ms,
            until_ms: now_ms.saturating_add(wait_ms),
        });
    }

    /// Closes a lane as after so many failures in a row, where successes of another kind lie between them.
    pub(super) fn fail_again(&mut self, lane: Lane, failures: u32, now_ms: u64) {
        self.state_mut(lane).failures = failures.saturating_sub(1);
        self.fail(lane, now_ms, None);
    }

    /// Closes a lane for as long as another one.
    pub(super) fn wait_like(&mut self, lane: Lane, other: Lane) {
        self.state_mut(lane).wait = self.state(other).wait;
    }

    pub(super) fn clear(&mut self, lane: Lane) {
        *self.state_mut(lane) = State::default();
    }

    pub(super) fn clear_all(&mut self) {
        self.states = Default::default();
    }

    pub(super) fn is_ready(&self, lane: Lane, now_ms: u64) -> bool {
        self.wait(lane, now_ms).is_none()
    }

    pub(super) fn has_failed(&self, lane: Lane) -> bool {
        self.state(lane).failures > 0
    }

    /// When the first of these opens that are closed now.
    pub(super) fn first_wait(
        &self,
        lanes: impl IntoIterator<Item = Lane>,
        now_ms: u64,
    ) -> Option<u64> {
        lanes
            .into_iter()
            .filter_map(|lane| self.wait(lane, now_ms))
            .min()
    }

    fn wait(&self, lane: Lane, now_ms: u64) -> Option<u64> {
        let wait = self.state(lane).wait?;
        (wait.since_ms..wait.until_ms)
            .contains(&now_ms)
            .then_some(wait.until_ms)
    }

    fn state(&self, lane: Lane) -> &State {
        &self.states[index(lane)]
    }

    fn state_mut(&mut self, lane: Lane) -> &mut State {
        &mut self.states[index(lane)]
    }
}

fn index(lane: Lane) -> usize {
    Lane::ALL
        .iter()
        .position(|other| *other == lane)
        .expect("every lane is in the list of all")
}
