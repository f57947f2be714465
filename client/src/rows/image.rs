//! A row in memory: read whole, merged, written whole.
//!
//! Invariant: reading gives what was written, and writing leaves the row as its doc in `rows` says, whatever stood there.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{Cell, ColumnName, Op, RowDelta, RowId, RowState, Stamp, Value};
use rusqlite::types::{Null, Value as SqlValue};

use super::Bound;
use super::clocks::RowClocks;
use super::confirmed::{forget_values, hidden_values, hide_value};
use super::visible::{RowStatements, VisibleRow, read};
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox;
use crate::schema::{LocalColumn, LocalTable, Slot};

/// One row as the file keeps it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RowImage {
    /// What the gateway's pages say, in its normal form: without what a delete covers, and without settled nulls.
    pub(crate) confirmed: RowState,
    /// Own edits that the cursor has not covered, oldest first.
    pub(crate) pending: Vec<RowDelta>,
}

impl RowImage {
    /// Reads a row; nothing at all when it was never heard of. Everything captured must be sealed.
    pub(crate) fn load(
        work: &Work<'_>,
        table: &LocalTable,
        row_id: &RowId,
    ) -> Result<RowImage, ClientError> {
        let table = Arc::clone(work.registry.table(&table.schema.table)?);
        let pending = outbox::uncovered(work, table.number, row_id)?;
        let mut statements = RowStatements::new(work.tx, &table);
        RowImage::load_by(work, &mut statements, row_id, pending)
    }

    /// Reads a row whose own edits are known, by its table's statements.
    pub(crate) fn load_by(
        work: &Work<'_>,
        statements: &mut RowStatements<'_>,
        row_id: &RowId,
        pending: Vec<RowDelta>,
    ) -> Result<RowImage, ClientError> {
        let table = Arc::clone(statements.table());
        let place = (table.number, row_id);
        let visible = statements.select(&table.key(row_id)?)?;
        let clocks = match (statements.clocks(row_id)?, &visible) {
            (Some(clocks), _) => clocks,
            (None, Some(_)) => RowClocks::settled(),
            (None, None) => RowClocks::default(),
        };
        let hidden = hidden_values(work.tx, place)?;
        Ok(RowImage {
            confirmed: confirmed(&table, row_id, clocks, (visible, hidden))?,
            pending,
        })
    }

    /// What shows: the merge of both.
    pub(crate) fn visible(&self) -> RowState {
        let mut visible = self.confirmed.clone();
        self.pending.iter().for_each(|delta| visible.apply(delta));
        visible
    }

    /// Writes clocks, confirmed values and the visible row, whatever stands there now.
    pub(crate) fn store(
        &self,
        work: &mut Work<'_>,
        table: &LocalTable,
        row_id: &RowId,
    ) -> Result<(), ClientError> {
        let table = Arc::clone(work.registry.table(&table.schema.table)?);
        let mut statements = RowStatements::new(work.tx, &table);
        self.store_by(work, &mut statements, row_id)
    }

    /// As [`RowImage::store`], by its table's statements.
    pub(crate) fn store_by(
        &self,
        work: &mut Work<'_>,
        statements: &mut RowStatements<'_>,
        row_id: &RowId,
    ) -> Result<(), ClientError> {
        let visible = self.visible();
        let table = Arc::clone(statements.table());
        if show(statements, row_id, &visible)? {
            work.touched.row(&table.schema.table, row_id);
        }
        let (place, clocks) = ((table.number, row_id), clocks_of(&table, &self.confirmed));
        let implied = match visible.exists() {
            true => clocks.is_settled(),
            false => clocks.is_empty(),
        };
        statements.set_clocks(row_id, (!implied).then_some(&clocks))?;
        forget_values(work.tx, place)?;
        let shown = shown_cells(&visible);
        let confirmed = shown_cells(&self.confirmed);
        for column in statements.columns() {
            match (confirmed.get(&column.name), shown.get(&column.name)) {
                (Some(cell), shown) if shown.is_none_or(|shown| shown.stamp != cell.stamp) => {
                    hide_value(work.tx, place, column.slot, Bound(Some(&cell.value)))?;
                }
                // No cell here is the same as a settled null; what shows is neither.
                (None, Some(_)) if clocks.rest_settled => {
                    hide_value(work.tx, place, column.slot, Null)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn shown_cells(state: &RowState) -> BTreeMap<&ColumnName, &Cell> {
    state.visible_cells().collect()
}

/// Brings `t` to what shows; whether that changed anything.
fn show(
    statements: &mut RowStatements<'_>,
    row_id: &RowId,
    visible: &RowState,
) -> Result<bool, ClientError> {
    let key = statements.table().key(row_id)?;
    let columns: Vec<LocalColumn> = statements.columns().to_vec();
    let value_of = |slot: Slot| {
        let column = columns.iter().find(|column| column.slot == slot)?;
        visible.visible(&column.name)
    };
    let changed = match (statements.exists(&key)?, visible.exists()) {
        (false, false) => Ok(false),
        (true, false) => statements.delete(&key),
        (false, true) => statements.insert(&key, value_of).map(|()| true),
        (true, true) => {
            let slots = columns.iter().map(|column| column.slot);
            let values: Vec<(Slot, Option<&Value>)> =
                slots.map(|slot| (slot, value_of(slot))).collect();
            statements.update(&key, &values)
        }
    };
    changed.map_err(|error| statements.explained(row_id, error))
}

/// The confirmed state, from its clocks, the visible row and the values that are hidden.
fn confirmed(
    table: &LocalTable,
    row_id: &RowId,
    clocks: RowClocks,
    (visible, hidden): (Option<VisibleRow>, Vec<(Slot, SqlValue)>),
) -> Result<RowState, ClientError> {
    let mut state = RowState {
        written: clocks.written.clone(),
        deleted: clocks.deleted.clone(),
        ..RowState::default()
    };
    if !clocks.exists() {
        return Ok(state);
    }
    let key: Vec<(_, Value)> = table.schema.key_values(row_id).unwrap_or_default();
    let visible = visible.unwrap_or_default();
    for column in &table.columns {
        let stamp = match clocks.cells.get(&column.slot) {
            Some(stamp) => stamp.clone(),
            None if clocks.rest_settled => Stamp::settled(),
            None => continue,
        };
        let of_key = key.iter().find(|(name, _)| *name == column.name);
        let kept = hidden.iter().find(|(slot, _)| *slot == column.slot);
        let shown = visible.iter().find(|(slot, _)| *slot == column.slot);
        let value = match (of_key, kept, shown) {
            (Some((_, value)), _, _) => value.clone(),
            (None, Some((_, stored)), _) => read(table, column, stored.into())?,
            (None, None, Some((_, value))) => value.clone(),
            // A trigger of the application took the row away, or the column is newer than the row.
            (None, None, None) => Value::Null,
        };
        if !stamp.is_settled() || value != Value::Null {
            let cell = Cell { stamp, value };
            state.cells.insert(column.name.clone(), cell);
        }
    }
    Ok(state)
}

/// The clocks of a state.
fn clocks_of(table: &LocalTable, state: &RowState) -> RowClocks {
    let mut clocks = RowClocks {
        written: state.written.clone().filter(|_| state.exists()),
        deleted: state.deleted.clone(),
        ..RowClocks::default()
    };
    clocks.rest_settled = clocks.written.as_ref().is_some_and(Stamp::is_settled);
    for (name, cell) in state.visible_cells() {
        match table.column(name) {
            _ if cell.stamp.is_settled() => clocks.rest_settled = true,
            Some(column) => {
                clocks.cells.insert(column.slot, cell.stamp.clone());
            }
            None => {}
        }
    }
    clocks
}

/// Adds a delta to what is confirmed and brings it to its normal form. Of two settled values the one that was heard last
/// stands: neither has a clock that tells which is newer.
pub(crate) fn confirm(state: &mut RowState, delta: &RowDelta) {
    if delta.op != Op::Delete && delta.stamp().is_settled() {
        for change in &delta.columns {
            let known = state.cells.get(&change.column);
            if known.is_some_and(|cell| cell.stamp.is_settled()) {
                state.cells.remove(&change.column);
            }
        }
    }
    state.apply(delta);
    if !state.exists() {
        state.written = None;
        state.cells.clear();
    }
    let RowState { deleted, cells, .. } = state;
    cells.retain(|_, cell| {
        let shows = deleted.as_ref().is_none_or(|deleted| cell.stamp > *deleted);
        shows && !(cell.stamp.is_settled() && cell.value == Value::Null)
    });
}

/// Brings a row to what it must show: after a refusal, a cover, a seal that lost.
pub(crate) fn restore(
    work: &mut Work<'_>,
    table: &LocalTable,
    row_id: &RowId,
) -> Result<(), ClientError> {
    let image = RowImage::load(work, table, row_id)?;
    image.store(work, table, row_id)
}

/// Forgets what the gateway said of a row. Own edits stay.
pub(crate) fn withdraw(
    work: &mut Work<'_>,
    statements: &mut RowStatements<'_>,
    row_id: &RowId,
) -> Result<(), ClientError> {
    let pending = outbox::uncovered(work, statements.table().number, row_id)?;
    let image = RowImage {
        confirmed: RowState::default(),
        pending,
    };
    image.store_by(work, statements, row_id)
}
