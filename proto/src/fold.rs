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
use crate::merge::{RowState, Stamp};
use crate::value::Value;

/// What a fold makes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// The row does not exist.
    Absent,
    /// The row's columns. An explicit null is present as [`Value::Null`]; a column never written is absent.
    Row(BTreeMap<ColumnName, Value>),
}

/// Whether the base has a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InBase {
    /// It has.
    Row,
    /// It has not.
    Nothing,
}

/// Where a folded row has a column's value from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A candidate wrote it.
    Candidate(&'a Value),
    /// It is what the base has of the column, if the base has the row.
    Base,
    /// A delete hides all that was written.
    Hidden,
}

/// The fold of one row, asked column by column; it needs no value of the base.
#[derive(Debug, Clone, Copy)]
pub struct RowFold<'a> {
    in_base: InBase,
    candidates: &'a RowState,
    evidence: &'a RowState,
    deleted: Option<&'a Stamp>,
    deleted_since: Option<&'a Stamp>,
}

impl<'a> RowFold<'a> {
    /// The fold of a row of which `candidates` is the merge of its deltas above the base seq and `evidence` that of
    /// those at or below it that the log still has.
    ///
    /// A delta that stands in both counts as evidence: the base has it already.
    pub fn new(in_base: InBase, candidates: &'a RowState, evidence: &'a RowState) -> RowFold<'a> {
        RowFold {
            in_base,
            candidates,
            evidence,
            deleted: candidates.deleted.as_ref().max(evidence.deleted.as_ref()),
            deleted_since: candidates
                .deleted
                .as_ref()
                .filter(|stamp| Some(*stamp) != evidence.deleted.as_ref()),
        }
    }

    /// Whether the row exists.
    pub fn exists(&self) -> bool {
        let written = self.candidates.written.as_ref();
        let written = written.max(self.evidence.written.as_ref());
        let stays = self.in_base == InBase::Row && self.deleted_since.is_none();
        written > self.deleted || stays
    }

    /// Where a row that exists has the value of a column from.
    pub fn source(&self, column: &ColumnName) -> Source<'a> {
        let candidate = self.candidates.cells.get(column);
        let witness = self.evidence.cells.get(column).map(|cell| &cell.stamp);
        match candidate.filter(|cell| witness.is_none_or(|witness| cell.stamp > *witness)) {
            Some(cell) if Some(&cell.stamp) > self.deleted => Source::Candidate(&cell.value),
            Some(_) => Source::Hidden,
            // The base holds the value of the latest evidence, or of a write that the log has forgotten.
            None if self.deleted_since.is_none() || witness > self.deleted_since => Source::Base,
            None => Source::Hidden,
        }
    }
}

/// Folds one row: `base` is its row in the base table, if there is one; the rest is as in [`RowFold::new`].
pub fn fold_row(
    base: Option<&BTreeMap<ColumnName, Value>>,
    candidates: &RowState,
    evidence: &RowState,
) -> Folded {
    let in_base = match base {
        Some(_) => InBase::Row,
        None => InBase::Nothing,
    };
    let fold = RowFold::new(in_base, candidates, evidence);
    if !fold.exists() {
        return Folded::Absent;
    }
    let of_base = base.into_iter().flat_map(BTreeMap::keys);
    let columns: BTreeSet<&ColumnName> = of_base.chain(candidates.cells.keys()).collect();
    let mut row = BTreeMap::new();
    for column in columns {
        let value = match fold.source(column) {
            Source::Candidate(value) => Some(value),
            Source::Base => base.and_then(|base| base.get(column)),
            Source::Hidden => None,
        };
        value.into_iter().for_each(|value| {
            row.insert(column.clone(), value.clone());
        });
    }
    Folded::Row(row)
}
