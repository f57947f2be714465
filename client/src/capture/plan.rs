//! What a captured change means: which deltas it makes.
//!
//! ```text
//! insert                 INSERT of what is not null, and of nulls that were written explicitly
//! insert that replaced   DELETE, INSERT
//! insert of what went in silence, as REPLACE of another program takes it: nothing
//! update                 UPDATE of what differs
//! delete                 DELETE
//! move                   DELETE of the old row, INSERT of the new one: a key never changes
//! ```
//! Invariant: pure. A value that no delta can carry makes the whole change unfit, and its deltas are still told (with
//! nulls), because the row has to fall back to what it was before them.

use lakesync_proto::{ColumnChange, ColumnName, ColumnType, Op, RowId, Value};
use rusqlite::types::{Value as SqlValue, ValueRef};

use super::change::{Change, Side};
use crate::schema::{self, LocalColumn, LocalTable, Slot};
use crate::value::{copied, from_written};

/// Values of cells, by slot.
pub(super) type Cells = Vec<(Slot, SqlValue)>;

/// A delta that lacks its stamp.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) op: Op,
    pub(super) row_id: RowId,
    pub(super) columns: Vec<ColumnChange>,
    /// What its cells held before it; none when the row was not there.
    pub(super) before: Option<Cells>,
}

/// What a change means.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// In their order.
    pub(super) drafts: Vec<Draft>,
    /// Why the change is a dead letter.
    pub(super) unfit: Option<String>,
    /// The row that it has made in `t` can have no row id.
    pub(super) nameless: bool,
    /// What to write over what was written.
    pub(super) normal: Vec<Normal>,
}

/// The normal form of a value that was written in another one; null for one that nobody can read.
#[derive(Debug, PartialEq)]
pub(super) struct Normal {
    pub(super) column: ColumnName,
    pub(super) slot: Slot,
    pub(super) value: Value,
}

/// Who made the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// This client, in a transaction with its own time.
    Own,
    /// Another program, or a connection of this one that the client does not know.
    Foreign,
}

/// Plans one change. `replaced` is what an insert took away in silence.
pub(super) fn plan(
    change: &Change<'_>,
    table: &LocalTable,
    writer: Writer,
    replaced: Option<Cells>,
) -> Plan {
    let mut plan = Plan::default();
    let old = change.old_row_id(table);
    let new = change.new_row_id(table);
    match change.kind {
        schema::INSERT | schema::ADD => {
            if let Some(Ok(row_id)) = new {
                if replaced.is_some() {
                    plan.delete(row_id.clone(), replaced);
                }
                let columns = plan.inserted(change, table, Nulls::Explicit);
                plan.insert(row_id, columns);
            } else if let Some(Err(reason)) = new {
                plan.no_name(&reason);
            }
        }
        schema::UPDATE | schema::NULL => match old {
            Some(Ok(row_id)) => {
                let (columns, before) = match change.kind {
                    schema::UPDATE => plan.updated(change, table),
                    _ => nulled(change, table),
                };
                plan.drafts.push(Draft {
                    op: Op::Update,
                    row_id,
                    columns,
                    before: Some(before),
                });
            }
            Some(Err(reason)) => plan.no_name(&reason),
            None => {}
        },
        schema::DELETE => {
            if let Some(Ok(row_id)) = old {
                plan.delete(row_id, Some(all(change, table)));
            }
        }
        schema::MOVE => {
            if let Some(Ok(row_id)) = old {
                plan.delete(row_id, Some(all(change, table)));
            }
            // UPDATE OR REPLACE of another program may have taken a row away: its values must not show through.
            let nulls = match writer {
                Writer::Own => Nulls::Explicit,
                Writer::Foreign => Nulls::All,
            };
            match new {
                Some(Ok(row_id)) => {
                    let columns = plan.inserted(change, table, nulls);
                    plan.insert(row_id, columns);
                }
                Some(Err(reason)) => plan.no_name(&reason),
                None => {}
            }
        }
        _ => {}
    }
    plan
}

/// Plans an insert whose row went before anybody could read it: what it took away is gone.
pub(super) fn gone(change: &Change<'_>, table: &LocalTable, replaced: Option<Cells>) -> Plan {
    let mut plan = Plan::default();
    if let (Some(Ok(row_id)), Some(cells)) = (change.new_row_id(table), replaced) {
        plan.delete(row_id, Some(cells));
    }
    plan
}

/// Which nulls of a new row are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    /// Those that the typed API marked.
    Explicit,
    /// Every one.
    All,
}

impl Plan {
    fn delete(&mut self, row_id: RowId, before: Option<Cells>) {
        self.drafts.push(Draft {
            op: Op::Delete,
            row_id,
            columns: Vec::new(),
            before,
        });
    }

    fn insert(&mut self, row_id: RowId, columns: Vec<ColumnChange>) {
        self.drafts.push(Draft {
            op: Op::Insert,
            row_id,
            columns,
            before: None,
        });
    }

    fn no_name(&mut self, reason: &str) {
        self.nameless = true;
        self.unfit = Some(format!("the row can have no row id: {reason}"));
    }

    fn inserted(
        &mut self,
        change: &Change<'_>,
        table: &LocalTable,
        nulls: Nulls,
    ) -> Vec<ColumnChange> {
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let written = change.value(Side::New, column.slot);
            // Beside the values of an insert there is only the mark of the typed API.
            let marked =
                change.is_insert() && change.value(Side::Old, column.slot) != ValueRef::Null;
            if written != ValueRef::Null || marked || nulls == Nulls::All {
                columns.push(self.column(column, written));
            }
        }
        columns
    }

    fn updated(&mut self, change: &Change<'_>, table: &LocalTable) -> (Vec<ColumnChange>, Cells) {
        let (mut columns, mut before) = (Vec::new(), Vec::new());
        for column in &table.columns {
            let new = change.value(Side::New, column.slot);
            let old = change.value(Side::Old, column.slot);
            if new != old {
                columns.push(self.column(column, new));
                before.push((column.slot, copied(old)));
            }
        }
        (columns, before)
    }

    fn column(&mut self, column: &LocalColumn, written: ValueRef<'_>) -> ColumnChange {
        let name = column.name.clone();
        let (value, is_normal) = match from_written(written, column.column_type) {
            Ok(value) => {
                let is_normal = is_normal(&value, written, column.column_type);
                (value, is_normal)
            }
            Err(reason) => {
                self.unfit
                    .get_or_insert_with(|| format!("column {name}: {reason}"));
                (Value::Null, false)
            }
        };
        if !is_normal {
            self.normal.push(Normal {
                column: name.clone(),
                slot: column.slot,
                value: value.clone(),
            });
        }
        ColumnChange {
            column: name,
            value,
        }
    }
}

/// Whether what was written is the one form that the value has. Constraints see to it but for JSON.
fn is_normal(value: &Value, written: ValueRef<'_>, column_type: ColumnType) -> bool {
    match (column_type, value, written) {
        (ColumnType::Json, Value::Json(normal), ValueRef::Text(text)) => normal.as_bytes() == text,
        (ColumnType::Json, _, ValueRef::Text(_)) => false,
        _ => true,
    }
}

/// Nulls that the typed API wrote where null stood already.
fn nulled(change: &Change<'_>, table: &LocalTable) -> (Vec<ColumnChange>, Cells) {
    let marked = |column: &&LocalColumn| {
        !table.is_key(&column.name) && change.value(Side::Old, column.slot) != ValueRef::Null
    };
    let columns: Vec<&LocalColumn> = table.columns.iter().filter(marked).collect();
    let changes = columns.iter().map(|column| ColumnChange {
        column: column.name.clone(),
        value: Value::Null,
    });
    let before = columns.iter().map(|column| (column.slot, SqlValue::Null));
    (changes.collect(), before.collect())
}

/// All values of the row before.
pub(super) fn all(change: &Change<'_>, table: &LocalTable) -> Cells {
    let columns = table.columns.iter();
    columns
        .map(|column| (column.slot, copied(change.value(Side::Old, column.slot))))
        .collect()
}
