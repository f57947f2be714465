//! Whether the wall clock can be believed: it is watched beside one that nobody can set.
//!
//! **Invariant:** after a jump no push is taken until the wall clock is back, or has run evenly for a while: stamps
//! admitted by a clock that jumped ahead would win over everybody's writes for as long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lakesync_proto::ErrorCode;

use crate::error::Refusal;

/// How long the wall clock has to run evenly, in milliseconds, before a jump is taken for a correction.
const SETTLING_MS: u64 = 60_000;
/// How far, in milliseconds, an even clock may drift in that time.
const EVEN_MS: u64 = 1_000;

/// What is known of the wall clock's pace.
#[derive(Debug)]
pub(crate) struct Steady {
    jump_ms: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Nothing has been read yet.
    New,
    /// The wall clock is ahead of the monotonic one by about so many milliseconds.
    Even(i128),
    /// It jumped from the first distance to the second one, at a monotonic time.
    Jumped(i128, i128, u64),
}

impl Steady {
    /// A watch that calls a step of more than `jump` a jump.
    pub(crate) fn new(jump: Duration) -> Self {
        Self {
            jump_ms: u64::try_from(jump.as_millis()).unwrap_or(u64::MAX),
            state: Mutex::new(State::New),
        }
    }

    /// Takes a reading of both clocks, in milliseconds.
    ///
    /// # Errors
    /// A refusal to be answered with 503 while the wall clock has jumped.
    pub(crate) fn check(&self, wall_ms: u64, monotonic_ms: u64) -> Result<(), Refusal> {
        let ahead = i128::from(wall_ms) - i128::from(monotonic_ms);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let far = |a: i128, b: i128, limit_ms| (a - b).unsigned_abs() > u128::from(limit_ms);
        let (next, jumped_by) = match *state {
            State::New => (State::Even(ahead), None),
            // Slow drift, and small corrections, are followed.
            State::Even(usual) if !far(ahead, usual, self.jump_ms) => (State::Even(ahead), None),
            State::Even(usual) => (
                State::Jumped(usual, ahead, monotonic_ms),
                Some(ahead - usual),
            ),
            State::Jumped(usual, ..) if !far(ahead, usual, self.jump_ms) => {
                (State::Even(ahead), None)
            }
            State::Jumped(usual, to, _) if far(ahead, to, EVEN_MS) => (
                State::Jumped(usual, ahead, monotonic_ms),
                Some(ahead - usual),
            ),
            State::Jumped(_, _, since) if monotonic_ms.saturating_sub(since) >= SETTLING_MS => {
                (State::Even(ahead), None)
            }
            State::Jumped(usual, to, since) => (State::Jumped(usual, to, since), Some(to - usual)),
        };
        *state = next;
        match jumped_by {
            None => Ok(()),
            Some(by) => Err(Refusal::new(
                ErrorCode::BackpressureError,
                format!(
                    "the gateway's wall clock jumped by {by} ms; pushes are taken again when it is back, or after it \
                     has run evenly for {} s",
                    SETTLING_MS / 1000
                ),
            )
            .with("retryAfterMs", SETTLING_MS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_700_000_000_000;

    #[test]
    fn an_even_clock_and_small_corrections_pass() {
        let steady = Steady::new(Duration::from_secs(10));
        for (wall, monotonic) in [(0, 0), (9_000, 1_000), (12_000, 2_000), (3_000, 3_000)] {
            assert_eq!(steady.check(T + wall, monotonic), Ok(()), "{wall}");
        }
    }

    #[test]
    fn a_jump_refuses_until_the_clock_is_back() {
        for jump in [11_000_i64, -11_000] {
            let steady = Steady::new(Duration::from_secs(10));
            assert!(steady.check(T, 0).is_ok());
            assert!(steady.check(T.saturating_add_signed(jump), 0).is_err());
            assert!(
                steady
                    .check(T.saturating_add_signed(jump) + 59_000, 59_000)
                    .is_err()
            );
            assert!(steady.check(T + 59_500, 59_500).is_ok());
        }
    }

    #[test]
    fn a_jump_that_stays_is_a_correction_and_one_that_goes_on_is_not() {
        let steady = Steady::new(Duration::from_secs(10));
        assert!(steady.check(T, 0).is_ok());
        assert!(steady.check(T + 3_600_000, 1).is_err());
        assert!(steady.check(T + 3_600_000 + 40_000, 40_000).is_err());
        assert!(
            steady.check(T + 7_200_000 + 59_000, 59_000).is_err(),
            "it jumped again"
        );
        assert!(steady.check(T + 7_200_000 + 61_000, 61_000).is_err());
        assert!(steady.check(T + 7_200_000 + 119_000, 119_000).is_ok());
        assert!(steady.check(T + 7_200_000 + 119_001, 119_001).is_ok());
    }
}
