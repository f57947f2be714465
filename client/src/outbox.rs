//! `_lakesync_outbox`: local edits that the gateway has not acknowledged, in the order they were made.
//!
//! ```text
//! entry      counts up and is never given twice, so edits leave in the order they were made
//! delta_id   32 bytes
//! delta      a push of this one delta, in the wire's protobuf
//! ```
//! Invariant: an entry arrives in the transaction of its edit and leaves in that of its acknowledgement. So an edit
//! may be sent twice, and is never lost.

use lakesync_proto::{
    DeltaId, Push, RowDelta, Schemas, Seq, decode_push_protobuf, encode_push_protobuf, limits,
};
use rusqlite::Connection;

use crate::error::{ClientError, damaged};

/// Greatest estimated size of a batch, in bytes. A body may grow several times over what its values hold, by escapes
/// and names, and has to stay below what a gateway reads.
const BATCH_BYTES_MAX: usize = limits::PUSH_BODY_BYTES_MAX / 8;

/// Adds an edit.
pub(crate) fn add(connection: &Connection, delta: &RowDelta) -> Result<(), ClientError> {
    let id = delta.delta_id.as_bytes().to_vec();
    let blob = encode_push_protobuf(&Push {
        client_id: delta.client_id.clone(),
        deltas: vec![delta.clone()],
        last_seen: Seq::ZERO,
        schemas: None,
    });
    connection
        .prepare_cached("INSERT INTO _lakesync_outbox (delta_id, delta) VALUES (?1, ?2)")?
        .execute((id, blob))?;
    Ok(())
}

/// The number of the newest entry, 0 when there is none.
pub(crate) fn last_entry(connection: &Connection) -> Result<i64, ClientError> {
    Ok(connection.query_row(
        "SELECT coalesce(max(entry), 0) FROM _lakesync_outbox",
        [],
        |row| row.get(0),
    )?)
}

/// How many edits wait.
pub(crate) fn count(connection: &Connection) -> Result<u64, ClientError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM _lakesync_outbox", [], |row| {
        row.get(0)
    })?;
    Ok(u64::try_from(count).expect("SQLite counts from 0"))
}

/// The oldest edits up to entry `last`, as many as one push may hold.
pub(crate) fn batch(
    connection: &Connection,
    schemas: &dyn Schemas,
    last: i64,
) -> Result<Vec<RowDelta>, ClientError> {
    let mut statement = connection
        .prepare_cached("SELECT delta FROM _lakesync_outbox WHERE entry <= ?1 ORDER BY entry")?;
    let mut rows = statement.query([last])?;
    let mut deltas = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let blob = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let entry = decode_push_protobuf(blob, schemas)
            .map_err(|error| damaged("an outbox entry", &error))?;
        bytes += entry.deltas.iter().map(RowDelta::bytes).sum::<usize>();
        if !deltas.is_empty() && bytes > BATCH_BYTES_MAX {
            break;
        }
        deltas.extend(entry.deltas);
        if deltas.len() >= limits::PUSH_DELTAS_MAX {
            break;
        }
    }
    Ok(deltas)
}

/// Drops edits that the gateway has.
pub(crate) fn remove<'a>(
    connection: &Connection,
    acknowledged: impl Iterator<Item = &'a DeltaId>,
) -> Result<(), ClientError> {
    let mut statement =
        connection.prepare_cached("DELETE FROM _lakesync_outbox WHERE delta_id = ?1")?;
    for delta_id in acknowledged {
        statement.execute([delta_id.as_bytes().as_slice()])?;
    }
    Ok(())
}
