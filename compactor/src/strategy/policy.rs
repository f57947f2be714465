//! When maintenance is due, as plain data.
//!
//! **Invariant:** every default is here, and says what less and more of it costs.

use std::time::Duration;

/// When a table is folded: as soon as one of these is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldPolicy {
    /// Bytes of memory that are flushed and not in the base (default 64 MiB). Fewer writes the base more often than the
    /// changes are worth; more is memory, and every query folds it.
    pub when_bytes: u64,
    /// Deltas that are flushed and not in the base (default 250,000); as with `when_bytes`.
    pub when_rows: u64,
    /// Log files that hold such deltas (default 500): every start, late delta and look at the past opens them.
    pub when_files: u64,
    /// Deltas that are flushed and not in the base, in per cent of the base's rows (default 20), once there are
    /// [`FoldPolicy::READ_ROWS_MIN`]: a full scan pays about as much more. Fewer writes the base more often; more slows
    /// every query.
    pub read_percent: u64,
    /// How long flushed deltas may wait, however few (default 1 h). Shorter writes the base for a few rows; longer
    /// lets readers of the base lag.
    pub max_age: Duration,
}

impl FoldPolicy {
    /// Fewer deltas than these cost no read enough to fold for: they are folded within milliseconds.
    pub const READ_ROWS_MIN: u64 = 50_000;
}

impl Default for FoldPolicy {
    fn default() -> Self {
        Self {
            when_bytes: 64 << 20,
            when_rows: 250_000,
            when_files: 500,
            read_percent: 20,
            max_age: Duration::from_secs(60 * 60),
        }
    }
}

/// Which files are written anew, and how much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewritePolicy {
    /// The shortest time between two rewrites of a kind (default 10 min); none never rewrites by itself.
    pub every: Option<Duration>,
    /// The size that files should have, in bytes (default 512 MiB); those below a quarter of it are small.
    pub target_bytes: u64,
    /// How many small files of like size make a rewrite worth it (default 8): each byte is written about once for each
    /// power of it between a file's first size and the target. Fewer writes more often; more leaves more files to open.
    pub small_files_min: usize,
    /// The share of dead rows from which a file is written anew, in per cent (default 30). Less writes more; more lets
    /// every scan decode rows that are not there.
    pub dead_percent: u64,
    /// How many files of a sorted table may cover one value before they are sorted together (default 8).
    pub depth_max: usize,
    /// How many manifests that can be put together make it worth it (default 50): every plan of a query opens all of them.
    pub manifests_min: u64,
    /// What one job may read, in bytes (default 16 GiB); what is left is done in the next.
    pub bytes_per_run: u64,
}

impl Default for RewritePolicy {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_secs(10 * 60)),
            target_bytes: 512 << 20,
            small_files_min: 8,
            dead_percent: 30,
            depth_max: 8,
            manifests_min: 50,
            bytes_per_run: 16 << 30,
        }
    }
}

/// When each kind of maintenance is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaintenancePolicy {
    /// When the log is folded into the base.
    pub fold: FoldPolicy,
    /// When files and manifests are written anew.
    pub rewrite: RewritePolicy,
    /// How often snapshots are expired and the deltas dropped that nothing needs any more (default 1 h); none never
    /// does.
    pub expire_every: Option<Duration>,
    /// How often files that no snapshot reaches are looked for (default 1 day): it lists every file of the table; none
    /// never does.
    pub orphans_every: Option<Duration>,
    /// How often the gateway's database lets go of pushes that the lake has and no pull needs (default 1 h); none
    /// never does.
    pub compact_log_every: Option<Duration>,
}

impl Default for MaintenancePolicy {
    fn default() -> Self {
        Self {
            fold: FoldPolicy::default(),
            rewrite: RewritePolicy::default(),
            expire_every: Some(Duration::from_secs(60 * 60)),
            orphans_every: Some(Duration::from_secs(24 * 60 * 60)),
            compact_log_every: Some(Duration::from_secs(60 * 60)),
        }
    }
}
