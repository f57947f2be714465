//! One entry of the outbox: how it is written and read back.
//!
//! Invariant: what is read is the delta that was stamped, byte for byte; a blob that does not decode is damage and is
//! said to be, never skipped.

use std::sync::Arc;

use lakesync_proto::{RowDelta, RowId, Seq, SeqDelta, decode_batch, encode_batch};
use rusqlite::Connection;

use crate::error::{ClientError, damaged};
use crate::local::Work;
use crate::schema::{LocalTable, Registry, TableNumber};

pub(super) const PENDING: i64 = 0;
pub(super) const IN_FLIGHT: i64 = 1;
pub(super) const ACKNOWLEDGED: i64 = 2;
pub(super) const KEPT: i64 = 3;
pub(super) const REJECTED: i64 = 4;

/// Entries read and changed at a time, where a transaction goes through many: a few megabytes.
pub(super) const CHUNK_ENTRIES: usize = 10_000;

/// Adds a sealed edit.
pub(crate) fn add(work: &Work<'_>, table: &LocalTable, delta: RowDelta) -> Result<(), ClientError> {
    let (row_id, hlc) = (delta.row_id.clone(), delta.hlc);
    work.tx
        .prepare_cached(
            "INSERT INTO _lakesync_outbox (state, table_number, row_id, hlc, delta) VALUES (0, ?1, ?2, ?3, ?4)",
        )?
        .execute((
            table.number,
            row_id.as_str(),
            hlc.as_i64(),
            encode(delta),
        ))?;
    Ok(())
}

/// Whether any entry shows in `t` beyond what is confirmed.
pub(crate) fn any_uncovered(connection: &Connection) -> Result<bool, ClientError> {
    let mut statement = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM _lakesync_outbox WHERE state <= 2)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// The entries of a row that show in `t` beyond what is confirmed, oldest first.
pub(crate) fn uncovered(
    work: &Work<'_>,
    table: TableNumber,
    row_id: &RowId,
) -> Result<Vec<RowDelta>, ClientError> {
    // `state <= 2` is spelled as in the index that finds them.
    let mut statement = work.tx.prepare_cached(
        "SELECT delta FROM _lakesync_outbox WHERE table_number = ?1 AND row_id = ?2 AND state <= 2 ORDER BY entry",
    )?;
    let mut rows = statement.query((table, row_id.as_str()))?;
    let mut deltas = Vec::new();
    while let Some(row) = rows.next()? {
        let blob = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        deltas.push(decode(blob, work.registry)?);
    }
    Ok(deltas)
}

/// A delta as the outbox keeps it. The form has an arrival number, which means nothing here: the column has it.
fn encode(delta: RowDelta) -> Vec<u8> {
    encode_batch(&[SeqDelta {
        seq: Seq::ZERO.next(),
        delta,
    }])
}

pub(super) fn decode(blob: &[u8], registry: &Registry) -> Result<RowDelta, ClientError> {
    let deltas =
        decode_batch(blob, registry).map_err(|error| damaged("an outbox entry", &error))?;
    match <[SeqDelta; 1]>::try_from(deltas) {
        Ok([only]) => Ok(only.delta),
        Err(deltas) => Err(ClientError::Damaged {
            what: format!("an outbox entry holds {} deltas", deltas.len()),
        }),
    }
}

/// The table of an entry.
pub(super) fn table_of(
    registry: &Registry,
    number: TableNumber,
) -> Result<Arc<LocalTable>, ClientError> {
    registry
        .numbered(number)
        .map(Arc::clone)
        .ok_or_else(|| ClientError::Damaged {
            what: format!("an outbox entry is of table number {number}, which is not registered"),
        })
}

/// Reads the delta of an entry.
pub(super) fn delta_of(work: &Work<'_>, entry: i64) -> Result<RowDelta, ClientError> {
    let mut statement = work
        .tx
        .prepare_cached("SELECT delta FROM _lakesync_outbox WHERE entry = ?1")?;
    let blob: Vec<u8> = statement.query_row([entry], |row| row.get(0))?;
    decode(&blob, work.registry)
}

/// Replaces the delta of an entry by the same one under another stamp, and makes it pending as if it had never been sent.
pub(super) fn replace(work: &Work<'_>, entry: i64, delta: &RowDelta) -> Result<(), ClientError> {
    work.tx
        .prepare_cached(
            "UPDATE _lakesync_outbox SET state = 0, doubt = 0, seq = NULL, reason = NULL, hlc = ?2, delta = ?3 \
             WHERE entry = ?1",
        )?
        .execute((entry, delta.hlc.as_i64(), encode(delta.clone())))?;
    Ok(())
}
