//! What a table is like, as far as the strategy looks at it.
//!
//! **Invariant:** plain data: it can be made by hand, and two equal states have equal jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::job::JobKind;
use super::timing::mixed;

/// What is flushed and not in the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// In deltas.
    pub rows: u64,
    /// In bytes of memory.
    pub bytes: u64,
    /// The log files that hold them.
    pub files: u64,
    /// Since when there is some, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

/// One data file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// Its URI.
    pub path: Arc<str>,
    /// Its size.
    pub bytes: u64,
    /// Its rows, dead ones too.
    pub rows: u64,
    /// Those that a delete file takes away.
    pub dead_rows: u64,
    /// The number of its partition among those of the set.
    pub partition: u32,
    /// Whether its rows are in the table's order; true when the table has none.
    pub is_ordered: bool,
    /// The ranks of its least and greatest value of the first column that the table is sorted by, among all such values;
    /// none when the table is not sorted or the bounds are not known.
    pub range: Option<(u32, u32)>,
}

/// The manifests of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// How many there are.
    pub count: u64,
    /// How many of them a rewrite would put others in the place of.
    pub mergeable: u64,
}

/// What is due of a log's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogDue {
    /// Files that would be put together.
    pub files: u64,
    /// Their sizes.
    pub bytes: u64,
    /// Their deltas.
    pub rows: u64,
}

/// The files of one side of a table at one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSet {
    /// Its data files.
    pub files: Vec<FileState>,
    /// Its delete files.
    pub delete_files: u64,
    /// Its manifests.
    pub manifests: Manifests,
    /// The snapshots of the table.
    pub snapshots: u64,
}

/// How the last run of a kind of job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// When, in milliseconds since 1970.
    pub ended_ms: u64,
    /// How many runs in a row have failed; 0 after a success.
    pub failures: u32,
}

/// What the strategy looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// Whether somebody has said that nothing is to be done.
    pub is_paused: bool,
    /// Whether memory is so short that everything that can be folded should be.
    pub is_pressed: bool,
    /// What waits for a fold.
    pub waiting: Waiting,
    /// The base.
    pub base: Arc<FileSet>,
    /// The log.
    pub log: Arc<FileSet>,
    /// What of the log's files is due, by the plan of its rewrite.
    pub log_due: LogDue,
    /// Since when the table is looked after, in milliseconds since 1970.
    pub begun_ms: u64,
    /// Spreads the intervals of several tables.
    pub seed: u64,
    /// How the last runs ended.
    pub ran: BTreeMap<JobKind, Ran>,
}

impl TableState {
    /// Spreads the intervals of one table's kinds of jobs.
    pub(super) fn seed(&self, kind: JobKind) -> u64 {
        mixed(self.seed ^ mixed(kind as u64 + 1))
    }
}
