//! Intervals with jitter, and waits after failures.
//!
//! ```text
//!   begun ──0…10 %──► first ──90…110 %──► second ──…        failed ──10 s──► retry ──20 s──► … 30 min at most
//! ```
//! **Invariant:** no wait is longer than its longest, whatever the wall clock does: one that would be is over, because the
//! clock was set back.

use std::time::Duration;

use super::job::JobKind;
use super::state::{Ran, TableState};

/// The wait after a job's first failure; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(30 * 60);

/// How long to wait after the `failures`-th failure in a row (1 is the first).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(RETRY_MAX)
}

/// Whether a job that runs every `every` may run at `now_ms`: after its last run (`ran`), or since somebody began to
/// look (`begun`: milliseconds since 1970, and what spreads the intervals of several jobs).
#[must_use]
pub fn interval_is_over(
    ran: Option<&Ran>,
    (begun_ms, seed): (u64, u64),
    every: Duration,
    now_ms: u64,
) -> bool {
    let every_ms = millis(every);
    let per_mille = |least: u64, spread: u64, since_ms: u64| {
        let share = least + mixed(seed ^ since_ms) % (spread + 1);
        every_ms.saturating_mul(share) / 1_000
    };
    match ran {
        None => is_past(begun_ms, per_mille(0, 100, begun_ms), now_ms),
        Some(ran) if ran.failures > 0 => {
            // A failure may come back sooner than the interval, never in a tight loop.
            is_past(ran.ended_ms, millis(backoff(ran.failures)), now_ms)
        }
        Some(ran) => is_past(ran.ended_ms, per_mille(900, 200, ran.ended_ms), now_ms),
    }
}

/// Whether a kind of job without an interval waits for its retry.
pub(super) fn is_held_back(state: &TableState, kind: JobKind, now_ms: u64) -> bool {
    let failed = state.ran.get(&kind).filter(|ran| ran.failures > 0);
    failed.is_some_and(|ran| !is_past(ran.ended_ms, millis(backoff(ran.failures)), now_ms))
}

fn is_past(since_ms: u64, wait_ms: u64, now_ms: u64) -> bool {
    let left_ms = since_ms.saturating_add(wait_ms).saturating_sub(now_ms);
    left_ms == 0 || left_ms > wait_ms
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Bits that look like chance (the finalizer of splitmix64).
pub(super) fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
