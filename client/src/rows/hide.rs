//! What an own edit does to its row when it is sealed: it hides confirmed values, which must be kept for the day that the
//! edit is refused.
//!
//! ```text
//! clocks        in t before   C                       kept
//! none          no            nothing was heard       nothing; empty clocks say so while own edits show
//! none          yes           settled                 the values before the edit; of a deleted row also the clocks
//! some          yes           what they say           the values before the edit, where C may have any
//! some          no            hidden by own deletes   is kept already
//! ```
//! Invariant: afterwards the row still says what its C is, without the outbox. A value that is kept already stays: it is
//! the confirmed one, whatever own edits have shown since.

use lakesync_proto::{Op, RowDelta, Stamp};
use rusqlite::types::{Null, Value as SqlValue};

use super::clocks::RowClocks;
use super::confirmed::{Place, hide_value, read_clocks, write_clocks};
use crate::error::ClientError;
use crate::local::Work;
use crate::schema::{LocalColumn, LocalTable, Slot};

/// What a sealed edit does to its row beyond what `t` shows already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// It is newer than everything confirmed: what stands in `t` is right.
    Shows,
    /// Something confirmed is newer, as a clock far ahead makes it: the row must be stored anew after the seal.
    Hidden,
}

/// Keeps the confirmed values that an own edit is about to hide: `before` are the values that its cells had in `t` before
/// it, by slot, none when the row was not there. A DELETE needs those of all columns. Called for each edit in order,
/// before it goes into the outbox.
pub(crate) fn hide_confirmed(
    work: &mut Work<'_>,
    table: &LocalTable,
    delta: &RowDelta,
    before: Option<&[(Slot, SqlValue)]>,
) -> Result<Own, ClientError> {
    let place = (table.number, &delta.row_id);
    let clocks = read_clocks(work.tx, place)?;
    match (clocks, before) {
        (None, None) => {
            if delta.op != Op::Delete {
                write_clocks(work.tx, place, Some(&RowClocks::default()))?;
            }
            Ok(Own::Shows)
        }
        (None, Some(before)) => {
            let clocks = RowClocks::settled();
            hide_cells(work, (table, place), (delta, &clocks), before)?;
            if delta.op == Op::Delete {
                write_clocks(work.tx, place, Some(&clocks))?;
            }
            Ok(Own::Shows)
        }
        (Some(clocks), Some(before)) => {
            hide_cells(work, (table, place), (delta, &clocks), before)?;
            Ok(outcome(table, delta, &clocks))
        }
        (Some(clocks), None) => {
            // An own DELETE has kept every value. One that it has not was overwritten by a REPLACE of a program that does
            // not capture what it replaces: the value is lost until the gateway says it again.
            for column in clocks_columns(table, &clocks) {
                hide_value(work.tx, place, column.slot, Null)?;
            }
            Ok(outcome(table, delta, &clocks))
        }
    }
}

/// Keeps the values of those cells that the edit writes and C may have.
fn hide_cells(
    work: &Work<'_>,
    (table, place): (&LocalTable, Place<'_>),
    (delta, clocks): (&RowDelta, &RowClocks),
    before: &[(Slot, SqlValue)],
) -> Result<(), ClientError> {
    for column in clocks_columns(table, clocks) {
        let wrote = |change: &lakesync_proto::ColumnChange| change.column == column.name;
        if delta.op != Op::Delete && !delta.columns.iter().any(wrote) {
            continue;
        }
        let value = before.iter().find(|(slot, _)| *slot == column.slot);
        match value {
            Some((_, value)) => hide_value(work.tx, place, column.slot, value)?,
            None => hide_value(work.tx, place, column.slot, Null)?,
        }
    }
    Ok(())
}

/// The columns that may have a confirmed value of their own: those of the key follow from the row id.
fn clocks_columns<'t>(
    table: &'t LocalTable,
    clocks: &'t RowClocks,
) -> impl Iterator<Item = &'t LocalColumn> {
    let columns = table.columns.iter();
    columns.filter(|column| clocks.may_have(column.slot) && !table.is_key(&column.name))
}

fn outcome(table: &LocalTable, delta: &RowDelta, clocks: &RowClocks) -> Own {
    let stamp = delta.stamp();
    let shows = match delta.op {
        // What is newer than a DELETE is not newer than the newest write.
        Op::Delete => clocks
            .written
            .as_ref()
            .is_none_or(|newest: &Stamp| stamp > *newest),
        _ => {
            clocks.is_above_delete(&stamp)
                && delta.columns.iter().all(|change| {
                    let column = table.column(&change.column);
                    column.is_none_or(|column| clocks.takes(column.slot, &stamp))
                })
        }
    };
    match shows {
        true => Own::Shows,
        false => Own::Hidden,
    }
}
