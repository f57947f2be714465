//! A job: what is to be done to a table, and why.
//!
//! **Invariant:** the word of a kind is the name of the procedure that does the same when a person asks for it.

use std::fmt;

/// A kind of maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// The flushed log into the base.
    Fold,
    /// Base files into fewer, larger, ordered ones without dead rows.
    RewriteBase,
    /// Log files into fewer, larger ones.
    RewriteLog,
    /// Manifests into fewer ones.
    RewriteManifests,
    /// Snapshots that the history window does not keep.
    Expire,
    /// Deltas of the log that nothing can need any more.
    DropLog,
    /// Files that no snapshot reaches.
    RemoveOrphans,
    /// Accepted pushes in a gateway's database that the lake has and no pull needs.
    CompactLog,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Fold,
        Self::RewriteBase,
        Self::RewriteLog,
        Self::RewriteManifests,
        Self::Expire,
        Self::DropLog,
        Self::RemoveOrphans,
        Self::CompactLog,
    ];

    /// The word that metrics, logs and answers use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fold => "compact",
            Self::RewriteBase => "rewrite_data_files",
            Self::RewriteLog => "rewrite_log",
            Self::RewriteManifests => "rewrite_manifests",
            Self::Expire => "expire_snapshots",
            Self::DropLog => "drop_log",
            Self::RemoveOrphans => "remove_orphan_files",
            Self::CompactLog => "compact_log",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a job is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Memory is short.
    Pressure,
    /// Enough bytes wait.
    Bytes,
    /// Enough deltas wait.
    Rows,
    /// Enough log files wait.
    Files,
    /// Every read pays too much for what waits.
    ReadCost,
    /// Something has waited long enough.
    Age,
    /// There are many small files.
    Small,
    /// Files have many dead rows.
    Dead,
    /// Files are not in the table's order.
    Ragged,
    /// There are many more manifests than their bytes need.
    Manifests,
    /// Its interval has passed.
    Interval,
    /// Somebody wants it.
    Asked,
}

impl Reason {
    /// The word that logs and answers use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pressure => "memory is short",
            Self::Bytes => "bytes wait",
            Self::Rows => "deltas wait",
            Self::Files => "log files wait",
            Self::ReadCost => "reads pay for it",
            Self::Age => "something waits for long",
            Self::Small => "small files",
            Self::Dead => "dead rows",
            Self::Ragged => "files out of order",
            Self::Manifests => "many manifests",
            Self::Interval => "interval",
            Self::Asked => "asked for",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Files that are to be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChoice {
    /// Their places in the [`FileSet`](super::FileSet), ascending.
    pub files: Vec<usize>,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Why most of all.
    pub reason: Reason,
}

/// What is to be done to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Fold the flushed log into the base.
    Fold(Reason),
    /// Rewrite these files of the base.
    RewriteBase(FileChoice),
    /// Rewrite files of the log, as its own plan says.
    RewriteLog,
    /// Rewrite the manifests of base and log.
    RewriteManifests,
    /// Expire snapshots.
    Expire,
    /// Drop deltas of the log.
    DropLog,
    /// Remove files that no snapshot reaches.
    RemoveOrphans,
}

impl Job {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Fold(_) => JobKind::Fold,
            Self::RewriteBase(_) => JobKind::RewriteBase,
            Self::RewriteLog => JobKind::RewriteLog,
            Self::RewriteManifests => JobKind::RewriteManifests,
            Self::Expire => JobKind::Expire,
            Self::DropLog => JobKind::DropLog,
            Self::RemoveOrphans => JobKind::RemoveOrphans,
        }
    }

    /// Why it is due.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Fold(reason) => *reason,
            Self::RewriteBase(choice) => choice.reason,
            Self::RewriteLog => Reason::Small,
            Self::RewriteManifests => Reason::Manifests,
            Self::Expire | Self::DropLog | Self::RemoveOrphans => Reason::Interval,
        }
    }
}
