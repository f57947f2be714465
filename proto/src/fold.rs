//! Folding deltas into a base that holds values but no clocks.
//!
//! Invariant: the base covers all of the evidence and none of the candidates, and every cell whose clock is not among
//! the evidence is *settled*: older than anything that may still be accepted. Then the fold of (base, candidates,
//! evidence) is the merge of all deltas that ever were.
//!
//! ```text
//! seq:   1 ……………………………………… base seq │ …………………………… now
//!        └ settled, forgotten ┘└ evidence ┘└ candidates ┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::id::ColumnName;
use crate::merge::RowState;
use crate::value::Value;

/// What a fold makes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// The row does not exist.
    Absent,
    /// The row's columns. An explicit null is present as [`Value::Null`]; a column never written is absent.
    Row(BTreeMap<ColumnName, Value>),
}

/// Folds one row: `base` is its row in the base table, if there is one, `candidates` the merge of its deltas above the
/// base seq, `evidence` the merge of those at or below it that the log still has.
///
/// A delta that stands in both counts as evidence: the base has it already.
pub fn fold_row(
    base: Option<&BTreeMap<ColumnName, Value>>,
    candidates: &RowState,
    evidence: &RowState,
) -> Folded {
    let deleted = candidates.deleted.as_ref().max(evidence.deleted.as_ref());
    let deleted_since = candidates
        .deleted
        .as_ref()
        .filter(|stamp| Some(*stamp) != evidence.deleted.as_ref());
    let written = candidates.written.as_ref().max(evidence.written.as_ref());
    let exists = written > deleted || (base.is_some() && deleted_since.is_none());
    if !exists {
        return Folded::Absent;
    }
    let in_base = base.into_iter().flat_map(BTreeMap::keys);
    let columns: BTreeSet<&ColumnName> = in_base.chain(candidates.cells.keys()).collect();
    let mut row = BTreeMap::new();
    for column in columns {
        let candidate = candidates.cells.get(column);
        let witness = evidence.cells.get(column).map(|cell| &cell.stamp);
        let settled = base.and_then(|base| base.get(column));
        let value =
            match candidate.filter(|cell| witness.is_none_or(|witness| cell.stamp > *witness)) {
                Some(cell) => (Some(&cell.stamp) > deleted).then_some(&cell.value),
                // The base holds the value of the latest evidence, or of a write that the log has forgotten.
                None => settled.filter(|_| deleted_since.is_none() || witness > deleted_since),
            };
        value.into_iter().for_each(|value| {
            row.insert(column.clone(), value.clone());
        });
    }
    Folded::Row(row)
}
