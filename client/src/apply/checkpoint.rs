//! A checkpoint, chunk by chunk.
//!
//! ```text
//! begin ─► chunk ─► chunk ─► … ─► the last chunk: sweep, cursor
//!            └ its rows, and what resumes behind it, in one transaction
//! ```
//! The rows of a checkpoint are complete: whatever else the file holds of them is from before. So the first time that one
//! brings a row, what was known of the row is forgotten, and rows that it has not brought by its end are swept. What was
//! brought is in `_lakesync_seen`. A file that was empty before needs none of this, and keeps no such list.
//!
//! Invariant: the cursor and what it counts change together, at the end. Until then pages are left alone, because what
//! they say could be forgotten again.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakesync_proto::{Cursor, PullPage, RowId, Seq, TableName, TableSchema};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::heard::{Absolute, merge_rows};
use super::needs::bring_up;
use super::page::{Applied, check, learn, reach, start_over};
use crate::error::ClientError;
use crate::local::Work;
use crate::rows::{RowStatements, read_clocks, withdraw};
use crate::schema::{LocalTable, TableNumber};
use crate::state;

/// Rows looked at together by a sweep: what it holds in memory.
const SWEEP_ROWS: usize = 1_000;

/// A checkpoint that is being loaded, as the file keeps it between chunks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Loading {
    /// Which tables; empty means all.
    pub(crate) tables: Vec<TableName>,
    /// What goes on behind the last chunk that was applied.
    pub(crate) resume: Option<String>,
    /// Where pulls go on afterwards, when the gateway has said so; else the checkpoint's own cursor.
    pub(crate) then: Option<String>,
    /// Whether rows that the checkpoint does not bring must go at its end: the tables were not empty before it.
    pub(crate) sweep: bool,
    /// The seq that all chunks are of; none before the first.
    pub(crate) seq: Option<Seq>,
    /// Rows applied so far.
    pub(crate) rows: u64,
}

/// The checkpoint that is being loaded.
pub(crate) fn loading(connection: &Connection) -> Result<Option<Loading>, ClientError> {
    let Some(text) = state::checkpoint(connection)? else {
        return Ok(None);
    };
    let loading = serde_json::from_str(&text).map_err(|error| ClientError::Damaged {
        what: format!("_lakesync_state holds no checkpoint's progress: {error}"),
    })?;
    Ok(Some(loading))
}

/// Notes that a checkpoint is to be loaded, instead of one that was begun before. `then` is where pulls go on after a
/// checkpoint of some tables; without it they go on where they are.
pub(crate) fn begin_checkpoint(
    work: &mut Work<'_>,
    tables: &[TableName],
    then: Option<&Cursor>,
) -> Result<Loading, ClientError> {
    let loading = Loading {
        tables: tables.to_vec(),
        resume: None,
        then: then.map(Cursor::to_string),
        sweep: holds_rows(work, tables)?,
        seq: None,
        rows: 0,
    };
    forget_seen(work.tx)?;
    save(work.tx, &loading)?;
    Ok(loading)
}

/// Takes one chunk; the last one ends the checkpoint: sweeps, and moves the cursor. A chunk of another checkpoint than the
/// one that is being loaded is stale.
pub(crate) fn chunk(
    work: &mut Work<'_>,
    page: &PullPage,
    schemas: &[TableSchema],
) -> Result<Applied, ClientError> {
    let Some(mut loading) = loading(work.tx)? else {
        return Ok(Applied::STALE);
    };
    check(page)?;
    let other_log = state::epoch(work.tx)?.is_some_and(|epoch| epoch != page.epoch);
    match loading.seq {
        Some(seq) if seq != page.cursor || other_log => return Ok(Applied::STALE),
        Some(_) => {}
        None if other_log => start_over(work, &page.epoch)?,
        None => state::set_epoch(work.tx, &page.epoch)?,
    }
    bring_up(work, page, schemas)?;
    let absolute = match loading.sweep {
        true => Absolute::AtFirst,
        false => Absolute::Never,
    };
    let merged = merge_rows(work, page, absolute)?;
    learn(work, page)?;
    loading.seq = Some(page.cursor);
    loading.resume = page.notes.resume.clone();
    loading.rows += merged.rows;
    match page.has_more {
        true => save(work.tx, &loading)?,
        false => end(work, &loading, page)?,
    }
    Ok(Applied {
        changes: merged.changes,
        ..Applied::default()
    })
}

fn end(work: &mut Work<'_>, loading: &Loading, page: &PullPage) -> Result<(), ClientError> {
    if loading.sweep {
        for table in chosen(work, &loading.tables) {
            sweep(work, &table)?;
        }
    }
    forget_seen(work.tx)?;
    state::set_checkpoint(work.tx, None)?;
    let next = match (&loading.then, loading.tables.is_empty()) {
        (Some(then), _) => Some(parsed(then)?),
        (None, true) => page.notes.next.clone(),
        (None, false) => None,
    };
    match next {
        Some(next) => {
            state::set_cursor(work.tx, &next.to_string())?;
            reach(work, (next.seq, page.notes.durable), &BTreeSet::new())
        }
        None if loading.tables.is_empty() => Err(ClientError::Protocol {
            what: "a checkpoint that ends without a cursor".to_owned(),
        }),
        None => Ok(()),
    }
}

fn parsed(cursor: &str) -> Result<Cursor, ClientError> {
    cursor.parse().map_err(|error| ClientError::Damaged {
        what: format!("the cursor after a checkpoint: {error}"),
    })
}

/// Withdraws the rows of a table that the checkpoint has not brought. Own edits stay.
fn sweep(work: &mut Work<'_>, table: &Arc<LocalTable>) -> Result<(), ClientError> {
    let mut statements = RowStatements::new(work.tx, table);
    // First the rows with clocks, deleted ones among them. Those without clocks are settled: they stand in the table.
    let mut last = String::new();
    loop {
        let unseen = unseen_clocks(work.tx, table.number, &last)?;
        let Some(end) = unseen.last() else {
            break;
        };
        last.clone_from(end);
        for row_id in unseen {
            withdraw(work, &mut statements, &RowId::parse(&row_id)?)?;
        }
    }
    let mut last: Option<Vec<SqlValue>> = None;
    loop {
        let keys = next_keys(work.tx, table, last.as_deref())?;
        let Some(end) = keys.last() else {
            return Ok(());
        };
        last = Some(end.clone());
        for key in keys {
            let row_id = table.row_id(&key).map_err(|reason| ClientError::Damaged {
                what: format!("a row of {}: {reason}", table.schema.table),
            })?;
            let has_clocks = read_clocks(work.tx, (table.number, &row_id))?.is_some();
            if !has_clocks && !is_seen(work.tx, table, &row_id)? {
                withdraw(work, &mut statements, &row_id)?;
            }
        }
    }
}

/// The next rows that something was heard of and that were not brought. Rows that only own edits have made stay as they are.
fn unseen_clocks(
    connection: &Connection,
    table: TableNumber,
    last: &str,
) -> Result<Vec<String>, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT row_id FROM _lakesync_rows AS known WHERE table_number = ?1 AND row_id > ?2 AND clocks <> x'' AND NOT EXISTS
         (SELECT 1 FROM _lakesync_seen WHERE table_number = ?1 AND row_id = known.row_id) ORDER BY row_id LIMIT ?3",
    )?;
    let limit = i64::try_from(SWEEP_ROWS).expect("a thousand");
    let rows = statement.query_map((table, last, limit), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The next rows' values of [`LocalTable::identity`], in its order.
fn next_keys(
    connection: &Connection,
    table: &LocalTable,
    last: Option<&[SqlValue]>,
) -> Result<Vec<Vec<SqlValue>>, ClientError> {
    let (name, identity) = (&table.schema.table, table.identity());
    let marks: Vec<String> = (1..=table.key_len())
        .map(|mark| format!("?{mark}"))
        .collect();
    let behind = match last {
        Some(_) => format!("WHERE ({identity}) > ({})", marks.join(", ")),
        None => String::new(),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {identity} FROM \"{name}\" {behind} ORDER BY {identity} LIMIT {SWEEP_ROWS}"
    ))?;
    let parameters = params_from_iter(last.unwrap_or_default());
    let rows = statement.query_map(parameters, |row| {
        (0..table.key_len()).map(|index| row.get(index)).collect()
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn is_seen(
    connection: &Connection,
    table: &LocalTable,
    row_id: &RowId,
) -> Result<bool, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM _lakesync_seen WHERE table_number = ?1 AND row_id = ?2)",
    )?;
    Ok(statement.query_row((table.number, row_id.as_str()), |row| row.get(0))?)
}

/// Whether anything is known of any row of these tables.
fn holds_rows(work: &Work<'_>, tables: &[TableName]) -> Result<bool, ClientError> {
    for table in chosen(work, tables) {
        let holds: bool = work.tx.query_row(
            &format!(
                "SELECT EXISTS (SELECT 1 FROM _lakesync_rows WHERE table_number = ?1)
                 OR EXISTS (SELECT 1 FROM \"{}\")",
                table.schema.table
            ),
            [table.number],
            |row| row.get(0),
        )?;
        if holds {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The registered ones of these tables; none named are all.
fn chosen(work: &Work<'_>, tables: &[TableName]) -> Vec<Arc<LocalTable>> {
    let registered = work.registry.tables();
    let chosen =
        registered.filter(|table| tables.is_empty() || tables.contains(&table.schema.table));
    chosen.map(Arc::clone).collect()
}

fn save(connection: &Connection, loading: &Loading) -> Result<(), ClientError> {
    let text = serde_json::to_string(loading).expect("names, texts and numbers are plain JSON");
    state::set_checkpoint(connection, Some(&text))
}

fn forget_seen(connection: &Connection) -> Result<(), ClientError> {
    connection
        .prepare_cached("DELETE FROM _lakesync_seen")?
        .execute([])?;
    Ok(())
}
