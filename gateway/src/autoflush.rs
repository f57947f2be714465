//! When a gateway flushes by itself: by bytes, rows, age, pressure, after a failure, and before it ends.
//!
//! Steps: look at what is not flushed → [`due`] says whether and why → flush → after a failure wait longer each
//! time. The decision is pure; the task below it only waits and asks.
//!
//! **Invariant:** as long as the task runs, a delta is flushed within the policy's age, or the last error says why
//! not; a flush that failed is tried again for ever, never in a tight loop.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use lakesync_proto::Seq;
use lakesync_providers::HotSize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::Result;
use crate::flush::FlushReport;
use crate::gateway::Gateway;

/// The longest wait between two looks: a wall clock that jumped is noticed within it.
const LOOK_AT_LEAST: Duration = Duration::from_secs(10);
/// The shortest wait between two looks, so that a busy gateway is not looked at after every push.
const LOOK_AT_MOST: Duration = Duration::from_millis(50);
/// How many rounds a drain takes at most: pushes that come meanwhile are refused by whoever drains.
const DRAIN_ROUNDS_MAX: usize = 4;

/// When hot deltas are flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Flush when this many bytes of deltas are not flushed (default 64 MiB). Smaller makes many small files that
    /// queries open one by one; larger keeps more in memory and takes longer to recover.
    pub bytes: u64,
    /// Flush when this many deltas are not flushed (default 500,000); as with `bytes`.
    pub rows: u64,
    /// Flush when a delta has waited this long (default 60 s). Shorter makes small files on quiet gateways; longer
    /// leaves the newest edits out of the lake for other engines, and on this machine's disk only.
    pub age: Duration,
    /// The wait after a first failure (default 1 s); it doubles with each further one.
    pub retry_first: Duration,
    /// The longest wait after failures (default 5 min). Longer leaves more unflushed when the cause is gone;
    /// shorter burdens a catalog or a store that is in trouble.
    pub retry_max: Duration,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            rows: 500_000,
            age: Duration::from_secs(60),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(5 * 60),
        }
    }
}

/// What the decision looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushState {
    /// What is hot and not flushed.
    pub hot: HotSize,
    /// Whether so much is hot that room has to be made now.
    pub pressed: bool,
    /// Whether the gateway is about to end.
    pub draining: bool,
    /// When to try again after failures, in milliseconds since 1970; none after a success.
    pub retry_at_ms: Option<u64>,
}

/// Why a flush is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The gateway is about to end.
    Drain,
    /// The last one failed, and the wait is over.
    Retry,
    /// Memory is short.
    Pressure,
    /// Enough bytes are waiting.
    Bytes,
    /// Enough deltas are waiting.
    Rows,
    /// A delta has waited long enough.
    Age,
}

/// Whether a flush is due at `now_ms` (milliseconds since 1970), and why.
#[must_use]
pub fn due(state: &FlushState, policy: &FlushPolicy, now_ms: u64) -> Option<Reason> {
    if state.hot.unflushed_deltas == 0 {
        return None;
    }
    if state.draining {
        return Some(Reason::Drain);
    }
    // While the lake is in trouble nothing but the retry flushes, however much is waiting.
    if let Some(retry_at_ms) = state.retry_at_ms {
        // No wait is longer than the longest: else the wall clock was set back, and the wait is over too.
        let left_ms = retry_at_ms.saturating_sub(now_ms);
        let is_over = left_ms == 0 || left_ms > millis(policy.retry_max);
        return is_over.then_some(Reason::Retry);
    }
    if state.pressed && is_worth_a_file(&state.hot, policy) {
        return Some(Reason::Pressure);
    }
    if state.hot.unflushed_bytes >= policy.bytes {
        return Some(Reason::Bytes);
    }
    if state.hot.unflushed_deltas >= policy.rows {
        return Some(Reason::Rows);
    }
    let waited_ms = now_ms.saturating_sub(state.hot.unflushed_since_ms.unwrap_or(now_ms));
    (waited_ms >= millis(policy.age)).then_some(Reason::Age)
}

/// Only compaction makes room for what is flushed already: while it is behind, small flushes would but make small
/// files.
fn is_worth_a_file(hot: &HotSize, policy: &FlushPolicy) -> bool {
    hot.unflushed_bytes >= (hot.bytes / 2).min(policy.bytes / 8)
}

/// The waits after failures: twice as long each time, and up to half of it more or less by chance, so that the
/// gateways of a process do not all come back at once.
#[derive(Debug)]
struct Backoff {
    failures: u32,
    /// The state of an xorshift generator; never zero.
    random: u64,
}

impl Backoff {
    fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            random: seed | 1,
        }
    }

    /// How long to wait after one more failure.
    fn failed(&mut self, policy: &FlushPolicy) -> Duration {
        let doubled = policy
            .retry_first
            .saturating_mul(1 << self.failures.min(20));
        self.failures += 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let percent = u32::try_from(50 + self.random % 101).expect("at most 150");
        (doubled * percent / 100).min(policy.retry_max)
    }
}

impl Gateway {
    /// Flushes whenever the policy says so, until `stop` says true or its sender is gone. `seed` spreads the retries
    /// of several gateways.
    ///
    /// # Cancel safety
    /// A flush that has begun goes on to its end when the future is dropped.
    pub async fn run_flushes(self: Arc<Self>, mut stop: watch::Receiver<bool>, seed: u64) {
        let policy = self.config.flush;
        let mut visible = self.visible();
        let mut backoff = Backoff::new(seed);
        let mut state = FlushState::default();
        loop {
            let now_ms = self.components.clock.now_ms();
            state.hot = self.live.hot();
            state.pressed = self.upkeep.pressure.is_high(state.hot.bytes);
            self.upkeep.pressure.tell(state.hot.bytes);
            if let Some(reason) = due(&state, &policy, now_ms) {
                state.retry_at_ms = match self.flush(None).await {
                    Ok(reports) => {
                        tracing::debug!(gateway = %self.id, ?reason, tables = reports.len(), "flushed");
                        backoff.failures = 0;
                        None
                    }
                    Err(error) => {
                        let wait = backoff.failed(&policy);
                        tracing::warn!(gateway = %self.id, ?reason, %error, ?wait, "a flush failed");
                        Some(self.components.clock.now_ms() + millis(wait))
                    }
                };
                state.hot = self.live.hot();
            }
            let wait = until_next_look(&state, &policy, self.components.clock.now_ms());
            tokio::select! {
                // A sender that is gone wants nothing more either.
                _ = stop.wait_for(|stop| *stop) => return,
                () = pause(&mut visible, wait) => {}
            }
        }
    }

    /// Flushes everything, before the process ends: when this returns without an error, another machine can go on
    /// from the lake alone.
    ///
    /// # Errors
    /// As [`Gateway::flush`]; what was not flushed stays in the durable log.
    pub async fn drain(self: &Arc<Self>) -> Result<Vec<FlushReport>> {
        let mut reports = Vec::new();
        for _ in 0..DRAIN_ROUNDS_MAX {
            if self.live.hot().unflushed_deltas == 0 {
                break;
            }
            reports.extend(self.flush(None).await?);
        }
        Ok(reports)
    }
}

/// How long nothing can become due but by a push.
fn until_next_look(state: &FlushState, policy: &FlushPolicy, now_ms: u64) -> Duration {
    let at_ms = match (state.retry_at_ms, state.hot.unflushed_since_ms) {
        (Some(retry_at_ms), _) => retry_at_ms,
        (None, Some(since_ms)) => since_ms.saturating_add(millis(policy.age)),
        (None, None) => return LOOK_AT_LEAST,
    };
    Duration::from_millis(at_ms.saturating_sub(now_ms)).clamp(LOOK_AT_MOST, LOOK_AT_LEAST)
}

/// Waits for a push, at most `wait` long, and then a little more, so that many pushes make one look.
async fn pause(visible: &mut watch::Receiver<Seq>, wait: Duration) {
    match timeout(wait, visible.changed()).await {
        Ok(Ok(())) => drop(timeout(LOOK_AT_MOST, future::pending::<()>()).await),
        // The feed lives as long as the gateway; without it only the time passes.
        Ok(Err(_)) => drop(timeout(wait, future::pending::<()>()).await),
        Err(_) => {}
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000_000;

    fn waiting(deltas: u64, bytes: u64, waited_ms: u64) -> FlushState {
        let hot = HotSize {
            unflushed_deltas: deltas,
            unflushed_bytes: bytes,
            unflushed_since_ms: (deltas > 0).then_some(NOW_MS - waited_ms),
            ..HotSize::default()
        };
        FlushState {
            hot,
            ..FlushState::default()
        }
    }

    #[test]
    fn each_threshold_is_reached_at_its_value_and_not_below() {
        let policy = FlushPolicy::default();
        let why = |state: FlushState| due(&state, &policy, NOW_MS);
        assert_eq!(why(waiting(0, 0, 0)), None);
        assert_eq!(why(waiting(499_999, (64 << 20) - 1, 59_999)), None);
        assert_eq!(why(waiting(1, 64 << 20, 0)), Some(Reason::Bytes));
        assert_eq!(why(waiting(500_000, 1, 0)), Some(Reason::Rows));
        assert_eq!(why(waiting(1, 1, 60_000)), Some(Reason::Age));
        let ahead = FlushState {
            hot: HotSize {
                unflushed_since_ms: Some(NOW_MS + 5),
                ..waiting(1, 1, 0).hot
            },
            ..FlushState::default()
        };
        assert_eq!(why(ahead), None, "the wall clock was set back");
    }

    #[test]
    fn under_pressure_less_is_flushed_but_no_crumbs() {
        let policy = FlushPolicy::default();
        let pressed = |bytes, unflushed_bytes| {
            let mut state = waiting(1, unflushed_bytes, 0);
            state.hot.bytes = bytes;
            state.pressed = true;
            due(&state, &policy, NOW_MS)
        };
        assert_eq!(pressed(1 << 30, 8 << 20), Some(Reason::Pressure));
        assert_eq!(
            pressed(1 << 30, (8 << 20) - 1),
            None,
            "compaction is behind"
        );
        assert_eq!(pressed(1_000, 500), Some(Reason::Pressure), "small limits");
        assert_eq!(pressed(1_000, 499), None);
    }

    #[test]
    fn after_a_failure_only_the_retry_or_the_end_flushes() {
        let policy = FlushPolicy::default();
        let failed = FlushState {
            retry_at_ms: Some(NOW_MS),
            pressed: true,
            ..waiting(1, u64::MAX, 60_000)
        };
        assert_eq!(due(&failed, &policy, NOW_MS - 1), None);
        assert_eq!(due(&failed, &policy, NOW_MS), Some(Reason::Retry));
        let longest = NOW_MS - millis(policy.retry_max);
        assert_eq!(due(&failed, &policy, longest), None);
        assert_eq!(
            due(&failed, &policy, longest - 1),
            Some(Reason::Retry),
            "no wait is that long: the wall clock was set back"
        );
        let ending = FlushState {
            draining: true,
            ..failed
        };
        assert_eq!(due(&ending, &policy, 0), Some(Reason::Drain));
        let nothing = FlushState {
            draining: true,
            pressed: true,
            ..waiting(0, 0, 0)
        };
        assert_eq!(due(&nothing, &policy, NOW_MS), None);
    }

    #[test]
    fn waits_after_failures_double_stay_within_half_and_end_at_the_longest() {
        let policy = FlushPolicy::default();
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for nth in 0..40 {
                let middle = policy.retry_first * (1 << nth.min(20));
                let (low, high) = (middle / 2, middle * 3 / 2);
                let wait = backoff.failed(&policy);
                let (low, high) = (low.min(policy.retry_max), high.min(policy.retry_max));
                assert!((low..=high).contains(&wait), "seed {seed}, {nth}: {wait:?}");
            }
        }
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            [(); 4].map(|()| backoff.failed(&policy))
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8 << 8), "two gateways do not wait alike");
    }

    #[test]
    fn the_next_look_is_when_something_can_become_due() {
        let policy = FlushPolicy::default();
        let wait = |state: &FlushState| until_next_look(state, &policy, NOW_MS);
        assert_eq!(wait(&waiting(0, 0, 0)), LOOK_AT_LEAST);
        assert_eq!(wait(&waiting(1, 1, 57_000)), Duration::from_secs(3));
        assert_eq!(wait(&waiting(1, 1, 99_000)), LOOK_AT_MOST);
        let failed = FlushState {
            retry_at_ms: Some(NOW_MS + 2_000),
            ..waiting(1, 1, 99_000)
        };
        assert_eq!(wait(&failed), Duration::from_secs(2));
    }
}
