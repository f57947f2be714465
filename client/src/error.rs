//! What can go wrong in the client, told by what to do next.
//!
//! Invariant: an error leaves the local database as it was; every write and every page is one transaction.

use lakesync_proto::{
    CheckError, ClientId, ColumnName, DecodeError, DeltaId, HlcError, IdError, RowId, TableName,
    ValueError,
};

use crate::transport::{Refusal, TransportError};

/// A failed call to a [`LocalDb`](crate::LocalDb) or a [`Session`](crate::Session).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// SQLite said no: disk full, file locked for too long, no such column in a query.
    #[error("the local database failed")]
    Database(#[source] rusqlite::Error),

    /// The file holds something this client did not write.
    #[error("the local database is damaged: {what}; move the file away and sync into a new one")]
    Damaged {
        /// What was found, and where.
        what: String,
    },

    /// The file has another format than this client's.
    #[error(
        "the local database has format {found}, this client reads {known}: open it with the version of LakeSync that wrote \
         it, or sync into a new file"
    )]
    OtherFormat {
        /// The format of the file.
        found: i64,
        /// The format that this client reads.
        known: i64,
    },

    /// The file is there, but no client wrote it.
    #[error("the file is no local database of a LakeSync client")]
    NoClient,

    /// The file belongs to another client; its outbox holds that client's edits.
    #[error(
        "the local database belongs to client {found}, not {wanted}: open it under its own id, or use another file"
    )]
    OtherClient {
        /// The id in the file.
        found: ClientId,
        /// The id that was given.
        wanted: ClientId,
    },

    /// A table, column or row id that is no such name.
    #[error(transparent)]
    Name(#[from] IdError),

    /// The table is not registered here.
    #[error(
        "table {table} is not known here: register its schema, or pull from a gateway that has it"
    )]
    UnknownTable {
        /// The table.
        table: TableName,
    },

    /// The local database cannot hold a table or column of this name.
    #[error("{name} cannot be a local name: {reason}")]
    NameTaken {
        /// The table or column.
        name: String,
        /// Who has it.
        reason: &'static str,
    },

    /// The schema differs from the one here in a way that no added column explains.
    #[error("the schema of {table} does not follow from the one here: {reason}")]
    SchemaConflict {
        /// The table.
        table: TableName,
        /// What differs.
        reason: String,
    },

    /// SQL of the application has changed a tracked table itself. It was rolled back.
    #[error(
        "table {table} belongs to its registered schema, and SQL may not change it ({reason}): register the new schema \
         instead"
    )]
    TableChanged {
        /// The table.
        table: TableName,
        /// What was found.
        reason: String,
    },

    /// The table has more columns than the local database can capture.
    #[error(
        "{table} has used {columns} columns, {limit} are possible in a local table, dropped ones counted: split the table"
    )]
    TooWide {
        /// The table.
        table: TableName,
        /// Columns that it has had, dropped ones counted.
        columns: usize,
        /// How many it can have.
        limit: usize,
    },

    /// A newer version of the application has written the file.
    #[error(
        "the file has seen {run} migrations, the application has {known}: open it with the newer version of the application"
    )]
    Migrations {
        /// Scripts that have run in the file.
        run: usize,
        /// Scripts that were given.
        known: usize,
    },

    /// The value is none that the column takes.
    #[error("column {column} of {table} takes {wanted}")]
    NotWanted {
        /// The table.
        table: TableName,
        /// The column, or `row_id`.
        column: String,
        /// What the column takes.
        wanted: String,
    },

    /// What the gateway says of a row breaks a rule that the application has made for this database.
    #[error(
        "row {row_id} of {table}, as the gateway has it, is not allowed here: {reason}; the other replicas have it, so drop \
         the index, constraint or trigger that forbids it"
    )]
    RowForbidden {
        /// The table.
        table: TableName,
        /// The row.
        row_id: RowId,
        /// What SQLite says.
        reason: String,
    },

    /// INSERT of a row that is there.
    #[error("row {row_id} of {table} exists: update it")]
    RowExists {
        /// The table.
        table: TableName,
        /// The row.
        row_id: RowId,
    },

    /// UPDATE or DELETE of a row that is not there.
    #[error("row {row_id} of {table} does not exist: insert it")]
    RowMissing {
        /// The table.
        table: TableName,
        /// The row.
        row_id: RowId,
    },

    /// The write does not fit the table's schema.
    #[error("the write does not fit {table}")]
    Check {
        /// The table.
        table: TableName,
        /// Which column, and why.
        source: CheckError,
    },

    /// A value that is none of its column's type.
    #[error("column {column} of {table}")]
    Value {
        /// The table.
        table: TableName,
        /// The column.
        column: ColumnName,
        /// Why.
        source: ValueError,
    },

    /// A key column without a value that can name a row.
    #[error("the key of a new row of {table}: {reason}")]
    Key {
        /// The table.
        table: TableName,
        /// Why.
        reason: String,
    },

    /// The wall clock shows a time that no stamp can hold.
    #[error("no stamp could be given: set the wall clock of this machine")]
    Clock(#[from] HlcError),

    /// There is no such dead letter, or it has been retried or discarded already.
    #[error("entry {entry} of the outbox is no dead letter: list them with dead_letters")]
    NoDeadLetter {
        /// The entry that was named.
        entry: i64,
    },

    /// The dead letter holds values that no edit can have, so there is nothing to send.
    #[error(
        "dead letter {entry} cannot be sent again: its values never fitted the table; write the row anew and discard it"
    )]
    NeverAnEdit {
        /// The dead letter.
        entry: i64,
    },

    /// A query that would write.
    #[error("query only reads: write with insert, update and delete, so that the edit is synced")]
    ReadOnly,

    /// The gateway looked at a push and refused it. The edits stay in the outbox.
    #[error("the gateway refused {}: {refusal}", named(refused.as_deref()))]
    PushRefused {
        /// What it said.
        refusal: Box<Refusal>,
        /// The edit it named, if it named one.
        refused: Option<Box<RefusedDelta>>,
    },

    /// The gateway could not be reached, or its answer could not be read.
    #[error(transparent)]
    Transport(#[from] TransportError),

    /// The gateway's answer contradicts itself.
    #[error("the gateway's answer makes no sense: {what}")]
    Protocol {
        /// What is wrong with it.
        what: String,
    },
}

/// The edit that a refusal names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedDelta {
    /// Its id.
    pub delta_id: DeltaId,
    /// Its table.
    pub table: TableName,
    /// Its row.
    pub row_id: RowId,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call was wrong; the same call fails again.
    Invalid,
    /// The gateway refused these edits; the same push is refused again.
    Refused,
    /// The same call may succeed later.
    Retryable,
    /// The local database needs a person.
    Local,
}

impl ClientError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Database(_)
            | ClientError::Damaged { .. }
            | ClientError::Migrations { .. }
            | ClientError::OtherFormat { .. }
            | ClientError::NoClient
            | ClientError::RowForbidden { .. }
            | ClientError::OtherClient { .. }
            | ClientError::Clock(_) => ErrorKind::Local,
            ClientError::PushRefused { .. } => ErrorKind::Refused,
            ClientError::Transport(error) if error.is_retryable() => ErrorKind::Retryable,
            _ => ErrorKind::Invalid,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Retryable
    }
}

/// What a write was refused for is told in the words of the table's schema.
impl From<rusqlite::Error> for ClientError {
    fn from(error: rusqlite::Error) -> ClientError {
        not_wanted(&error).unwrap_or(ClientError::Database(error))
    }
}

/// Reads the two messages of SQLite that name a column's demand: that of a constraint, which is named `table.column: wanted`,
/// and that of a storage class.
fn not_wanted(error: &rusqlite::Error) -> Option<ClientError> {
    let rusqlite::Error::SqliteFailure(_, Some(message)) = error else {
        return None;
    };
    let (place, wanted) = match message.strip_prefix("CHECK constraint failed: ") {
        Some(named) => {
            let (place, wanted) = named.split_once(": ")?;
            (place, wanted.to_owned())
        }
        None => {
            let (found, rest) = message
                .strip_prefix("cannot store ")?
                .split_once(" value in ")?;
            let (class, place) = rest.split_once(" column ")?;
            (place, format!("{class}, not {found}"))
        }
    };
    let (table, column) = place.split_once('.')?;
    Some(ClientError::NotWanted {
        table: TableName::parse(table).ok()?,
        column: column.to_owned(),
        wanted,
    })
}

/// A stored delta that does not decode: the file holds something else.
pub(crate) fn damaged(what: &str, error: &DecodeError) -> ClientError {
    ClientError::Damaged {
        what: format!("{what}: {error}"),
    }
}

fn named(refused: Option<&RefusedDelta>) -> String {
    refused.map_or_else(
        || "the push".to_owned(),
        |d| format!("delta {} of row {} in {}", d.delta_id, d.row_id, d.table),
    )
}
