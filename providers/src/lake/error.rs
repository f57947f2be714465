//! What can go wrong in the lake. Every error names the table or path and says what to do next;
//! [`CommitError`] is separate because its kinds decide whether a commit may be repeated.

use std::error::Error as StdError;
use std::fmt;

/// A boxed cause that may cross threads.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of the lake: catalog, files, schemas.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakeError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("catalog {path}: cannot {action}: {source}")]
    Catalog {
        /// What was tried.
        action: &'static str,
        /// The catalog's file.
        path: String,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The catalog was written by a newer program.
    #[error(
        "catalog {path} has format version {found}, and this program knows versions up to \
         {supported}: open it with a newer lakesync"
    )]
    NewerFormat {
        /// The catalog's file.
        path: String,
        /// The version found.
        found: i64,
        /// The newest version this program knows.
        supported: i64,
    },
    /// A table, namespace or snapshot is not there.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// "table", "gateway", "snapshot" …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error("{what} {name} already exists: {advice}")]
    AlreadyExists {
        /// "table" …
        what: &'static str,
        /// Its name.
        name: String,
        /// What to do.
        advice: String,
    },
    /// The caller asked for something the table cannot take.
    #[error("table {table}: {reason}")]
    Invalid {
        /// The table.
        table: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// What is stored contradicts itself or cannot be read.
    #[error("table {table} is damaged: {reason}")]
    Corrupt {
        /// The table.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// A namespace property was not what a compare-and-set expected.
    #[error(
        "gateway {namespace}: property {key} is {found:?} where {expected:?} was expected: another \
         process changed it; read it again"
    )]
    NamespaceChanged {
        /// The namespace.
        namespace: String,
        /// The property.
        key: String,
        /// What was expected (`None`: absent).
        expected: Option<String>,
        /// What was found (`None`: absent).
        found: Option<String>,
    },
    /// Iceberg or Parquet refused.
    #[error("{name}: cannot {action}: {source}")]
    Iceberg {
        /// What was tried.
        action: &'static str,
        /// Table, namespace or path.
        name: String,
        /// The cause.
        source: Box<iceberg::Error>,
    },
    /// The input of a write failed.
    #[error("table {table}: the rows to write could not be read: {source}")]
    Input {
        /// The table.
        table: String,
        /// The cause.
        source: BoxError,
    },
    /// The catalog is gone, and what it pointed to is not.
    #[error(
        "{catalog} is missing, but {found} is not empty: without its catalog nothing in there can be read. Restore \
         catalog.db (with catalog.db-wal, where there is one) from a copy, or move the whole directory away to begin anew"
    )]
    CatalogLost {
        /// Where the catalog should be.
        catalog: String,
        /// The folder that has something in it.
        found: String,
    },
    /// Another program changed a table's rows.
    #[error(transparent)]
    Foreign(#[from] ForeignSnapshot),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A snapshot that another program put on top of ours, and that is more than the same rows in other files.
///
/// Its rows are no deltas: clients would never hear of them, and the next compaction would undo or double them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {table}: another program committed snapshot {snapshot} ({operation}) to it, which LakeSync cannot take over. \
     {below}; rows for it are written through LakeSync (SQL or push)"
)]
pub struct ForeignSnapshot {
    /// The table.
    pub table: String,
    /// The newest snapshot of that kind.
    pub snapshot: i64,
    /// What it did, in Iceberg's word.
    pub operation: String,
    /// What it stands on, which says how to undo it.
    pub below: Below,
}

/// What a foreign snapshot stands on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Below {
    /// The newest snapshot of ours.
    Ours(i64),
    /// Nothing: the table was empty.
    Nothing,
    /// Something that has been expired, and how far the table was with it.
    Expired,
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(ours) => write!(
                f,
                "With that program, roll the table's branch main back to snapshot {ours}"
            ),
            Self::Nothing => f.write_str(
                "With that program, remove the table's branch main: nothing of LakeSync is below it",
            ),
            Self::Expired => f.write_str(
                "What LakeSync knew of the table was in a snapshot that has been expired: restore catalog.db and the \
                 table's folder from a copy",
            ),
        }
    }
}

/// What the caller of a failed lake operation can do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LakeErrorKind {
    /// The disk or object store refused: check it, then retry.
    Io,
    /// The catalog refused: another program may hold it.
    Catalog,
    /// A newer program is needed.
    NewerFormat,
    /// The thing asked for is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The request cannot be met as it is.
    Invalid,
    /// What is stored is damaged.
    Corrupt,
    /// Another program changed rows: undo it there.
    Foreign,
    /// Somebody else was first: read again, then decide.
    Conflict,
    /// This writer was replaced: stop writing.
    Fenced,
    /// Whether it happened is not known: read again before repeating.
    Unknown,
}

impl LakeError {
    /// The caller's next move.
    #[must_use]
    pub fn kind(&self) -> LakeErrorKind {
        match self {
            Self::Io { .. } => LakeErrorKind::Io,
            Self::Catalog { .. } => LakeErrorKind::Catalog,
            Self::NewerFormat { .. } => LakeErrorKind::NewerFormat,
            Self::NotFound { .. } => LakeErrorKind::NotFound,
            Self::AlreadyExists { .. } => LakeErrorKind::AlreadyExists,
            Self::Invalid { .. } | Self::Input { .. } => LakeErrorKind::Invalid,
            Self::Corrupt { .. } | Self::CatalogLost { .. } => LakeErrorKind::Corrupt,
            Self::Foreign(_) | Self::Commit(CommitError::Foreign(_)) => LakeErrorKind::Foreign,
            Self::NamespaceChanged { .. } => LakeErrorKind::Conflict,
            Self::Iceberg { source, .. } => kind_of_iceberg(source),
            Self::Commit(commit) => match commit.kind() {
                CommitErrorKind::Conflict => LakeErrorKind::Conflict,
                CommitErrorKind::Fenced => LakeErrorKind::Fenced,
                CommitErrorKind::Unknown => LakeErrorKind::Unknown,
                CommitErrorKind::Failed => LakeErrorKind::Io,
            },
        }
    }

    /// Whether the same call can succeed later without any change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            LakeErrorKind::Io | LakeErrorKind::Catalog | LakeErrorKind::Conflict
        )
    }

    /// Wraps an iceberg error with what was tried on which table.
    pub(crate) fn iceberg(
        action: &'static str,
        name: impl ToString,
    ) -> impl FnOnce(iceberg::Error) -> Self {
        let name = name.to_string();
        move |source| Self::Iceberg {
            action,
            name,
            source: Box::new(source),
        }
    }

    /// Wraps a file system error.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn kind_of_iceberg(error: &iceberg::Error) -> LakeErrorKind {
    match error.kind() {
        iceberg::ErrorKind::NamespaceNotFound | iceberg::ErrorKind::TableNotFound => {
            LakeErrorKind::NotFound
        }
        iceberg::ErrorKind::NamespaceAlreadyExists | iceberg::ErrorKind::TableAlreadyExists => {
            LakeErrorKind::AlreadyExists
        }
        iceberg::ErrorKind::CatalogCommitConflicts => LakeErrorKind::Conflict,
        iceberg::ErrorKind::DataInvalid => LakeErrorKind::Corrupt,
        iceberg::ErrorKind::FeatureUnsupported | iceberg::ErrorKind::PreconditionFailed => {
            LakeErrorKind::Invalid
        }
        _ => LakeErrorKind::Io,
    }
}

/// Why a commit did not succeed, by what the caller may do about it.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another commit was first, and this one cannot be moved on top of it: plan again.
    #[error("table {table}: the commit conflicts with another one: {reason}; read it again")]
    Conflict {
        /// The table.
        table: String,
        /// What changed underneath.
        reason: String,
    },
    /// Another program changed the table's rows: undo it there, then plan again.
    #[error(transparent)]
    Foreign(#[from] ForeignSnapshot),
    /// The namespace's fence no longer carries this writer's token: stop writing.
    #[error(
        "gateway {namespace} was taken over by another process: this one must stop writing \
         (restart it to take the gateway back)"
    )]
    Fenced {
        /// The namespace.
        namespace: String,
    },
    /// Whether the commit took effect is not known, and reading again did not tell.
    #[error("table {table}: it is not known whether the commit took effect: {source}")]
    Unknown {
        /// The table.
        table: String,
        /// The cause.
        source: BoxError,
    },
    /// The commit did not take effect.
    #[error("table {table}: the commit failed: {source}")]
    Failed {
        /// The table.
        table: String,
        /// The cause.
        source: BoxError,
    },
}

/// The kinds of [`CommitError`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CommitErrorKind {
    /// Plan again on the new state.
    Conflict,
    /// Stop writing.
    Fenced,
    /// Read again before repeating.
    Unknown,
    /// Nothing happened; repeat when the cause is gone.
    Failed,
}

impl CommitError {
    /// The caller's next move.
    #[must_use]
    pub fn kind(&self) -> CommitErrorKind {
        match self {
            Self::Conflict { .. } | Self::Foreign(_) => CommitErrorKind::Conflict,
            Self::Fenced { .. } => CommitErrorKind::Fenced,
            Self::Unknown { .. } => CommitErrorKind::Unknown,
            Self::Failed { .. } => CommitErrorKind::Failed,
        }
    }

    /// Whether a new attempt, planned on the table as it is then, can succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Failed { .. })
    }

    pub(crate) fn conflict(table: impl ToString, reason: impl Into<String>) -> Self {
        Self::Conflict {
            table: table.to_string(),
            reason: reason.into(),
        }
    }

    pub(crate) fn failed(table: impl ToString, source: impl Into<BoxError>) -> Self {
        Self::Failed {
            table: table.to_string(),
            source: source.into(),
        }
    }

    pub(crate) fn unknown(table: impl ToString, source: impl Into<BoxError>) -> Self {
        Self::Unknown {
            table: table.to_string(),
            source: source.into(),
        }
    }
}

impl From<CommitError> for iceberg::Error {
    /// For callers of [`iceberg::Catalog::update_table`], who know conflicts as retryable.
    fn from(error: CommitError) -> Self {
        let (kind, retryable) = match error.kind() {
            CommitErrorKind::Conflict => (iceberg::ErrorKind::CatalogCommitConflicts, true),
            CommitErrorKind::Fenced => (iceberg::ErrorKind::PreconditionFailed, false),
            CommitErrorKind::Unknown | CommitErrorKind::Failed => {
                (iceberg::ErrorKind::Unexpected, false)
            }
        };
        Self::new(kind, error.to_string())
            .with_retryable(retryable)
            .with_source(error)
    }
}
