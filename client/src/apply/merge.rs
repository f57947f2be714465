//! One row of a page whose values need not be read: no own edit touches it, so what shows is what is confirmed; or its only
//! own edit comes back, so what shows stays.
//!
//! Invariant: the row becomes what [`confirm`](crate::rows::confirm) makes of it, by its clocks alone; only values that
//! win are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{Op, RowDelta, RowId, Value};

use super::heard::Heard;
use crate::error::ClientError;
use crate::local::Work;
use crate::rows::{RowClocks, RowStatements, forget_values};
use crate::schema::{LocalColumn, LocalTable, Slot};

/// Merges what was heard of a row into it, in this order.
pub(super) fn merge_row<'p>(
    work: &mut Work<'_>,
    statements: &mut RowStatements<'_>,
    row_id: &RowId,
    heard: impl Iterator<Item = Heard<'p>>,
) -> Result<(), ClientError> {
    let key = statements.table().key(row_id)?;
    let stored = statements.clocks(row_id)?;
    let has_clocks = stored.is_some();
    let (clocks, there) = match stored {
        Some(clocks) if clocks.exists() => (clocks, true),
        Some(clocks) => (clocks, statements.exists(&key)?),
        None => match statements.exists(&key)? {
            true => (RowClocks::settled(), true),
            false => (RowClocks::default(), false),
        },
    };
    let mut merge = Merge::new(clocks);
    for heard in heard {
        match heard {
            Heard::Delta(delta) if delta.op == Op::Delete => {
                merge.delete(statements.columns(), delta);
            }
            Heard::Delta(delta) => merge.write(statements.table(), delta),
            Heard::Removed => merge.forget(statements.columns()),
        }
    }
    if !merge.changed {
        return Ok(());
    }
    let exists = merge.clocks.exists();
    let shown = match (there, exists) {
        (false, false) => Ok(false),
        (true, false) => statements.delete(&key),
        (false, true) => {
            let value_of = |slot| merge.values.get(&slot).copied().flatten();
            statements.insert(&key, value_of).map(|()| true)
        }
        (true, true) => {
            let values: Vec<(Slot, Option<&Value>)> = merge.values.into_iter().collect();
            statements.update(&key, &values)
        }
    };
    if shown.map_err(|error| statements.explained(row_id, error))? {
        work.touched.row(&statements.table().schema.table, row_id);
    }
    keep_clocks(statements, row_id, (&merge.clocks, has_clocks))
}

/// Writes down the clocks of a row, when they are not what its absence says.
fn keep_clocks(
    statements: &mut RowStatements<'_>,
    row_id: &RowId,
    (clocks, has_clocks): (&RowClocks, bool),
) -> Result<(), ClientError> {
    let implied = match clocks.exists() {
        true => clocks.is_settled(),
        false => clocks.is_empty(),
    };
    match (implied, has_clocks) {
        (false, _) => statements.set_clocks(row_id, Some(clocks)),
        (true, true) => statements.set_clocks(row_id, None),
        (true, false) => Ok(()),
    }
}

/// The only own edit of a row comes back, and nothing else is said of the row: it shows already what is confirmed from now
/// on. So the clocks learn of the edit, and nothing is hidden any more.
pub(super) fn confirm_own(
    work: &Work<'_>,
    statements: &mut RowStatements<'_>,
    delta: &RowDelta,
) -> Result<(), ClientError> {
    let table = Arc::clone(statements.table());
    let stored = statements.clocks(&delta.row_id)?;
    let has_clocks = stored.is_some();
    let clocks = match stored {
        Some(clocks) => clocks,
        None => match statements.exists(&table.key(&delta.row_id)?)? {
            true => RowClocks::settled(),
            false => RowClocks::default(),
        },
    };
    if clocks.rest_settled || !clocks.cells.is_empty() {
        forget_values(work.tx, (table.number, &delta.row_id))?;
    }
    let mut merge = Merge::new(clocks);
    match delta.op {
        Op::Delete => merge.delete(statements.columns(), delta),
        _ => merge.write(&table, delta),
    }
    keep_clocks(statements, &delta.row_id, (&merge.clocks, has_clocks))
}

/// A row's clocks, and the values that its columns are to have. Columns without one keep theirs.
struct Merge<'p> {
    clocks: RowClocks,
    values: BTreeMap<Slot, Option<&'p Value>>,
    changed: bool,
}

impl<'p> Merge<'p> {
    fn new(clocks: RowClocks) -> Merge<'p> {
        Merge {
            clocks,
            values: BTreeMap::new(),
            changed: false,
        }
    }

    fn write(&mut self, table: &LocalTable, delta: &'p RowDelta) {
        let stamp = delta.stamp();
        if !self.clocks.is_above_delete(&stamp) {
            return;
        }
        let mut columns = Columns::new(&table.columns);
        for change in &delta.columns {
            let Some(slot) = columns.slot(change.column.as_str()) else {
                continue;
            };
            if !self.clocks.takes(slot, &stamp) {
                continue;
            }
            let value = Some(&change.value).filter(|value| **value != Value::Null);
            self.values.insert(slot, value);
            if !stamp.is_settled() {
                self.clocks.cells.insert(slot, stamp.clone());
            }
            self.changed = true;
        }
        if stamp.is_settled() && !self.clocks.rest_settled {
            self.clocks.rest_settled = true;
            self.changed = true;
        }
        if self
            .clocks
            .written
            .as_ref()
            .is_none_or(|newest| stamp > *newest)
        {
            self.clocks.written = Some(stamp);
            self.changed = true;
        }
    }

    fn delete(&mut self, columns: &[LocalColumn], delta: &RowDelta) {
        let stamp = delta.stamp();
        if !self.clocks.is_above_delete(&stamp) {
            return;
        }
        for column in columns {
            let known = self.clocks.cells.get(&column.slot);
            if known.is_none_or(|known| *known <= stamp) {
                self.values.insert(column.slot, None);
            }
        }
        self.clocks.cells.retain(|_, known| *known > stamp);
        self.clocks.written.take_if(|newest| *newest <= stamp);
        self.clocks.rest_settled = false;
        self.clocks.deleted = Some(stamp);
        self.changed = true;
    }

    fn forget(&mut self, columns: &[LocalColumn]) {
        for column in columns {
            self.values.insert(column.slot, None);
        }
        self.clocks = RowClocks::default();
        self.changed = true;
    }
}

/// The slots of columns by name. A writer names them in the schema's order, mostly.
struct Columns<'t> {
    all: &'t [LocalColumn],
    next: usize,
}

impl<'t> Columns<'t> {
    fn new(all: &'t [LocalColumn]) -> Columns<'t> {
        Columns { all, next: 0 }
    }

    /// None for a column that was dropped.
    fn slot(&mut self, name: &str) -> Option<Slot> {
        let (before, behind) = self.all.split_at(self.next);
        let behind = behind.iter().zip(self.next..);
        let (column, place) = behind
            .chain(before.iter().zip(0..))
            .find(|(column, _)| column.name == name)?;
        self.next = (place + 1).min(self.all.len());
        Some(column.slot)
    }
}
