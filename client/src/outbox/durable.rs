//! From acknowledged to gone: what pages confirm, what the warehouse has, and what goes again when a log was lost.
//!
//! Invariant: an edit that the gateway acknowledged is here until its pages have confirmed it and its warehouse holds it,
//! so a gateway that loses its disk gets it back.

use std::collections::BTreeSet;

use lakesync_proto::{Hlc, Op, RowDelta, RowId, Seq};
use rusqlite::Connection;

use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::entry::{CHUNK_ENTRIES, decode, table_of};
use crate::rows;
use crate::schema::TableNumber;
use crate::state;

/// Confirmed entries kept for a warehouse that has not got them, at most: some hundred megabytes of a disk. A gateway
/// that never writes to one would have them pile up for ever; beyond this the oldest go.
const KEPT_ENTRIES_MAX: i64 = 1_000_000;

/// The cursor has come to `seq`: acknowledged entries up to there are confirmed by pages, or not to be seen by this
/// client. The rows of those with the stamps `own` are as they must be.
pub(crate) fn cover(work: &mut Work<'_>, seq: Seq, own: &BTreeSet<Hlc>) -> Result<(), ClientError> {
    let durable = state::durable(work.tx)?.as_i64();
    let mut any = false;
    while let Some(chunk) = acknowledged(work, seq, own)? {
        any = true;
        work.tx
            .prepare_cached("DELETE FROM _lakesync_outbox WHERE state = 2 AND seq <= min(?1, ?2)")?
            .execute([chunk.last, durable])?;
        let more = work
            .tx
            .prepare_cached("UPDATE _lakesync_outbox SET state = 3 WHERE state = 2 AND seq <= ?1")?
            .execute([chunk.last])?;
        count(work.tx, Change::More(more))?;
        restore(work, chunk.rows)?;
    }
    if any { trim(work) } else { Ok(()) }
}

/// The oldest acknowledged entries up to a seq.
struct Chunk {
    last: i64,
    /// The rows that may show something else once their entries are covered.
    rows: Vec<(TableNumber, String)>,
}

fn acknowledged(
    work: &Work<'_>,
    seq: Seq,
    own: &BTreeSet<Hlc>,
) -> Result<Option<Chunk>, ClientError> {
    let mut statement = work.tx.prepare_cached(
        "SELECT seq, table_number, delta, hlc FROM _lakesync_outbox WHERE state = 2 AND seq <= ?1 ORDER BY seq LIMIT ?2",
    )?;
    let limit = i64::try_from(CHUNK_ENTRIES).expect("ten thousand");
    let mut found = statement.query([seq.as_i64(), limit])?;
    let mut chunk = None;
    while let Some(row) = found.next()? {
        let chunk = chunk.get_or_insert_with(|| Chunk {
            last: 0,
            rows: Vec::new(),
        });
        chunk.last = row.get(0)?;
        let hlc: i64 = row.get(3)?;
        if Hlc::from_i64(hlc).is_ok_and(|hlc| own.contains(&hlc)) {
            continue;
        }
        let number = row.get(1)?;
        let blob = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let delta = decode(blob, work.registry)?;
        if !is_confirmed(work, number, &delta)? {
            chunk.rows.push((number, delta.row_id.to_string()));
        }
    }
    Ok(chunk)
}

/// Whether what is confirmed of the row has this delta in it, or something newer in its place: then the row shows the same
/// with it and without it. That is so of nearly all, because a page that covers them has brought them.
fn is_confirmed(
    work: &Work<'_>,
    number: TableNumber,
    delta: &RowDelta,
) -> Result<bool, ClientError> {
    let Some(clocks) = rows::read_clocks(work.tx, (number, &delta.row_id))? else {
        return Ok(false);
    };
    let stamp = delta.stamp();
    if !clocks.is_above_delete(&stamp) {
        return Ok(true);
    }
    let table = table_of(work.registry, number)?;
    let mut slots = delta.columns.iter().filter_map(|change| {
        let column = table.column(&change.column)?;
        Some(column.slot)
    });
    let is_written = clocks
        .written
        .as_ref()
        .is_some_and(|newest| *newest >= stamp);
    Ok(delta.op != Op::Delete && is_written && slots.all(|slot| !clocks.takes(slot, &stamp)))
}

/// Brings rows to what they must show, each once: a row with many edits is read with all of them.
pub(super) fn restore(
    work: &mut Work<'_>,
    mut rows: Vec<(TableNumber, String)>,
) -> Result<(), ClientError> {
    rows.sort_unstable();
    rows.dedup();
    for (number, row_id) in rows {
        let table = table_of(work.registry, number)?;
        rows::restore(work, &table, &RowId::parse(&row_id)?)?;
    }
    Ok(())
}

/// How many entries are kept. There may be a million of them, so they are counted as they come and go.
pub(super) fn kept(connection: &Connection) -> Result<i64, ClientError> {
    match state::kept(connection)? {
        Some(kept) => Ok(kept),
        // A file that has never kept any.
        None => {
            let sql = "SELECT count(*) FROM _lakesync_outbox WHERE state = 3";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([], |row| row.get(0))?)
        }
    }
}

/// How many entries have become kept, or are so no more.
#[derive(Clone, Copy)]
enum Change {
    More(usize),
    Fewer(usize),
}

/// Notes a change that has just been made.
fn count(connection: &Connection, change: Change) -> Result<(), ClientError> {
    let by = |entries: usize| i64::try_from(entries).expect("SQLite counts in 63 bits");
    let by = match change {
        Change::More(0) | Change::Fewer(0) => return Ok(()),
        Change::More(entries) => by(entries),
        Change::Fewer(entries) => -by(entries),
    };
    let kept = match state::kept(connection)? {
        Some(kept) => (kept + by).max(0),
        None => kept(connection)?,
    };
    state::set_kept(connection, kept)
}

fn trim(work: &Work<'_>) -> Result<(), ClientError> {
    if kept(work.tx)? <= KEPT_ENTRIES_MAX {
        return Ok(());
    }
    let fewer = work
        .tx
        .prepare_cached(
            "DELETE FROM _lakesync_outbox WHERE state = 3 AND seq <= \
             (SELECT seq FROM _lakesync_outbox WHERE state = 3 ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([KEPT_ENTRIES_MAX])?;
    count(work.tx, Change::Fewer(fewer))
}

/// The warehouse has everything up to `seq`: what was kept for it goes. [`Seq::MAX`] forgets all that is confirmed, which
/// is what a session does that keeps nothing.
pub(crate) fn forget(work: &mut Work<'_>, seq: Seq) -> Result<(), ClientError> {
    let fewer = work
        .tx
        .prepare_cached("DELETE FROM _lakesync_outbox WHERE state = 3 AND seq <= ?1")?
        .execute([seq.as_i64()])?;
    count(work.tx, Change::Fewer(fewer))
}

/// The gateway's log is another one: what was acknowledged and is still here goes again.
pub(crate) fn resend(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let mut resent = 0;
    loop {
        // Confirmed until now, own edits again from now on: their rows have both.
        let kept = some_kept(work)?;
        if kept.is_empty() {
            break;
        }
        let mut rows = Vec::with_capacity(kept.len());
        let fewer = kept.len();
        for (entry, number, row_id) in kept {
            resent += again(work, "entry = ?1", entry)?;
            rows.push((number, row_id));
        }
        count(work.tx, Change::Fewer(fewer))?;
        restore(work, rows)?;
    }
    Ok(resent + again(work, "state = ?1", 2)?)
}

fn some_kept(work: &Work<'_>) -> Result<Vec<(i64, TableNumber, String)>, ClientError> {
    let mut statement = work.tx.prepare_cached(
        "SELECT entry, table_number, row_id FROM _lakesync_outbox WHERE state = 3 LIMIT ?1",
    )?;
    let limit = i64::try_from(CHUNK_ENTRIES).expect("ten thousand");
    let found = statement.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Makes entries pending, in doubt: the new log may be a copy of the old one.
fn again(work: &Work<'_>, which: &str, of: i64) -> Result<u64, ClientError> {
    let sql = format!("UPDATE _lakesync_outbox SET state = 0, doubt = 1, seq = NULL WHERE {which}");
    let changed = work.tx.prepare_cached(&sql)?.execute([of])?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}
