//! All that a page says, put together by row.
//!
//! Invariant: what a page says of one row is merged in the order of its arrival, withdrawals included; rows are written in
//! the order of their ids, which is the order of the file's trees.

use std::collections::BTreeSet;

use lakesync_proto::{Hlc, PullPage, RowDelta, RowId, RowState, Seq, SeqDelta, TableName};

use super::merge::{confirm_own, merge_row};
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox;
use crate::rows::{RowImage, RowStatements, confirm};
use crate::schema::TableNumber;

/// Whether what a page says of a row is all there is to say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absolute {
    /// It adds to what is known.
    Never,
    /// It is, the first time that `_lakesync_seen` hears of the row.
    AtFirst,
}

/// How much a page said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// Deltas and removed rows.
    pub(super) changes: u64,
    /// Rows that they are of.
    pub(super) rows: u64,
    /// The stamps of own edits that came back and are confirmed now.
    pub(super) own: BTreeSet<Hlc>,
}

/// One thing said of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heard<'p> {
    /// It was written, or deleted.
    Delta(&'p RowDelta),
    /// It left what this client may see: nothing is known of it any more.
    Removed,
}

/// One thing said, and of which row.
struct OfRow<'p> {
    /// The place of its table among the page's.
    table: usize,
    row_id: &'p RowId,
    heard: Heard<'p>,
}

/// How a row is merged.
#[derive(Clone, Copy)]
struct How {
    /// Whether any row at all has own uncovered edits.
    uncovered: bool,
    /// Whether what was known of the row is forgotten first.
    anew: bool,
}

/// Merges everything that the page says. Tables are as the page needs them.
pub(super) fn merge_rows(
    work: &mut Work<'_>,
    page: &PullPage,
    absolute: Absolute,
) -> Result<Merged, ClientError> {
    let (mut tables, heard) = by_row(work, page);
    let uncovered = outbox::any_uncovered(work.tx)?;
    let mut merged = Merged::default();
    let mut put_off: Vec<(&[OfRow<'_>], How)> = Vec::new();
    for row in heard.chunk_by(|a, b| (a.table, a.row_id) == (b.table, b.row_id)) {
        merged.changes += u64::try_from(row.len()).expect("a length fits 64 bits");
        merged.rows += 1;
        let statements = &mut tables[row[0].table];
        let anew = absolute == Absolute::AtFirst
            && is_first_sight(work, statements.table().number, row[0].row_id)?;
        let how = How { uncovered, anew };
        match merge_one(work, statements, row, how) {
            Err(ClientError::RowForbidden { .. }) => put_off.push((row, how)),
            other => merged.own.extend(other?),
        }
    }
    settle(work, &mut tables, put_off)?;
    Ok(merged)
}

/// Merges the rows that an index of the application forbade: another row of the page may have made way. Each round merges
/// one at least, or ends with its error.
fn settle(
    work: &mut Work<'_>,
    tables: &mut [RowStatements<'_>],
    mut put_off: Vec<(&[OfRow<'_>], How)>,
) -> Result<(), ClientError> {
    while !put_off.is_empty() {
        let waiting = put_off.len();
        let mut forbidden = None;
        let mut still = Vec::new();
        for (row, how) in put_off {
            match merge_one(work, &mut tables[row[0].table], row, how) {
                Err(error @ ClientError::RowForbidden { .. }) => {
                    still.push((row, how));
                    forbidden.get_or_insert(error);
                }
                other => drop(other?),
            }
        }
        match forbidden {
            Some(error) if still.len() == waiting => return Err(error),
            _ => put_off = still,
        }
    }
    Ok(())
}

/// The stamp of an own edit that came back alone: nothing about its row is in doubt any more.
fn merge_one(
    work: &mut Work<'_>,
    statements: &mut RowStatements<'_>,
    row: &[OfRow<'_>],
    how: How,
) -> Result<Option<Hlc>, ClientError> {
    let row_id = row[0].row_id;
    let forget = how.anew.then_some(Heard::Removed);
    let heard = forget.into_iter().chain(row.iter().map(|one| one.heard));
    if how.uncovered {
        let pending = outbox::uncovered(work, statements.table().number, row_id)?;
        if let ([own], [only], false) = (pending.as_slice(), row, how.anew)
            && let Heard::Delta(delta) = only.heard
            && own.stamp() == delta.stamp()
        {
            confirm_own(work, statements, delta)?;
            return Ok(Some(delta.hlc));
        }
        if !pending.is_empty() {
            let mut image = RowImage::load_by(work, statements, row_id, pending)?;
            for heard in heard {
                match heard {
                    Heard::Delta(delta) => confirm(&mut image.confirmed, delta),
                    Heard::Removed => image.confirmed = RowState::default(),
                }
            }
            image.store_by(work, statements, row_id)?;
            return Ok(None);
        }
    }
    merge_row(work, statements, row_id, heard)?;
    Ok(None)
}

/// The page's tables, and what it says, by table, row and arrival. Withdrawn rows of unknown tables are not here anyway.
fn by_row<'a, 'p>(work: &Work<'a>, page: &'p PullPage) -> (Vec<RowStatements<'a>>, Vec<OfRow<'p>>) {
    let mut names: Vec<&TableName> = Vec::new();
    let mut tables: Vec<RowStatements<'a>> = Vec::new();
    let mut heard: Vec<(Seq, OfRow<'p>)> = Vec::new();
    let deltas = page.deltas.iter().map(|delta| {
        let SeqDelta { seq, delta } = delta.as_ref();
        (*seq, &delta.table, &delta.row_id, Heard::Delta(delta))
    });
    let removed = page.removed.iter();
    let removed = removed.map(|r| (r.seq, &r.table, &r.row_id, Heard::Removed));
    for (seq, name, row_id, what) in removed.chain(deltas) {
        let known = names.iter().rposition(|known| *known == name);
        let table = match known {
            Some(table) => table,
            None => {
                let Ok(table) = work.registry.table(name) else {
                    continue;
                };
                names.push(name);
                tables.push(RowStatements::new(work.tx, table));
                tables.len() - 1
            }
        };
        let heard_of = OfRow {
            table,
            row_id,
            heard: what,
        };
        heard.push((seq, heard_of));
    }
    // Stable: what has one seq stays as it came.
    heard.sort_by(|(a_seq, a), (b_seq, b)| {
        (a.table, a.row_id, a_seq).cmp(&(b.table, b.row_id, b_seq))
    });
    (tables, heard.into_iter().map(|(_, heard)| heard).collect())
}

/// Whether a checkpoint brings the row for the first time.
fn is_first_sight(
    work: &Work<'_>,
    table: TableNumber,
    row_id: &RowId,
) -> Result<bool, ClientError> {
    let mut statement = work
        .tx
        .prepare_cached("INSERT INTO _lakesync_seen VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    Ok(statement.execute((table, row_id.as_str()))? > 0)
}
