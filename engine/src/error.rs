//! What the engine answers when it does not do what it was asked.

use std::path::PathBuf;

use datafusion::error::DataFusionError;
use thiserror::Error;

use crate::directory::Holder;
use crate::syntax::SyntaxError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process owns the data directory.
    #[error("{path} is in use by {}", holder_text(holder.as_ref()))]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, when the lock file says so.
        holder: Option<Holder>,
    },
    /// The data directory cannot be used.
    #[error("{path}: {reason}")]
    Directory {
        /// The directory or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The SQL text cannot be read.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// The statement cannot be planned or run.
    #[error("{}", sentence(.0))]
    Query(#[source] Box<DataFusionError>),
    /// A procedure call is wrong.
    #[error("call {procedure}: {reason}")]
    Call {
        /// The procedure as written.
        procedure: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// There is no such gateway.
    #[error("there is no gateway `{name}` in this directory; it has: {known}")]
    UnknownGateway {
        /// The name that was asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// `CREATE TABLE … AS` made the table and could not fill it.
    #[error(
        "table `{table}` was made and stays, but its rows were not written: {source}; add them with INSERT INTO"
    )]
    NotFilled {
        /// The table.
        table: String,
        /// Why its rows are not there.
        source: Box<Error>,
    },
    /// An argument of a function or command is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The lake failed.
    #[error(transparent)]
    Lake(#[from] lakesync_providers::lake::LakeError),
    /// A gateway refused or failed.
    #[error(transparent)]
    Gateway(#[from] lakesync_gateway::Error),
    /// A compaction failed.
    #[error(transparent)]
    Compaction(#[from] lakesync_compactor::Error),
}

impl Error {
    /// Whether the statement or the arguments are at fault, not the lake.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        match self {
            Self::Query(error) => is_statements(error),
            Self::NotFilled { source, .. } => source.is_callers(),
            Self::Syntax(_)
            | Self::Call { .. }
            | Self::UnknownGateway { .. }
            | Self::Invalid(_) => true,
            Self::Gateway(error) => matches!(error, lakesync_gateway::Error::Refused(_)),
            Self::Compaction(error) => {
                use lakesync_compactor::Error as Compaction;
                matches!(
                    error,
                    Compaction::UnknownTable { .. }
                        | Compaction::Refused(_)
                        | Compaction::CannotExpire { .. }
                        | Compaction::CannotRollBack { .. }
                        | Compaction::Tag { .. }
                )
            }
            _ => false,
        }
    }
}

impl Error {
    /// Whether the same request may succeed in a moment: the gateway is busy, or its log cannot be written now.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        use lakesync_gateway::Error as Gateway;
        match self {
            Self::Query(error) => match error.find_root() {
                DataFusionError::External(inner) => matches!(
                    inner.downcast_ref(),
                    Some(lakesync_providers::WriteError::Unavailable { .. })
                ),
                _ => false,
            },
            Self::NotFilled { source, .. } => source.is_unavailable(),
            Self::Gateway(error) => matches!(
                error,
                Gateway::Busy { .. }
                    | Gateway::Storage { .. }
                    | Gateway::Poisoned { .. }
                    | Gateway::Closed { .. }
            ),
            _ => false,
        }
    }
}

impl Error {
    /// Whether the same request may succeed once somebody has freed space on the disk.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        match self {
            Self::Query(error) => match error.find_root() {
                DataFusionError::External(inner) => matches!(
                    inner.downcast_ref(),
                    Some(lakesync_providers::WriteError::StorageFull { .. })
                ),
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}

/// Whether the statement is at fault, not what it read or wrote.
fn is_statements(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Plan(_)
        | DataFusionError::SQL(..)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::Diagnostic(..) => true,
        DataFusionError::External(inner) => match inner.downcast_ref::<lakesync_providers::Error>()
        {
            Some(lakesync_providers::Error::Query(error)) => is_statements(error),
            Some(error) => matches!(
                error,
                lakesync_providers::Error::UnknownTable { .. }
                    | lakesync_providers::Error::UnknownSnapshot { .. }
                    | lakesync_providers::Error::UnknownRef { .. }
                    | lakesync_providers::Error::AmbiguousRef { .. }
                    | lakesync_providers::Error::NotYet { .. }
                    | lakesync_providers::Error::BelowHorizon { .. }
                    | lakesync_providers::Error::Argument { .. }
                    | lakesync_providers::Error::UnknownMetadata { .. }
                    | lakesync_providers::Error::ReadOnly { .. }
                    | lakesync_providers::Error::RowId { .. }
            ),
            None => matches!(
                inner.downcast_ref(),
                Some(lakesync_providers::WriteError::Refused { .. })
            ),
        },
        _ => false,
    }
}

fn holder_text(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder {
            pid,
            url: Some(url),
        }) => {
            format!("process {pid}, which serves it at {url}; use that server, or stop it")
        }
        Some(Holder { pid, url: None }) => format!(
            "process {pid}, which does not listen (yet): a server that is starting does in a moment, else wait for it to \
             end, or stop it"
        ),
        None => "another process; wait for it to end, or stop it".to_owned(),
    }
}

/// DataFusion wraps errors in the names of its layers; people read the sentence inside.
fn sentence(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::External(inner) => inner.to_string(),
        root => {
            let text = root.strip_backtrace();
            let hint = next_step(&text);
            text + hint
        }
    }
}

/// What to do about those of DataFusion's sentences that people meet first and that do not say it.
fn next_step(text: &str) -> &'static str {
    if text.contains("table '") && text.ends_with("not found") {
        "; `show tables` lists those that are there, and a name with capitals needs double quotes"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use lakesync_proto::{ColumnType, Hlc, Seq, TableName};
    use lakesync_providers::{Error as Table, Horizon};

    use super::*;

    #[test]
    fn only_what_the_statement_got_wrong_is_its_authors_fault() {
        let name = || TableName::parse("t").unwrap();
        let callers: [Table; 8] = [
            Table::UnknownTable {
                gateway: "public".to_owned(),
                table: "t".to_owned(),
            },
            Table::UnknownSnapshot {
                table: name(),
                snapshot: 7,
            },
            Table::BelowHorizon {
                table: name(),
                asked: "seq 7".to_owned(),
                horizon: Horizon {
                    seq: Seq::ZERO,
                    hlc: Hlc::ZERO,
                    committed_ms: 0,
                },
            },
            Table::UnknownRef {
                table: name(),
                name: "audit".to_owned(),
            },
            Table::AmbiguousRef {
                table: name(),
                name: "audit".to_owned(),
                base: Seq::ZERO,
                log: Seq::ZERO,
            },
            Table::NotYet {
                table: name(),
                asked: "seq 9".to_owned(),
                reached: "its gateway is at seq 8".to_owned(),
            },
            Table::ReadOnly {
                table: "t".to_owned(),
            },
            Table::RowId {
                reason: "too long".to_owned(),
            },
        ];
        let ours = [
            Table::BrokenDelta {
                table: name(),
                seq: 1,
                reason: "torn".to_owned(),
            },
            Table::ColumnType {
                expected: ColumnType::Long,
                actual: DataType::Utf8,
            },
        ];
        let wrapped = |error: Table| {
            let error = DataFusionError::from(error).context("while it ran");
            Error::from(DataFusionError::Shared(std::sync::Arc::new(error)))
        };
        for error in callers.map(wrapped) {
            assert!(error.is_callers(), "{error}");
        }
        for error in ours.map(wrapped) {
            assert!(!error.is_callers(), "{error}");
        }
        let disk = std::io::Error::other("disk full");
        let failed = Error::from(DataFusionError::External(Box::new(disk)));
        assert!(!failed.is_callers(), "{failed}");
        let inner = Table::Query(Box::new(DataFusionError::Plan("no such column".to_owned())));
        let nested = Error::from(DataFusionError::External(Box::new(inner)));
        assert!(nested.is_callers(), "{nested}");
    }
}
