//! What is counted of a gateway's maintenance, whoever runs and whoever shows it.
//!
//! **Invariant:** kinds are the program's own words and tables are those of the gateway, so it stays small; counting never
//! fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakesync_proto::TableName;

use crate::stats::LastError;

/// The counts of one kind of job since the gateway was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// Runs that ended well, those that found nothing to do among them.
    pub runs: u64,
    /// Runs that failed.
    pub failures: u64,
    /// How long all of them took, in milliseconds.
    pub took_ms: u64,
    /// Rows that were written or dropped.
    pub rows: u64,
    /// Bytes that were written or freed.
    pub bytes: u64,
    /// Files that were written or removed.
    pub files: u64,
    /// When a run ended well last, in milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// What the last run failed with, as long as none has ended well since.
    pub error: Option<LastError>,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Did {
    /// Rows that were written or dropped.
    pub rows: u64,
    /// Bytes that were written or freed.
    pub bytes: u64,
    /// Files that were written or removed.
    pub files: u64,
}

/// What a table has in the lake, as somebody looked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LakeSize {
    /// Data files of the base.
    pub base_files: u64,
    /// Their sizes.
    pub base_bytes: u64,
    /// Rows of them that delete files take away.
    pub dead_rows: u64,
    /// Delete files of the base.
    pub delete_files: u64,
    /// Files of the log.
    pub log_files: u64,
    /// Their sizes.
    pub log_bytes: u64,
    /// Manifests of both.
    pub manifests: u64,
    /// Snapshots of both.
    pub snapshots: u64,
}

impl LakeSize {
    fn plus(self, other: Self) -> Self {
        Self {
            base_files: self.base_files + other.base_files,
            base_bytes: self.base_bytes + other.base_bytes,
            dead_rows: self.dead_rows + other.dead_rows,
            delete_files: self.delete_files + other.delete_files,
            log_files: self.log_files + other.log_files,
            log_bytes: self.log_bytes + other.log_bytes,
            manifests: self.manifests + other.manifests,
            snapshots: self.snapshots + other.snapshots,
        }
    }
}

/// The maintenance of one gateway.
#[derive(Debug, Default)]
pub struct MaintenanceStats(Mutex<MaintenanceSnapshot>);

/// [`MaintenanceStats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceSnapshot {
    /// The counts by kind of job.
    pub kinds: BTreeMap<&'static str, KindCounts>,
    /// What each table has in the lake.
    pub tables: BTreeMap<TableName, LakeSize>,
    /// What runs now, kind and table, since when in milliseconds since 1970.
    pub running: BTreeMap<(&'static str, String), u64>,
    /// The tables that nothing is done to until somebody resumes it.
    pub paused: BTreeSet<TableName>,
}

impl MaintenanceSnapshot {
    /// What all tables have together.
    #[must_use]
    pub fn size(&self) -> LakeSize {
        let sizes = self.tables.values().copied();
        sizes.fold(LakeSize::default(), LakeSize::plus)
    }
}

impl MaintenanceStats {
    /// A job on a table, or on the gateway itself by its name, has begun, at `now_ms` (milliseconds since 1970).
    pub fn began(&self, kind: &'static str, table: &str, now_ms: u64) {
        let mut held = self.lock();
        held.running.insert((kind, table.to_owned()), now_ms);
    }

    /// A job has ended well.
    pub fn done(&self, (kind, table): (&'static str, &str), did: Did, took: Duration, now_ms: u64) {
        let mut held = self.lock();
        held.running.remove(&(kind, table.to_owned()));
        let counts = held.kinds.entry(kind).or_default();
        counts.runs += 1;
        counts.took_ms += millis(took);
        counts.rows += did.rows;
        counts.bytes += did.bytes;
        counts.files += did.files;
        counts.last_success_ms = Some(now_ms);
        counts.error = None;
    }

    /// A job has failed.
    pub fn failed(
        &self,
        (kind, table): (&'static str, &str),
        error: &str,
        took: Duration,
        now_ms: u64,
    ) {
        let mut held = self.lock();
        held.running.remove(&(kind, table.to_owned()));
        let counts = held.kinds.entry(kind).or_default();
        counts.failures += 1;
        counts.took_ms += millis(took);
        counts.error = Some(LastError {
            at_ms: now_ms,
            text: format!("{table}: {error}"),
        });
    }

    /// Somebody has looked at a table's files.
    pub fn looked_at(&self, table: &TableName, size: LakeSize) {
        self.lock().tables.insert(table.clone(), size);
    }

    /// These tables are paused, and no others.
    pub fn set_paused(&self, paused: BTreeSet<TableName>) {
        self.lock().paused = paused;
    }

    /// The tables that are paused.
    #[must_use]
    pub fn paused(&self) -> BTreeSet<TableName> {
        self.lock().paused.clone()
    }

    /// The counts now.
    #[must_use]
    pub fn snapshot(&self) -> MaintenanceSnapshot {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, MaintenanceSnapshot> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
