//! What can stop a compaction. In every case the table reads as before and the job can run again.

use datafusion::error::DataFusionError;
use lakesync_providers::lake::{CommitError, CommitErrorKind, LakeError};
use lakesync_providers::proto::{Seq, TableName};
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such table.
    #[error("table `{table}` does not exist in `{gateway}`; `show tables` lists those that do")]
    UnknownTable {
        /// The gateway that was asked.
        gateway: String,
        /// The name that was asked for.
        table: String,
    },
    /// A view could not be read.
    #[error(transparent)]
    Read(#[from] lakesync_providers::Error),
    /// The fold's plan could not be made or run.
    #[error("folding failed: {0}")]
    Fold(#[from] Box<DataFusionError>),
    /// New files could not be written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Another program moved the base back, below deltas that this process has let go of.
    #[error(
        "the base of `{table}` was rolled back from seq {from} to seq {to} by another program; restart LakeSync, which then \
         reads the deltas between from the log"
    )]
    RolledBack {
        /// The table.
        table: TableName,
        /// The base seq that this process reads at.
        from: Seq,
        /// The base seq in the catalog.
        to: Seq,
    },
    /// A snapshot has to stay.
    #[error("snapshot {snapshot} of `{table}` cannot be expired: {reason}")]
    CannotExpire {
        /// The Iceberg table.
        table: String,
        /// The snapshot.
        snapshot: i64,
        /// Why, and what to do.
        reason: String,
    },
    /// A table cannot go back to that moment.
    #[error("`{table}` cannot be rolled back to {to}: {reason}")]
    CannotRollBack {
        /// The table.
        table: TableName,
        /// The snapshot or time.
        to: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A tag cannot be made or dropped.
    #[error("tag `{name}` of `{table}`: {reason}")]
    Tag {
        /// The table.
        table: TableName,
        /// The tag.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// What was asked for cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The store refused to delete files that nothing needs.
    #[error(
        "table `{table}`: {count} files that nothing needs could not be deleted, the first is {file}: {reason}; the others \
         are gone, run it again"
    )]
    LeftBehind {
        /// The table.
        table: String,
        /// How many files are left.
        count: usize,
        /// One of them.
        file: String,
        /// What the store said.
        reason: String,
    },
    /// The rewrite could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Error {
    /// Whether another process has taken over the gateway.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Commit(error) | Self::Lake(LakeError::Commit(error)) => {
                error.kind() == CommitErrorKind::Fenced
            }
            _ => false,
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Fold(Box::new(error))
    }
}
