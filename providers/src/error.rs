//! What can go wrong between the lake and a query, by the caller's next move.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use lakesync_proto::{ColumnType, Seq, TableName, Value};
use thiserror::Error;

use crate::lake::LakeError;
use crate::travel::Horizon;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalog, a file or a commit failed; the lake says how.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A plan could not be made or run.
    #[error(transparent)]
    Query(#[from] Box<DataFusionError>),
    /// The statement names a table that is not there.
    #[error(
        "table `{table}` does not exist in `{gateway}`; create it with POST /v1/admin/schema/{gateway} or see `show tables`"
    )]
    UnknownTable {
        /// The gateway (SQL schema) that was asked.
        gateway: String,
        /// The name that was asked for.
        table: String,
    },
    /// The snapshot of a time travel clause is not one of the table's.
    #[error(
        "`{table}` has no snapshot {snapshot}; `select * from \"{table}$snapshots\"` lists those that are kept"
    )]
    UnknownSnapshot {
        /// The table of the clause.
        table: TableName,
        /// The snapshot id of the clause.
        snapshot: i64,
    },
    /// No snapshot of the table has that name.
    #[error(
        "`{table}` has no tag or branch `{name}`; `select * from \"{table}$snapshots\"` lists its snapshots, which are named by number"
    )]
    UnknownRef {
        /// The table of the clause.
        table: TableName,
        /// The name of the clause.
        name: String,
    },
    /// Base and log have different snapshots of that name.
    #[error(
        "`{name}` names two states of `{table}`: seq {base} in its base, seq {log} in its log; name the one you mean by its snapshot id or seq"
    )]
    AmbiguousRef {
        /// The table of the clause.
        table: TableName,
        /// The name of the clause.
        name: String,
        /// What the base's snapshot covers.
        base: Seq,
        /// What the log's snapshot covers.
        log: Seq,
    },
    /// The moment has not come.
    #[error("`{table}` cannot be read as of {asked} yet: {reached}; ask for an earlier moment")]
    NotYet {
        /// The table of the clause.
        table: TableName,
        /// The moment of the clause.
        asked: String,
        /// How far things are.
        reached: String,
    },
    /// The moment lies before the oldest base snapshot that is kept.
    #[error(
        "`{table}` cannot be read as of {asked}: its history is kept from {horizon} on; ask for a later moment"
    )]
    BelowHorizon {
        /// The table of the clause.
        table: TableName,
        /// The moment of the clause.
        asked: String,
        /// The oldest state that can still be read.
        horizon: Horizon,
    },
    /// The snapshot was expired after the statement's view was taken.
    #[error("snapshot {snapshot} of `{table}` was expired a moment ago; run the statement again")]
    SnapshotExpired {
        /// The Iceberg table.
        table: String,
        /// The snapshot.
        snapshot: i64,
    },
    /// A table function is called with what it does not take.
    #[error("`{call}`: {reason}")]
    Argument {
        /// The function.
        call: &'static str,
        /// Which argument, what is wrong with it, and what to write instead.
        reason: String,
    },
    /// The table has no metadata table of that name.
    #[error("`{table}` has no metadata table `${kind}`; there are {known}")]
    UnknownMetadata {
        /// The table.
        table: TableName,
        /// What stands behind the `$`.
        kind: String,
        /// What may stand there.
        known: String,
    },
    /// The metadata of a table cannot be read.
    #[error("the metadata of `{table}` cannot be read: {reason}")]
    Metadata {
        /// The Iceberg table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is not of its column's type: a defect, since admission checks every value.
    #[error("a {actual} cannot be stored in a column of type {expected}")]
    ValueType {
        /// The column's type.
        expected: ColumnType,
        /// What the value is.
        actual: &'static str,
    },
    /// A file holds another Arrow type than the table's schema says.
    #[error(
        "a column of type {expected} is stored as {actual}; the file was not written by this table's schema"
    )]
    ColumnType {
        /// The column's type.
        expected: ColumnType,
        /// The Arrow type that was found.
        actual: DataType,
    },
    /// A row of the log cannot be read as a delta.
    #[error("the log of `{table}` holds a delta that cannot be read (seq {seq}): {reason}")]
    BrokenDelta {
        /// The table whose log it is.
        table: TableName,
        /// Its arrival number, 0 when that is what cannot be read.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The table cannot be written from here.
    #[error(
        "`{table}` is read-only here: a past moment, a metadata table, or a directory that another process writes; write to the table itself through its server"
    )]
    ReadOnly {
        /// The table of the statement.
        table: String,
    },
    /// An INSERT names a row id that is none.
    #[error("row_id: {reason}")]
    RowId {
        /// What is wrong with it.
        reason: String,
    },
    /// A table that another program made is written by that program.
    #[error(
        "`{table}` was made by another program and is read-only here; INSERT INTO a table of your own … SELECT from it"
    )]
    ForeignTable {
        /// The table of the statement.
        table: String,
    },
    /// A table that another program made knows no such moment.
    #[error("`{table}` cannot be read as of that moment: {reason}")]
    ForeignMoment {
        /// The table of the clause.
        table: String,
        /// What is not there and what is.
        reason: String,
    },
    /// A file of another program's table cannot be read exactly.
    #[error("`{table}` cannot be read: {reason}")]
    ForeignFile {
        /// The table, or what of it.
        table: String,
        /// What is in the way and what to do.
        reason: String,
    },
    /// A log carries delete files: no log of ours does.
    #[error(
        "`{table}` has {count} delete files written by another engine; rewrite its data files there before reading it here"
    )]
    DeleteFiles {
        /// The table.
        table: String,
        /// How many delete files its snapshot lists.
        count: usize,
    },
}

impl Error {
    pub(crate) fn value_type(expected: ColumnType, value: &Value) -> Self {
        let actual = match value {
            Value::Null => "null",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Long(_) => "long",
            Value::Boolean(_) => "boolean",
            Value::Json(_) => "json",
            Value::Decimal(_) => "decimal",
            Value::Date(_) => "date",
            Value::Timestamp(_) => "timestamp",
            Value::Binary(_) => "binary",
        };
        Self::ValueType { expected, actual }
    }

    pub(crate) fn column_type(expected: ColumnType, actual: &DataType) -> Self {
        Self::ColumnType {
            expected,
            actual: actual.clone(),
        }
    }

    pub(crate) fn decimal(precision: u8, scale: u8) -> Self {
        Self::ValueType {
            expected: ColumnType::Decimal { precision, scale },
            actual: "decimal of a scale that Arrow cannot hold",
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(error) => *error,
            other => Self::External(Box::new(other)),
        }
    }
}
