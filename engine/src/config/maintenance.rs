//! `[compact]` and `[maintenance]` as the program uses them.
//!
//! **Invariant:** what a job and the strategy that asks for it must agree on is read once, for both.

use lakesync_compactor::expire::ExpiryPolicy;
use lakesync_compactor::strategy::{FoldPolicy, MaintenancePolicy, RewritePolicy};
use lakesync_compactor::{CompactionConfig, ORPHAN_GRACE_MIN, WriteMode};

use super::effective::Effective;
use super::error::ConfigError;
use super::settings::{number, time_or_none};
use crate::maintenance::MaintenanceSettings;

/// How tables are maintained.
pub(super) fn maintenance(effective: &Effective) -> Result<MaintenanceSettings, ConfigError> {
    let every = |path: &str| time_or_none(effective.get(path).0);
    let percent = |path: &str| match effective.count(path) {
        percent @ 1..=100 => Ok(percent),
        _ => Err(effective.wrong(path, "should be between 1 and 100")),
    };
    let rewrite_percent = percent("compact.rewrite_percent")?;
    let small_files =
        usize::try_from(number(effective, "compact.small_files")?).unwrap_or(usize::MAX);
    if small_files < 2 {
        return Err(effective.wrong("compact.small_files", "should be 2 or more"));
    }
    let settings = MaintenanceSettings {
        is_scheduled: effective.text("maintenance.scheduler") != Some("off"),
        policy: MaintenancePolicy {
            fold: FoldPolicy {
                when_bytes: effective.size("compact.when_bytes"),
                when_rows: effective.count("compact.when_rows"),
                when_files: effective.count("compact.when_files"),
                read_percent: percent("compact.read_percent")?,
                max_age: effective.time("compact.max_age"),
            },
            rewrite: RewritePolicy {
                every: every("maintenance.rewrite_every"),
                small_files_min: small_files,
                dead_percent: rewrite_percent,
                ..RewritePolicy::default()
            },
            expire_every: every("maintenance.expire_every"),
            orphans_every: every("maintenance.orphans_every"),
            compact_log_every: every("maintenance.compact_log_every"),
        },
        compaction: CompactionConfig {
            memory_bytes: effective.size("compact.memory"),
            mode: effective
                .text("compact.mode")
                .and_then(WriteMode::parse)
                .unwrap_or_default(),
            rewrite_percent: u8::try_from(rewrite_percent).unwrap_or(100),
            target_file_bytes: effective.size("compact.target_file").max(1),
            bytes_per_run: effective.size("compact.bytes_per_run"),
        },
        expiry: ExpiryPolicy {
            history: effective.time("maintenance.history"),
            base_all: effective.time("maintenance.keep_snapshots"),
            retain_last: usize::try_from(effective.count("maintenance.retain_last"))
                .unwrap_or(usize::MAX),
            ..ExpiryPolicy::default()
        },
        orphan_grace: effective.time("maintenance.orphans_older_than"),
    };
    if settings.orphan_grace < ORPHAN_GRACE_MIN {
        let reason = "should be 24 hours or more: a writer may still commit its files of today";
        return Err(effective.wrong("maintenance.orphans_older_than", reason));
    }
    Ok(settings.agreed())
}
