//! What can stop a compaction. In every case the table reads as before and the job can run again.

use datafusion::error::DataFusionError;
use lakesync_providers::lake::{CommitError, LakeError};
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
    /// The rewrite could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Fold(Box::new(error))
    }
}
