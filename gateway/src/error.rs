//! What a gateway answers when it does not do what it was asked.

use std::path::PathBuf;

use lakesync_proto::{DecodeError, ErrorCode, GatewayId};
use lakesync_providers::lake::{CommitError, LakeError};
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that is at fault: nothing of it was stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// The stable code of the wire.
    pub code: ErrorCode,
    /// What was wrong, where, and what to do.
    pub message: String,
    /// The delta at fault, by its place in the batch.
    pub index: Option<usize>,
    /// More fields of the answer's body, such as `checkpoint` of an expired cursor or `skewMs` of a wrong clock.
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            index: None,
            details: serde_json::Map::new(),
        }
    }

    pub(crate) fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            index: error.delta(),
            details: serde_json::Map::new(),
        }
    }
}

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many pushes are waiting; nothing was stored, come back in a second.
    #[error("gateway `{gateway}` has {waiting} pushes waiting; send again in a second")]
    Busy {
        /// The gateway.
        gateway: GatewayId,
        /// How many pushes wait.
        waiting: usize,
    },
    /// The gateway takes nothing more: a commit failed and what is on disk is unknown, or another process took
    /// over.
    #[error("gateway `{gateway}` takes nothing more: {reason}")]
    Poisoned {
        /// The gateway.
        gateway: GatewayId,
        /// What happened and what to do.
        reason: String,
    },
    /// The durable log could not take a group of pushes; it was rolled back, nothing of it is stored.
    #[error(
        "the durable log of `{gateway}` could not be written ({reason}); nothing was stored, send again"
    )]
    Storage {
        /// The gateway.
        gateway: GatewayId,
        /// What failed.
        reason: String,
    },
    /// The gateway is shutting down.
    #[error("gateway `{gateway}` is closed")]
    Closed {
        /// The gateway.
        gateway: GatewayId,
    },
    /// A flush, schema change or compaction ended before it was done; it can be asked for again.
    #[error("maintenance of `{gateway}` ended early ({reason}); nothing is lost, ask again")]
    Maintenance {
        /// The gateway.
        gateway: GatewayId,
        /// What ended it.
        reason: String,
    },
    /// The gateway's database cannot be used.
    #[error("{path}: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// What the catalog says of the gateway cannot be read.
    #[error("gateway `{gateway}`: {reason}; restore catalog.db from a copy")]
    Catalog {
        /// The gateway.
        gateway: GatewayId,
        /// What is wrong.
        reason: String,
    },
    /// The lake failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A commit to the lake failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A table could not be read.
    #[error(transparent)]
    Read(#[from] lakesync_providers::Error),
}
