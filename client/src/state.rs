//! `_lakesync_state`: who this client is, how far it has read, and its clock.
//!
//! ```text
//! name       value
//! format     1                     refused when newer
//! client     the client id         fixed at the first opening
//! cursor     seq                   every delta up to here has been applied
//! epoch      text                  the log that the cursor counts in
//! clock      HLC                   the greatest stamp given or learned
//! ```
//! Invariant: a value changes only in the transaction of what it describes: the clock with the delta it stamped, the
//! cursor with the page it counts.

use lakesync_proto::{ClientId, Epoch, Hlc, Seq};
use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension};

use crate::error::ClientError;

/// The newest format of the local database that this client reads, and the one it writes.
const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _lakesync_state (
    name TEXT PRIMARY KEY, value ANY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_meta (
    table_name TEXT PRIMARY KEY, schema_version INTEGER NOT NULL, schema_json TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_rows (
    table_name TEXT NOT NULL, row_id TEXT NOT NULL, written BLOB, deleted BLOB,
    PRIMARY KEY (table_name, row_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_cells (
    table_name TEXT NOT NULL, row_id TEXT NOT NULL, column_name TEXT NOT NULL, stamp BLOB NOT NULL,
    PRIMARY KEY (table_name, row_id, column_name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _lakesync_outbox (
    entry INTEGER PRIMARY KEY AUTOINCREMENT, delta_id BLOB NOT NULL UNIQUE, delta BLOB NOT NULL
) STRICT;
";

/// Makes the client's own tables, or finds that they are of a format and client it may use.
pub(crate) fn initialise(connection: &Connection, client_id: &ClientId) -> Result<(), ClientError> {
    connection.execute_batch(TABLES)?;
    match get::<i64>(connection, "format")? {
        None => set(connection, "format", FORMAT)?,
        Some(found) if found > FORMAT => {
            return Err(ClientError::NewerFormat {
                found,
                known: FORMAT,
            });
        }
        Some(_) => {}
    }
    match get::<String>(connection, "client")? {
        None => set(connection, "client", client_id.as_str()),
        Some(found) if found == client_id.as_str() => Ok(()),
        Some(found) => Err(ClientError::OtherClient {
            found: ClientId::parse(&found)?,
            wanted: client_id.clone(),
        }),
    }
}

/// Every delta up to here has been applied.
pub(crate) fn cursor(connection: &Connection) -> Result<Seq, ClientError> {
    let seq = get::<i64>(connection, "cursor")?.unwrap_or(0);
    Seq::from_i64(seq).map_err(|_| damaged("cursor", seq))
}

pub(crate) fn set_cursor(connection: &Connection, cursor: Seq) -> Result<(), ClientError> {
    set(connection, "cursor", cursor.as_i64())
}

/// The log that the cursor counts in; none before the first answer.
pub(crate) fn epoch(connection: &Connection) -> Result<Option<Epoch>, ClientError> {
    let epoch = get::<String>(connection, "epoch")?;
    Ok(epoch.as_deref().map(Epoch::parse).transpose()?)
}

pub(crate) fn set_epoch(connection: &Connection, epoch: &Epoch) -> Result<(), ClientError> {
    set(connection, "epoch", epoch.as_str())
}

/// The greatest stamp given or learned.
pub(crate) fn clock(connection: &Connection) -> Result<Hlc, ClientError> {
    let hlc = get::<i64>(connection, "clock")?.unwrap_or(0);
    Hlc::from_i64(hlc).map_err(|_| damaged("clock", hlc))
}

pub(crate) fn set_clock(connection: &Connection, hlc: Hlc) -> Result<(), ClientError> {
    set(connection, "clock", hlc.as_i64())
}

fn get<T: FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, ClientError> {
    let mut statement =
        connection.prepare_cached("SELECT value FROM _lakesync_state WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn set(connection: &Connection, name: &str, value: impl ToSql) -> Result<(), ClientError> {
    let mut statement = connection
        .prepare_cached("INSERT INTO _lakesync_state VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?;
    statement.execute((name, value))?;
    Ok(())
}

fn damaged(name: &str, value: i64) -> ClientError {
    ClientError::Damaged {
        what: format!("_lakesync_state holds {value} as {name}"),
    }
}
