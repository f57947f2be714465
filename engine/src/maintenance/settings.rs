//! What maintenance is told, wherever it is asked for: the scheduler, `CALL`, `EXPLAIN CALL` and the commands.
//!
//! **Invariant:** there is one of these in a lake, so that what is explained is what runs.

use std::time::Duration;

use lakesync_compactor::expire::ExpiryPolicy;
use lakesync_compactor::strategy::MaintenancePolicy;
use lakesync_compactor::{CompactionConfig, Effort, LogRewriteOptions, ORPHAN_GRACE};

/// The settings of maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceSettings {
    /// Whether the scheduler runs at all (default true): without it only what is asked for is done.
    pub is_scheduled: bool,
    /// When what is due.
    pub policy: MaintenancePolicy,
    /// How a fold or a rewrite is run.
    pub compaction: CompactionConfig,
    /// How long snapshots are kept.
    pub expiry: ExpiryPolicy,
    /// How old a file that no snapshot reaches has to be before it is removed (default 3 days, 24 hours at least).
    pub orphan_grace: Duration,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self {
            is_scheduled: true,
            policy: MaintenancePolicy::default(),
            compaction: CompactionConfig::default(),
            expiry: ExpiryPolicy::default(),
            orphan_grace: ORPHAN_GRACE,
        }
    }
}

impl MaintenanceSettings {
    /// The settings with what a job and its strategy must agree on taken from one place: the size of files, and how much
    /// one run reads.
    #[must_use]
    pub fn agreed(mut self) -> Self {
        self.policy.rewrite.target_bytes = self.compaction.target_file_bytes;
        self.policy.rewrite.bytes_per_run = self.compaction.bytes_per_run;
        self
    }

    /// How a log is rewritten, with so much effort.
    #[must_use]
    pub fn log_rewrite(&self, effort: Effort) -> LogRewriteOptions {
        LogRewriteOptions {
            target_file_bytes: self.compaction.target_file_bytes,
            bytes_per_run: self.compaction.bytes_per_run,
            memory_bytes: self.compaction.memory_bytes,
            effort,
            ..LogRewriteOptions::default()
        }
    }
}
