//! One captured change, as a trigger wrote it down.
//!
//! Invariant: reading interprets nothing: which values count, and for what, is decided in `plan`.

use lakesync_proto::RowId;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::error::ClientError;
use crate::schema::{self, FIXED_COLUMNS, LocalTable, Slot, TableNumber};
use crate::value::copied;

/// A row of `_lakesync_changes`, all columns selected.
pub(super) struct Change<'r> {
    row: &'r Row<'r>,
    pub(super) number: i64,
    pub(super) kind: i64,
    pub(super) table_number: TableNumber,
    /// SQLite's clock at the change of another program.
    pub(super) at_ms: i64,
    /// What an insert wrote whose trigger wrote down the key alone.
    pub(super) written: WrittenCells,
}

/// Values of cells as SQLite has them, by slot: texts may be no UTF-8.
pub(super) type WrittenCells = Vec<(Slot, Stored)>;

/// A value as SQLite has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Stored {
    fn from(value: ValueRef<'_>) -> Stored {
        match value {
            ValueRef::Null => Stored::Null,
            ValueRef::Integer(number) => Stored::Integer(number),
            ValueRef::Real(number) => Stored::Real(number),
            ValueRef::Text(bytes) => Stored::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Stored::Blob(bytes.to_vec()),
        }
    }
}

impl Stored {
    fn read(&self) -> ValueRef<'_> {
        match self {
            Stored::Null => ValueRef::Null,
            Stored::Integer(number) => ValueRef::Integer(*number),
            Stored::Real(number) => ValueRef::Real(*number),
            Stored::Text(bytes) => ValueRef::Text(bytes),
            Stored::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

/// The row id that a change names, or why it names none.
pub(super) type Named = Result<RowId, String>;

/// The values before a change, or after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

impl<'r> Change<'r> {
    pub(super) fn read(row: &'r Row<'r>) -> Result<Change<'r>, ClientError> {
        Ok(Change {
            row,
            number: row.get(0)?,
            kind: row.get(1)?,
            table_number: row.get(2)?,
            at_ms: row.get::<_, Option<i64>>(3)?.unwrap_or(0),
            written: WrittenCells::new(),
        })
    }

    /// The value of a slot. A slot that the table has got since has none.
    pub(super) fn value(&self, side: Side, slot: Slot) -> ValueRef<'_> {
        if side == Side::New
            && let Some((_, value)) = self.written.iter().find(|(known, _)| *known == slot)
        {
            return value.read();
        }
        let offset = match side {
            Side::New => 0,
            Side::Old => 1,
        };
        self.at(FIXED_COLUMNS + 2 * slot + offset)
    }

    /// Whether a row was inserted.
    pub(super) fn is_insert(&self) -> bool {
        matches!(self.kind, schema::INSERT | schema::ADD)
    }

    /// The row that was there before: none of an insert.
    pub(super) fn old_row_id(&self, table: &LocalTable) -> Option<Named> {
        match self.kind {
            schema::INSERT | schema::ADD => None,
            _ => Some(self.named(table, Side::Old)),
        }
    }

    /// The row that is there afterwards, when it is another one than before.
    pub(super) fn new_row_id(&self, table: &LocalTable) -> Option<Named> {
        match self.kind {
            schema::INSERT | schema::ADD | schema::MOVE => Some(self.named(table, Side::New)),
            _ => None,
        }
    }

    /// The raw values that say which row of `t` it is, for `LocalTable::where_row`.
    pub(super) fn identity(&self, table: &LocalTable, side: Side) -> Vec<ValueRef<'_>> {
        if table.schema.primary_key.is_empty() {
            // `row_id`, or `new_row_id` of a move.
            let column = match (self.kind, side) {
                (schema::MOVE, Side::New) => FIXED_COLUMNS - 1,
                _ => FIXED_COLUMNS - 2,
            };
            return vec![self.at(column)];
        }
        let key = table.schema.primary_key.iter();
        key.map(|name| {
            let column = table.column(name);
            column.map_or(ValueRef::Null, |column| self.value(side, column.slot))
        })
        .collect()
    }

    fn named(&self, table: &LocalTable, side: Side) -> Named {
        let identity: Vec<_> = self.identity(table, side).into_iter().collect();
        if identity.iter().any(
            |value| matches!(value, ValueRef::Text(bytes) if std::str::from_utf8(bytes).is_err()),
        ) {
            return Err("its key is no UTF-8".to_owned());
        }
        let identity: Vec<_> = identity.into_iter().map(copied).collect();
        table.row_id(&identity)
    }

    fn at(&self, column: Slot) -> ValueRef<'r> {
        let column = usize::try_from(column).expect("32 bits fit");
        self.row.get_ref(column).unwrap_or(ValueRef::Null)
    }
}
