//! What goes into a push, and what becomes of it when nobody answers.
//!
//! Invariant: entries go in the order in which they were made. One whose table or columns the gateway is known not to
//! have is set aside until the registry changes, and holds up nobody behind it.

use std::sync::Arc;

use lakesync_proto::{RowDelta, limits};

use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::Batch;
use crate::outbox::entry::{CHUNK_ENTRIES, decode, table_of};
use crate::schema::LocalTable;
use crate::state;

/// Greatest estimated size of a batch, in bytes. A body may grow several times over what its values hold, by escapes
/// and names, and has to stay below what a gateway reads.
const BATCH_BYTES_MAX: usize = limits::PUSH_BODY_BYTES_MAX / 8;

/// The oldest entries that may go now, at most `limit`, marked as in flight. Those wait whose table or columns the gateway
/// is known not to have.
pub(crate) fn take(work: &mut Work<'_>, limit: usize) -> Result<Option<Batch>, ClientError> {
    release(work)?;
    let limit = limit.clamp(1, limits::PUSH_DELTAS_MAX);
    loop {
        let scan = scan(work, limit)?;
        for entry in &scan.held {
            hold(work, *entry)?;
        }
        if let (Some(first), Some(last)) = (scan.batch.entries.first(), scan.batch.entries.last()) {
            // Everything between the two is of the batch, or was held just now.
            work.tx
                .prepare_cached(
                    "UPDATE _lakesync_outbox SET state = 1 \
                     WHERE state = 0 AND seq IS NULL AND entry BETWEEN ?1 AND ?2",
                )?
                .execute([first, last])?;
            return Ok(Some(scan.batch));
        }
        if scan.held.is_empty() {
            return Ok(None);
        }
    }
}

/// What was found at the head of the outbox.
#[derive(Default)]
struct Scan {
    batch: Batch,
    /// Entries in between that have to wait.
    held: Vec<i64>,
}

fn scan(work: &Work<'_>, limit: usize) -> Result<Scan, ClientError> {
    let asked = state::schemas_hash(work.tx)?.is_some();
    let mut statement = work.tx.prepare_cached(
        "SELECT entry, table_number, delta FROM _lakesync_outbox WHERE state = 0 AND seq IS NULL ORDER BY entry",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Scan::default();
    let mut bytes = 0;
    let mut last: Option<Arc<LocalTable>> = None;
    while found.batch.entries.len() < limit && found.held.len() < CHUNK_ENTRIES {
        let Some(row) = rows.next()? else { break };
        let entry: i64 = row.get(0)?;
        let number = row.get(1)?;
        let table = match last.take().filter(|table| table.number == number) {
            Some(table) => table,
            None => table_of(work.registry, number)?,
        };
        let blob = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let delta = decode(blob, work.registry)?;
        if gateway_lacks(&table, &delta, asked) {
            found.held.push(entry);
        } else {
            bytes += delta.bytes();
            if !found.batch.entries.is_empty() && bytes > BATCH_BYTES_MAX {
                break;
            }
            found.batch.entries.push(entry);
            found.batch.deltas.push(delta);
        }
        last = Some(table);
    }
    Ok(found)
}

/// Whether the gateway is known not to take this delta: `asked` is whether it ever told its schemas.
pub(super) fn gateway_lacks(table: &LocalTable, delta: &RowDelta, asked: bool) -> bool {
    if table.conflict.is_some() {
        return true;
    }
    let Some(gateway) = &table.gateway else {
        return asked;
    };
    delta.columns.iter().any(|change| {
        let name = change.column.as_str();
        // Writes to a dropped column are taken, kept in the log and shown nowhere.
        gateway.column(name).is_none() && gateway.dropped_column(name).is_none()
    })
}

/// Sets an entry aside until the registry is another one.
pub(super) fn hold(work: &Work<'_>, entry: i64) -> Result<(), ClientError> {
    let version = state::registry(work.tx)?;
    work.tx
        .prepare_cached("UPDATE _lakesync_outbox SET state = 0, seq = ?2 WHERE entry = ?1")?
        .execute([entry, version])?;
    Ok(())
}

/// Looks again at what was set aside under an older registry.
fn release(work: &Work<'_>) -> Result<(), ClientError> {
    let version = state::registry(work.tx)?;
    work.tx
        .prepare_cached("UPDATE _lakesync_outbox SET seq = NULL WHERE state = 0 AND seq < ?1")?
        .execute([version])?;
    Ok(())
}

/// There was no answer: the entries go again, and nobody knows whether the gateway has them.
pub(crate) fn doubt(work: &mut Work<'_>, batch: &Batch) -> Result<(), ClientError> {
    let mut statement = work.tx.prepare_cached(
        "UPDATE _lakesync_outbox SET state = 0, doubt = 1 WHERE entry = ?1 AND state = 1",
    )?;
    for entry in &batch.entries {
        statement.execute([entry])?;
    }
    Ok(())
}

/// The request was definitely not looked at (busy, unauthorised): the entries go again as they were.
pub(crate) fn put_back(work: &mut Work<'_>, batch: &Batch) -> Result<(), ClientError> {
    let mut statement = work
        .tx
        .prepare_cached("UPDATE _lakesync_outbox SET state = 0 WHERE entry = ?1 AND state = 1")?;
    for entry in &batch.entries {
        statement.execute([entry])?;
    }
    Ok(())
}

/// What was in flight when the program ended, or when its answer could not be written down, is in doubt. Called before a
/// session's first push, and after each such answer.
pub(crate) fn recover(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let recovered = work.tx.execute(
        "UPDATE _lakesync_outbox SET state = 0, doubt = 1 WHERE state = 1",
        [],
    )?;
    Ok(u64::try_from(recovered).unwrap_or(u64::MAX))
}
