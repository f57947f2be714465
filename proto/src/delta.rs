//! The delta: one row's changed columns, stamped.
//!
//! Invariant: a delta is immutable once its id is computed. An explicit null is a value; a column that is not listed
//! is unchanged.

use std::fmt;

use crate::delta_id::DeltaId;
use crate::hlc::Hlc;
use crate::id::{ClientId, ColumnName, RowId, TableName};
use crate::merge::Stamp;
use crate::value::Value;

/// What a delta does to its row. INSERT and UPDATE merge alike.
#[derive(Debug, Copy, Clone, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Op {
    /// The row is new.
    Insert = 1,
    /// Some columns changed.
    Update = 2,
    /// The row is gone; such a delta has no columns.
    Delete = 3,
}

impl Op {
    /// The number in protobuf and in the log's `_op` column.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The op of a number, if it is one.
    pub fn from_code(code: i32) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete]
            .into_iter()
            .find(|op| op.code() == code)
    }

    /// `INSERT`, `UPDATE` or `DELETE`.
    pub fn name(self) -> &'static str {
        match self {
            Op::Insert => "INSERT",
            Op::Update => "UPDATE",
            Op::Delete => "DELETE",
        }
    }

    /// The op of a name, if it is one; exactly as written by [`Op::name`].
    pub fn from_name(name: &str) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete]
            .into_iter()
            .find(|op| op.name() == name)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One column's new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnChange {
    /// Which column.
    pub column: ColumnName,
    /// Its new value; [`Value::Null`] sets it to null.
    pub value: Value,
}

/// Who writes which row, and when: everything of a delta but its op and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaKey {
    /// The table.
    pub table: TableName,
    /// The row.
    pub row_id: RowId,
    /// The writer.
    pub client_id: ClientId,
    /// The writer's clock.
    pub hlc: Hlc,
}

/// One row's changed columns.
///
/// ```
/// use lakesync_proto::{ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, RowId, TableName, Value};
/// let key = DeltaKey {
///     table: TableName::parse("todos")?,
///     row_id: RowId::parse("row-1")?,
///     client_id: ClientId::parse("client-a")?,
///     hlc: Hlc::new(1_700_000_000_000, 1)?,
/// };
/// let title = ColumnChange { column: ColumnName::parse("title")?, value: Value::from("Buy milk") };
/// let delta = RowDelta::new(Op::Update, key, vec![title]);
/// assert_eq!(delta.delta_id, delta.computed_id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDelta {
    /// What it does.
    pub op: Op,
    /// The table.
    pub table: TableName,
    /// The row.
    pub row_id: RowId,
    /// The writer.
    pub client_id: ClientId,
    /// The changed columns, in the writer's order, each once.
    pub columns: Vec<ColumnChange>,
    /// The writer's clock.
    pub hlc: Hlc,
    /// The hash of the content, or what a sender claims it to be until [`verify_delta`](crate::verify_delta).
    pub delta_id: DeltaId,
}

impl RowDelta {
    /// A delta with its id computed.
    pub fn new(op: Op, key: DeltaKey, columns: Vec<ColumnChange>) -> RowDelta {
        let delta_id = DeltaId::of(&key, &columns);
        let DeltaKey {
            table,
            row_id,
            client_id,
            hlc,
        } = key;
        RowDelta {
            op,
            table,
            row_id,
            client_id,
            columns,
            hlc,
            delta_id,
        }
    }

    /// Everything but op, columns and id; the clones are counters.
    pub fn key(&self) -> DeltaKey {
        DeltaKey {
            table: self.table.clone(),
            row_id: self.row_id.clone(),
            client_id: self.client_id.clone(),
            hlc: self.hlc,
        }
    }

    /// The id that the content has, whatever `delta_id` says.
    pub fn computed_id(&self) -> DeltaId {
        DeltaId::of(&self.key(), &self.columns)
    }

    /// The delta's place in the total order of writes.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            hlc: self.hlc,
            client_id: self.client_id.clone(),
            delta_id: self.delta_id,
        }
    }

    /// An estimate of the delta's size in memory, in bytes: what budgets count.
    pub fn bytes(&self) -> usize {
        let columns: usize = self
            .columns
            .iter()
            .map(|c| c.column.as_str().len() + c.value.bytes())
            .sum();
        let key =
            self.table.as_str().len() + self.row_id.as_str().len() + self.client_id.as_str().len();
        size_of::<RowDelta>() + self.columns.len() * size_of::<ColumnChange>() + key + columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_have_stable_codes() {
        for (op, code, name) in [
            (Op::Insert, 1, "INSERT"),
            (Op::Update, 2, "UPDATE"),
            (Op::Delete, 3, "DELETE"),
        ] {
            assert_eq!((op.code(), op.name()), (code, name));
            assert_eq!(
                (Op::from_code(code), Op::from_name(name)),
                (Some(op), Some(op))
            );
        }
        assert_eq!((Op::from_code(0), Op::from_name("insert")), (None, None));
    }
}
