//! The machine's wall clock: the one place of the client that reads it.
//!
//! Invariant: what it shows is what the machine shows, also when that is wrong; the session learns how wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use lakesync_proto::WallClock;

/// The machine's wall clock, in milliseconds since 1970; a clock set before that reads as 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now_ms(&self) -> u64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the file that the clock is read in"
        )]
        let now = SystemTime::now();
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }
}
