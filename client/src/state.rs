//! `_lakesync_state`: who this client is, how far it has read, and its clock.
//!
//! ```text
//! name        value
//! format      3                   2 is brought up to it, another one is refused
//! client      the client id       fixed at the first opening
//! registry    counts up           raised with every change of a registered schema: other connections load it anew
//! migrations  how many of the application's migrations have run
//! cursor      the native cursor's text, as the gateway gave it
//! seq         seq                 everything of the gateway up to here has been applied
//! epoch       text                the log that seq counts in
//! clock       HLC                 the greatest stamp given to an own edit, or learned
//! named       HLC                 the greatest stamp that a new row's id was made of
//! known       HLC                 the greatest stamp that the gateway is known to have accepted, of whomever
//! skew_ms     milliseconds        what the gateway's wall clock shows more than this machine's
//! durable     seq                 what the warehouse holds, as the gateway last said
//! kept        a number            entries of the outbox that are kept for the warehouse
//! schemas     64 bits as text     the hash over the gateway's schemas in `_lakesync_meta`
//! checkpoint  JSON                a checkpoint that is being loaded: apply/checkpoint.rs
//! ```
//! Invariant: a value changes only in the transaction of what it describes: the clock with the delta it stamped, the
//! cursor with the page it counts.

use lakesync_proto::{ClientId, Epoch, Hlc, Seq};
use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension};

use crate::error::ClientError;

/// The format of the file; none in a file that is being made.
pub(crate) fn format(connection: &Connection) -> Result<Option<i64>, ClientError> {
    get(connection, "format")
}

pub(crate) fn set_format(connection: &Connection, format: i64) -> Result<(), ClientError> {
    set(connection, "format", format)
}

/// Whose file it is; none in a file that is being made.
pub(crate) fn client(connection: &Connection) -> Result<Option<ClientId>, ClientError> {
    let client = get::<String>(connection, "client")?;
    Ok(client.as_deref().map(ClientId::parse).transpose()?)
}

pub(crate) fn set_client(connection: &Connection, client: &ClientId) -> Result<(), ClientError> {
    set(connection, "client", client.as_str())
}

/// Counts the changes of registered schemas.
pub(crate) fn registry(connection: &Connection) -> Result<i64, ClientError> {
    Ok(get(connection, "registry")?.unwrap_or(0))
}

pub(crate) fn raise_registry(connection: &Connection) -> Result<(), ClientError> {
    set(connection, "registry", registry(connection)? + 1)
}

/// How many of the application's migrations have run.
pub(crate) fn migrations(connection: &Connection) -> Result<i64, ClientError> {
    Ok(get(connection, "migrations")?.unwrap_or(0))
}

pub(crate) fn set_migrations(connection: &Connection, run: i64) -> Result<(), ClientError> {
    set(connection, "migrations", run)
}

/// The native cursor; none before the first answer.
pub(crate) fn cursor(connection: &Connection) -> Result<Option<String>, ClientError> {
    get(connection, "cursor")
}

pub(crate) fn set_cursor(connection: &Connection, cursor: &str) -> Result<(), ClientError> {
    set(connection, "cursor", cursor)
}

/// Nothing is known of how far this file has read, nor of what the warehouse holds: the log is another one.
pub(crate) fn forget_cursor(connection: &Connection) -> Result<(), ClientError> {
    connection
        .prepare_cached("DELETE FROM _lakesync_state WHERE name IN ('cursor', 'seq', 'durable')")?
        .execute([])?;
    Ok(())
}

/// Everything of the gateway up to here has been applied.
pub(crate) fn seq(connection: &Connection) -> Result<Seq, ClientError> {
    read_seq(connection, "seq")
}

pub(crate) fn set_seq(connection: &Connection, seq: Seq) -> Result<(), ClientError> {
    set(connection, "seq", seq.as_i64())
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
    read_hlc(connection, "clock")
}

pub(crate) fn set_clock(connection: &Connection, hlc: Hlc) -> Result<(), ClientError> {
    set(connection, "clock", hlc.as_i64())
}

/// The greatest stamp that a new row's id was made of. It is no edit's: those are stamped later, when they are sealed.
pub(crate) fn named(connection: &Connection) -> Result<Hlc, ClientError> {
    read_hlc(connection, "named")
}

pub(crate) fn set_named(connection: &Connection, hlc: Hlc) -> Result<(), ClientError> {
    set(connection, "named", hlc.as_i64())
}

/// The greatest stamp that the gateway is known to have accepted.
pub(crate) fn known(connection: &Connection) -> Result<Hlc, ClientError> {
    read_hlc(connection, "known")
}

/// Raises what [`known`] says; a smaller stamp changes nothing.
pub(crate) fn raise_known(connection: &Connection, hlc: Hlc) -> Result<(), ClientError> {
    if hlc > known(connection)? {
        set(connection, "known", hlc.as_i64())?;
    }
    Ok(())
}

/// What the gateway's wall clock shows more than this machine's, in milliseconds.
pub(crate) fn skew_ms(connection: &Connection) -> Result<i64, ClientError> {
    Ok(get(connection, "skew_ms")?.unwrap_or(0))
}

pub(crate) fn set_skew_ms(connection: &Connection, skew_ms: i64) -> Result<(), ClientError> {
    set(connection, "skew_ms", skew_ms)
}

/// What the warehouse holds, as the gateway last said.
pub(crate) fn durable(connection: &Connection) -> Result<Seq, ClientError> {
    read_seq(connection, "durable")
}

pub(crate) fn set_durable(connection: &Connection, seq: Seq) -> Result<(), ClientError> {
    set(connection, "durable", seq.as_i64())
}

/// How many entries of the outbox are kept for the warehouse; none when nobody has counted.
pub(crate) fn kept(connection: &Connection) -> Result<Option<i64>, ClientError> {
    get(connection, "kept")
}

pub(crate) fn set_kept(connection: &Connection, kept: i64) -> Result<(), ClientError> {
    set(connection, "kept", kept)
}

/// The hash over the gateway's schemas that `_lakesync_meta` holds; none when they were never asked for.
pub(crate) fn schemas_hash(connection: &Connection) -> Result<Option<u64>, ClientError> {
    let text = get::<String>(connection, "schemas")?;
    Ok(text.and_then(|text| text.parse().ok()))
}

pub(crate) fn set_schemas_hash(connection: &Connection, hash: u64) -> Result<(), ClientError> {
    set(connection, "schemas", hash.to_string())
}

/// The checkpoint that is being loaded, as `apply::checkpoint` writes it.
pub(crate) fn checkpoint(connection: &Connection) -> Result<Option<String>, ClientError> {
    get(connection, "checkpoint")
}

/// Keeps the checkpoint's progress; none when it is done.
pub(crate) fn set_checkpoint(
    connection: &Connection,
    progress: Option<&str>,
) -> Result<(), ClientError> {
    match progress {
        Some(progress) => set(connection, "checkpoint", progress),
        None => {
            connection
                .prepare_cached("DELETE FROM _lakesync_state WHERE name = 'checkpoint'")?
                .execute([])?;
            Ok(())
        }
    }
}

fn read_seq(connection: &Connection, name: &str) -> Result<Seq, ClientError> {
    let seq = get::<i64>(connection, name)?.unwrap_or(0);
    Seq::from_i64(seq).map_err(|_| damaged(name, seq))
}

fn read_hlc(connection: &Connection, name: &str) -> Result<Hlc, ClientError> {
    let hlc = get::<i64>(connection, name)?.unwrap_or(0);
    Hlc::from_i64(hlc).map_err(|_| damaged(name, hlc))
}

fn get<T: FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, ClientError> {
    let mut statement =
        connection.prepare_cached("SELECT value FROM _lakesync_state WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn set(connection: &Connection, name: &str, value: impl ToSql) -> Result<(), ClientError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO _lakesync_state VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
    )?;
    statement.execute((name, value))?;
    Ok(())
}

fn damaged(name: &str, value: i64) -> ClientError {
    ClientError::Damaged {
        what: format!("_lakesync_state holds {value} as {name}"),
    }
}
