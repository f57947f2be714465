//! The hybrid logical clock itself, and the wall clock it reads.
//!
//! Invariant: every value that [`HlcClock`] gives is greater than every value it gave or took before, whatever the
//! wall clock does. Time is an argument: nothing here reads a clock.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hlc::{Hlc, HlcError};
use crate::limits::DRIFT_MS;

/// A hybrid logical clock: stamps local writes and learns from remote stamps.
///
/// ```
/// use lakesync_proto::{Hlc, HlcClock};
/// let mut clock = HlcClock::new();
/// let first = clock.now(1_000)?;
/// let heard = clock.recv(Hlc::new(3_000, 7)?, 1_000)?;
/// assert_eq!(heard, Hlc::new(3_000, 8)?);
/// assert!(clock.now(500)? > heard && heard > first);
/// # Ok::<(), lakesync_proto::HlcError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A clock that has seen nothing.
    pub fn new() -> HlcClock {
        HlcClock::default()
    }

    /// A clock that goes on above `last`, which a restart reads from storage.
    pub fn starting_at(last: Hlc) -> HlcClock {
        HlcClock { last }
    }

    /// The greatest value given or taken so far.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// Stamps a local event at wall clock `physical_ms`, milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`HlcError::WallOutOfRange`] or [`HlcError::Exhausted`]; the clock is then unchanged.
    pub fn now(&mut self, physical_ms: u64) -> Result<Hlc, HlcError> {
        self.last = if physical_ms > self.last.wall_ms() {
            Hlc::new(physical_ms, 0)?
        } else {
            self.last.next()?
        };
        Ok(self.last)
    }

    /// Learns from a remote stamp and stamps its receipt.
    ///
    /// Old stamps always pass. The bound compares with the wall clock, not with the last stamp, so one client whose
    /// clock runs ahead cannot pull the others along.
    ///
    /// # Errors
    /// [`HlcError::Drift`] when `remote` is more than [`DRIFT_MS`] ahead of `physical_ms`; the clock is then unchanged.
    /// [`HlcError::WallOutOfRange`], [`HlcError::Exhausted`].
    pub fn recv(&mut self, remote: Hlc, physical_ms: u64) -> Result<Hlc, HlcError> {
        check_drift(remote, physical_ms)?;
        let wall_ms = physical_ms.max(self.last.wall_ms());
        let counter = match remote.wall_ms().cmp(&wall_ms) {
            std::cmp::Ordering::Greater => remote.counter(),
            std::cmp::Ordering::Equal => remote.counter().max(self.last.counter()),
            // The counter goes on even when the wall clock moved: legacy gateways do the same.
            std::cmp::Ordering::Less => self.last.counter(),
        };
        self.last = Hlc::new(wall_ms.max(remote.wall_ms()), counter)?.next()?;
        Ok(self.last)
    }
}

/// Refuses a stamp that is more than [`DRIFT_MS`] ahead of the wall clock `physical_ms`; exactly that much passes.
///
/// # Errors
/// [`HlcError::Drift`].
pub fn check_drift(remote: Hlc, physical_ms: u64) -> Result<(), HlcError> {
    let ahead_ms = remote.wall_ms().saturating_sub(physical_ms);
    if ahead_ms > DRIFT_MS {
        let limit_ms = DRIFT_MS;
        return Err(HlcError::Drift { ahead_ms, limit_ms });
    }
    Ok(())
}

/// The wall clock, as a component: the system's at the edges, a [`ManualClock`] in tests and simulation.
pub trait WallClock: Send + Sync + Debug {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// A wall clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn new(now_ms: u64) -> ManualClock {
        ManualClock(AtomicU64::new(now_ms))
    }

    /// Moves the clock to `now_ms`, backwards too.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the clock forward by `by_ms` and tells the new time.
    pub fn advance(&self, by_ms: u64) -> u64 {
        self.0.fetch_add(by_ms, Ordering::SeqCst) + by_ms
    }
}

impl WallClock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WALL_MS_MAX;

    fn hlc(wall_ms: u64, counter: u16) -> Hlc {
        Hlc::new(wall_ms, counter).unwrap()
    }

    #[test]
    fn the_first_tick_of_a_stopped_clock_counts() {
        assert_eq!(HlcClock::new().now(0), Ok(hlc(0, 1)));
        assert_eq!(HlcClock::new().now(5), Ok(hlc(5, 0)));
    }

    #[test]
    fn the_counter_overflows_into_the_wall_clock() {
        let mut clock = HlcClock::starting_at(hlc(9, u16::MAX));
        assert_eq!(clock.now(9), Ok(hlc(10, 0)));
        assert_eq!(clock.recv(hlc(10, u16::MAX), 9), Ok(hlc(11, 0)));
    }

    #[test]
    fn drift_of_exactly_the_limit_passes() {
        let mut clock = HlcClock::new();
        assert_eq!(clock.recv(hlc(15_000, 0), 10_000), Ok(hlc(15_000, 1)));
        let refused = clock.recv(hlc(15_001, 0), 10_000);
        assert_eq!(
            refused,
            Err(HlcError::Drift {
                ahead_ms: 5_001,
                limit_ms: 5_000
            })
        );
        assert_eq!(
            clock.last(),
            hlc(15_000, 1),
            "a refused stamp teaches nothing"
        );
    }

    #[test]
    fn the_bound_is_against_the_wall_clock_not_the_last_stamp() {
        let mut clock = HlcClock::starting_at(hlc(15_000, 0));
        assert!(clock.recv(hlc(15_001, 0), 10_000).is_err());
    }

    #[test]
    fn recv_takes_the_three_cases_of_the_contract() {
        let ahead = HlcClock::starting_at(hlc(10, 4)).recv(hlc(12, 7), 11);
        assert_eq!(ahead, Ok(hlc(12, 8)));
        let equal = HlcClock::starting_at(hlc(10, 4)).recv(hlc(10, 2), 9);
        assert_eq!(equal, Ok(hlc(10, 5)));
        let equal_to_wall = HlcClock::starting_at(hlc(10, 4)).recv(hlc(11, 9), 11);
        assert_eq!(equal_to_wall, Ok(hlc(11, 10)));
        let behind = HlcClock::starting_at(hlc(10, 4)).recv(hlc(1, 60_000), 11);
        assert_eq!(behind, Ok(hlc(11, 5)), "the counter is not reset");
    }

    #[test]
    fn an_impossible_wall_clock_is_refused() {
        let mut clock = HlcClock::new();
        let wall_ms = WALL_MS_MAX + 1;
        assert_eq!(
            clock.now(wall_ms),
            Err(HlcError::WallOutOfRange { wall_ms })
        );
        assert_eq!(
            clock.recv(Hlc::ZERO, wall_ms),
            Err(HlcError::WallOutOfRange { wall_ms })
        );
        assert_eq!(clock.last(), Hlc::ZERO);
        assert_eq!(
            HlcClock::starting_at(Hlc::MAX).now(1),
            Err(HlcError::Exhausted)
        );
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::new(5);
        assert_eq!(
            (clock.now_ms(), clock.advance(10), clock.now_ms()),
            (5, 15, 15)
        );
        clock.set(1);
        assert_eq!(clock.now_ms(), 1);
    }
}
