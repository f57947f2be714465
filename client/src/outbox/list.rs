//! Looking into the outbox.
//!
//! Invariant: looking seals first, so what was written a moment ago is there.

use std::collections::BTreeMap;

use lakesync_proto::{ColumnChange, Hlc, Op, RowId, Seq, TableName};
use rusqlite::Connection;

use crate::db::LocalDb;
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::OutboxCounts;
use crate::outbox::durable::kept;
use crate::outbox::entry::{ACKNOWLEDGED, IN_FLIGHT, KEPT, PENDING, REJECTED, decode};
use crate::schema::TableNumber;

/// Where an own edit stands on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryState {
    /// It waits to be sent.
    Pending {
        /// Whether an earlier sending had no answer, so that the gateway may have it.
        in_doubt: bool,
        /// Whether it waits until the gateway's schema has a place for it.
        held: bool,
    },
    /// It is on its way.
    InFlight,
    /// The gateway has it under this arrival number; no page has confirmed it yet.
    Acknowledged(Seq),
    /// It is confirmed, and kept until the warehouse has it.
    Kept(Seq),
}

/// An own edit on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Its number: edits are sent in this order.
    pub entry: i64,
    /// Where it stands.
    pub state: EntryState,
    /// Its table.
    pub table: TableName,
    /// Its row.
    pub row_id: RowId,
    /// What it does.
    pub op: Op,
    /// What it writes.
    pub columns: Vec<ColumnChange>,
    /// Its stamp.
    pub hlc: Hlc,
}

impl LocalDb {
    /// How many own edits stand where on their way.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outbox_counts(&self) -> Result<OutboxCounts, ClientError> {
        counts(&self.local().connection)
    }

    /// The oldest own edits that are not done with, dead letters apart, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outbox(&self, limit: usize) -> Result<Vec<OutboxEntry>, ClientError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.keep(|work| list(work, limit))
    }
}

fn list(work: &Work<'_>, limit: i64) -> Result<Vec<OutboxEntry>, ClientError> {
    let mut statement = work.tx.prepare_cached(
        "SELECT entry, state, doubt, seq, delta FROM _lakesync_outbox WHERE state <= 3 ORDER BY entry LIMIT ?1",
    )?;
    let mut found = statement.query([limit])?;
    let mut entries = Vec::new();
    while let Some(row) = found.next()? {
        let seq: Option<i64> = row.get(3)?;
        let arrived = || Seq::from_i64(seq.unwrap_or(0)).map_err(ClientError::from);
        let state = match row.get(1)? {
            PENDING => EntryState::Pending {
                in_doubt: row.get(2)?,
                held: seq.is_some(),
            },
            IN_FLIGHT => EntryState::InFlight,
            ACKNOWLEDGED => EntryState::Acknowledged(arrived()?),
            KEPT => EntryState::Kept(arrived()?),
            other => return Err(unknown_state(other)),
        };
        let blob = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        let delta = decode(blob, work.registry)?;
        entries.push(OutboxEntry {
            entry: row.get(0)?,
            state,
            table: delta.table,
            row_id: delta.row_id,
            op: delta.op,
            columns: delta.columns,
            hlc: delta.hlc,
        });
    }
    Ok(entries)
}

/// Entries by state. Asked at every status, so it looks at nothing that is only kept.
pub(crate) fn counts(connection: &Connection) -> Result<OutboxCounts, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT state, count(*) FROM _lakesync_outbox WHERE state < 3 GROUP BY state \
         UNION ALL SELECT state, count(*) FROM _lakesync_outbox WHERE state > 3 GROUP BY state",
    )?;
    let mut found = statement.query([])?;
    let mut counts = OutboxCounts::default();
    while let Some(row) = found.next()? {
        let place = match row.get(0)? {
            PENDING => &mut counts.pending,
            IN_FLIGHT => &mut counts.in_flight,
            ACKNOWLEDGED => &mut counts.acknowledged,
            REJECTED => &mut counts.rejected,
            other => return Err(unknown_state(other)),
        };
        *place = counted(row.get(1)?);
    }
    counts.kept = counted(kept(connection)?);
    // Captured changes are numbered from 1, and only ever go all together. To count them would read them.
    let mut statement =
        connection.prepare_cached("SELECT coalesce(max(change), 0) FROM _lakesync_changes")?;
    counts.pending += counted(statement.query_row([], |row| row.get(0))?);
    Ok(counts)
}

/// The sealed edits that have not been sent, by table: what waits when a schema does not fit.
pub(crate) fn waiting(connection: &Connection) -> Result<BTreeMap<TableNumber, u64>, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT table_number, count(*) FROM _lakesync_outbox WHERE state = 0 GROUP BY table_number",
    )?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, counted(row.get(1)?))))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn counted(count: i64) -> u64 {
    u64::try_from(count).expect("SQLite counts from 0")
}

fn unknown_state(state: i64) -> ClientError {
    ClientError::Damaged {
        what: format!("an outbox entry has state {state}"),
    }
}
