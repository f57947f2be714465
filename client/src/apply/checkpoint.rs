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

use lakesync_proto::{Cursor, PullPage, RowId, Seq, TableName, TableSchema};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::heard::{Absolute, merge_rows};
use super::needs::bring_up;
use super::page::{Applied, check, learn, reach, start_over};
use crate::error::ClientError;
use crate::local::Work;
use crate::rows::{RowStatements, read_clocks, withdraw};
use crate::schema::LocalTable;
use crate::{outbox, state};

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
            reach(work, next.seq, page.notes.durable)
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
