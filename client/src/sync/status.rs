//! How syncing goes, as a value to show.
//!
//! Invariant: a status tells what the session knew when it was made; it holds no text that only a log would need.

use lakesync_proto::TableName;

use crate::error::ErrorKind;
use crate::outbox::OutboxCounts;

/// What the session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Nothing is asked: no session runs, the application said so, or the gateway did not answer.
    #[default]
    Offline,
    /// The gateway is being asked for the first time, or again after a failure.
    Connecting,
    /// The first sync, or one that starts over.
    Loading {
        /// Rows that have come so far.
        rows: u64,
    },
    /// Edits of others are coming in pages.
    Pulling,
    /// Own edits are on their way.
    Pushing,
    /// Up to date, and told of everything new as it comes.
    Live,
    /// Up to date as of the last look; the gateway is asked again from time to time.
    Idle,
    /// The session has ended.
    Stopped,
}

/// The last failure. A later success of the same kind of exchange takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What happened, with its causes, for a person.
    pub message: String,
    /// This machine's wall clock then, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// How syncing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What the session is doing.
    pub phase: Phase,
    /// Own edits by what became of them.
    pub counts: OutboxCounts,
    /// The last failure, until the gateway answers as it should again.
    pub last_error: Option<SyncError>,
    /// This machine's wall clock, in milliseconds since the Unix epoch, when everything that the gateway had was here and
    /// everything that could be sent was there.
    pub last_synced_ms: Option<u64>,
    /// Milliseconds since this database was last known to have everything; 0 while live. None when it never had.
    pub behind_ms: Option<u64>,
    /// When the gateway is asked again after a failure, in milliseconds since the Unix epoch; none when nothing failed.
    pub retry_at_ms: Option<u64>,
    /// Tables whose schema here and at the gateway differ.
    pub schema: Vec<TableSchemaState>,
    /// Pages whose checksum was wrong, and tables whose digest differed, since the session began.
    pub mismatches: u64,
}

/// A table whose schema here and at the gateway differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchemaState {
    /// The table.
    pub table: TableName,
    /// How they differ.
    pub state: SchemaState,
}

/// How a table's schema here and at the gateway differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaState {
    /// The gateway lacks columns of this database. Edits of them wait; everything else is synced.
    GatewayBehind {
        /// Edits of this table that have not been sent.
        waiting: u64,
    },
    /// The gateway has columns that this database lacks. They are added with the first edit that has one.
    GatewayAhead,
    /// The two do not go together; edits of this table wait.
    Conflict {
        /// What differs.
        reason: String,
    },
    /// The gateway has no such table. Its edits wait until somebody creates it there.
    UnknownToGateway {
        /// Edits of this table that have not been sent.
        waiting: u64,
    },
}
