//! The client's own tables, and the format of the file.
//!
//! ```text
//! t                       the visible rows: what is confirmed, with own uncovered edits merged in
//! _lakesync_state         who this is, how far it has read, its clock                     state.rs
//! _lakesync_meta          the registered tables, each with a number that is never reused  schema/registry.rs
//! _lakesync_columns       their columns, each with a slot that is never reused            schema/registry.rs
//! _lakesync_changes       what triggers captured and nobody has sealed yet                capture/
//! _lakesync_commits       which of those one transaction of ours made, and when           capture/
//! _lakesync_outbox        own deltas, from their seal to the gateway's confirmation       outbox/
//! _lakesync_rows          the confirmed clocks of each row                                rows/clocks.rs
//! _lakesync_confirmed     confirmed values that own uncovered edits hide                  rows/confirmed.rs
//! _lakesync_seen          rows that a repeated checkpoint has brought so far              apply/heard.rs
//! ```
//! Invariant: `visible = merge(confirmed, own edits that the cursor has not covered)`, in every committed state of the
//! file. A confirmed value is in `_lakesync_confirmed` when it is there for the cell, else in `t`.

use lakesync_proto::ClientId;
use rusqlite::Connection;

use crate::error::ClientError;
use crate::schema::{CHANGES, Registry, loosen_changes};
use crate::state;

/// The newest format of the local database that this client reads, and the one it writes.
const FORMAT: i64 = 4;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _lakesync_state (
    name TEXT PRIMARY KEY, value ANY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_meta (
    table_name TEXT PRIMARY KEY, table_number INTEGER NOT NULL UNIQUE, schema_json TEXT NOT NULL,
    gateway_json TEXT, conflict TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_columns (
    table_number INTEGER NOT NULL, slot INTEGER NOT NULL, column_name TEXT NOT NULL, living INTEGER NOT NULL,
    PRIMARY KEY (table_number, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_commits (
    last INTEGER PRIMARY KEY, first INTEGER NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS _lakesync_outbox (
    entry INTEGER PRIMARY KEY AUTOINCREMENT, state INTEGER NOT NULL, table_number INTEGER NOT NULL,
    row_id TEXT NOT NULL, hlc INTEGER NOT NULL, doubt INTEGER NOT NULL DEFAULT 0, seq INTEGER, reason TEXT,
    delta BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS _lakesync_outbox_rows ON _lakesync_outbox (table_number, row_id) WHERE state <= 2;
CREATE INDEX IF NOT EXISTS _lakesync_outbox_states ON _lakesync_outbox (state, seq, entry);
CREATE TABLE IF NOT EXISTS _lakesync_rows (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, clocks BLOB NOT NULL,
    PRIMARY KEY (table_number, row_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_confirmed (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, slot INTEGER NOT NULL, value ANY,
    PRIMARY KEY (table_number, row_id, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_seen (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, PRIMARY KEY (table_number, row_id)
) STRICT, WITHOUT ROWID;
";

/// The format before it: triggers asked a table, `_lakesync_gate`, what to capture, and wrote down all that an insert wrote.
/// An older client that still has the file open finds that table gone, so its transactions fail, and lose nothing.
const GATE_TABLE: i64 = 3;

/// The format before that: its `_lakesync_changes` had types and constraints, and so its triggers were slower.
const STRICT_CHANGES: i64 = 2;

/// Makes the client's own tables, or brings those of an older format up to this one. Needs the write lock.
pub(crate) fn initialise(connection: &Connection) -> Result<(), ClientError> {
    match found(connection)? {
        Found::Nothing => {
            connection.execute_batch(TABLES)?;
            connection.execute_batch(CHANGES)?;
            state::set_format(connection, FORMAT)
        }
        Found::Older(format) => {
            if format == STRICT_CHANGES {
                loosen_changes(connection)?;
            }
            Registry::load(connection)?.write_triggers(connection)?;
            connection.execute_batch("DROP TABLE _lakesync_gate")?;
            state::set_format(connection, FORMAT)
        }
        Found::This => Ok(()),
    }
}

/// Whose file it is; none when it is no client's.
pub(crate) fn owner(connection: &Connection) -> Result<Option<ClientId>, ClientError> {
    match found(connection)? {
        Found::Nothing => Ok(None),
        Found::Older(_) | Found::This => state::client(connection),
    }
}

/// Whether [`initialise`] would bring the file up to this format.
pub(crate) fn is_older(connection: &Connection) -> Result<bool, ClientError> {
    Ok(matches!(found(connection)?, Found::Older(_)))
}

/// What a file was found to be.
enum Found {
    /// No client's, or one that is being made.
    Nothing,
    /// Of a format that can be brought up to this one.
    Older(i64),
    This,
}

fn found(connection: &Connection) -> Result<Found, ClientError> {
    let known: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_lakesync_state')",
        [],
        |row| row.get(0),
    )?;
    if !known {
        return Ok(Found::Nothing);
    }
    match state::format(connection)? {
        None => Ok(Found::Nothing),
        Some(format @ (STRICT_CHANGES | GATE_TABLE)) => Ok(Found::Older(format)),
        Some(FORMAT) => Ok(Found::This),
        Some(found) => Err(ClientError::OtherFormat {
            found,
            known: FORMAT,
        }),
    }
}

#[cfg(test)]
mod tests;
