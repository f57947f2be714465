//! How long what is kept, as plain data.

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How the tags begin that keep one base snapshot a day: `daily-2026-01-31`. Expiry makes and drops them.
pub const DAILY: &str = "daily-";

/// How long the snapshots of a table are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryPolicy {
    /// How far back time travel is exact (default 90 days): one base snapshot a day is kept for it, and the log above the
    /// oldest of them. Longer keeps more of the log and of replaced base files.
    pub history: Duration,
    /// How long all base snapshots are kept (default 1 day). Each may hold the files of a whole base.
    pub base_all: Duration,
    /// How many of those, the newest, at most (default 1,000): a busy table folds often, and every commit writes the list.
    pub base_all_max: usize,
    /// How long all log snapshots are kept (default 1 hour). Later ones hold the same deltas; an older id can no longer be
    /// travelled to by its number, its seq can.
    pub log_all: Duration,
    /// How many of those, the newest, at most (default 1,000).
    pub log_all_max: usize,
    /// How many snapshots before the current one are kept whatever their age (default 0).
    pub retain_last: usize,
}

impl Default for ExpiryPolicy {
    fn default() -> Self {
        Self {
            history: 90 * DAY,
            base_all: DAY,
            base_all_max: 1_000,
            log_all: HOUR,
            log_all_max: 1_000,
            retain_last: 0,
        }
    }
}
