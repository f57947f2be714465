//! Images: what a row shows before and after each delta of a window, by column.
//!
//! **Invariant:** a row that does not exist shows null in every column, so a column changes when its text in SQL does.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListBuilder, StringBuilder, StructArray, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::take;
use arrow::datatypes::{DataType, Fields};

use super::replay::{Cell, Clocks, Facts, NONE, Step, place};
use crate::error::Result;

/// The most rows of a batch: what DataFusion itself makes.
pub(super) const BATCH_ROWS: usize = 8_192;
/// The most bytes of texts and binaries in a batch of more than one row; two images of a row may be large.
pub(super) const BATCH_BYTES: usize = 16 << 20;

/// What a delta did to a column that it wrote, or that its row showed when it is a DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing of the kind.
    Untouched,
    /// It shows, or hid what showed.
    Won,
    /// Something newer was there.
    Lost,
}

/// The facts that show, by column and delta.
#[derive(Debug)]
pub(super) struct Images {
    columns: Vec<Shown>,
    exists: Vec<(bool, bool)>,
}

#[derive(Debug, Default)]
struct Shown {
    before: Vec<u32>,
    after: Vec<u32>,
    /// Nothing when nobody asks.
    verdicts: Vec<Verdict>,
}

/// Which images of a batch are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    Nothing,
    /// Those after the deltas.
    After,
    /// Those before and after.
    Both,
}

/// The values of a batch, by column.
#[derive(Debug, Default)]
pub(super) struct Rows {
    before: Vec<ArrayRef>,
    after: Vec<ArrayRef>,
}

impl Images {
    /// The images of every delta of the window.
    pub(super) fn of(facts: &Facts, clocks: &Clocks, steps: &[Step]) -> Self {
        let window = &steps[facts.first()..];
        let columns = (0..facts.values.len()).map(|at| {
            let mut shown = Shown {
                before: Vec::with_capacity(window.len()),
                after: Vec::with_capacity(window.len()),
                verdicts: Vec::new(),
            };
            facts.cells((clocks, steps), at, |_, cell| {
                shown.before.push(cell.shown.0);
                shown.after.push(cell.shown.1);
            });
            shown
        });
        Self {
            columns: columns.collect(),
            exists: window.iter().map(|step| step.exists).collect(),
        }
    }

    /// With what each delta did to its columns.
    pub(super) fn with_verdicts(mut self, facts: &Facts, clocks: &Clocks, steps: &[Step]) -> Self {
        for (at, shown) in self.columns.iter_mut().enumerate() {
            let is_key = facts.is_key(at);
            facts.cells((clocks, steps), at, |step, cell| {
                shown.verdicts.push(match is_key {
                    true => Verdict::Untouched,
                    false => verdict(step, cell),
                });
            });
        }
        self
    }

    /// How far a batch that begins at `from` may go.
    pub(super) fn batch_end(&self, facts: &Facts, from: usize) -> usize {
        let sized = facts.values.iter().zip(&self.columns);
        let sized: Vec<_> = sized
            .filter_map(|(values, shown)| Some((lengths(values)?, shown)))
            .collect();
        let mut bytes = 0;
        let end = self.exists.len().min(from + BATCH_ROWS);
        for at in from..end {
            bytes += sized
                .iter()
                .map(|(length, shown)| length(shown.before[at]) + length(shown.after[at]))
                .sum::<usize>();
            if bytes > BATCH_BYTES && at > from {
                return at;
            }
        }
        end
    }

    /// The values of these deltas.
    pub(super) fn rows(&self, facts: &Facts, at: Range<usize>, wanted: Wanted) -> Result<Rows> {
        let mut rows = Rows::default();
        for (values, shown) in facts.values.iter().zip(&self.columns) {
            let (before, after) = (&shown.before[at.clone()], &shown.after[at.clone()]);
            match wanted {
                Wanted::Nothing => {}
                Wanted::After => rows.after.push(taken(values, after)?),
                Wanted::Both => {
                    let taken_before = taken(values, before)?;
                    rows.after.push(match before == after {
                        true => Arc::clone(&taken_before),
                        false => taken(values, after)?,
                    });
                    rows.before.push(taken_before);
                }
            }
        }
        Ok(rows)
    }

    /// The rows as they were before the deltas, null where there was none.
    pub(super) fn before(
        &self,
        rows: &Rows,
        fields: &Fields,
        at: Range<usize>,
    ) -> Result<ArrayRef> {
        let exists = &self.exists[at];
        let nulls = BooleanBuffer::collect_bool(exists.len(), |row| exists[row].0);
        image(&rows.before, fields, nulls)
    }

    /// The rows as they are after the deltas, null where there is none.
    pub(super) fn after(&self, rows: &Rows, fields: &Fields, at: Range<usize>) -> Result<ArrayRef> {
        let exists = &self.exists[at];
        let nulls = BooleanBuffer::collect_bool(exists.len(), |row| exists[row].1);
        image(&rows.after, fields, nulls)
    }

    /// The names of the columns whose value changed.
    pub(super) fn changed(&self, facts: &Facts, rows: &Rows, at: Range<usize>) -> Result<ArrayRef> {
        let mut changed = Vec::with_capacity(self.columns.len());
        for (before, after) in rows.before.iter().zip(&rows.after) {
            changed.push(match Arc::ptr_eq(before, after) {
                true => None,
                false => Some(distinct(before, after)?),
            });
        }
        let is_changed = |column: usize, row: usize| {
            let changed: &Option<BooleanArray> = &changed[column];
            changed.as_ref().is_some_and(|changed| changed.value(row))
        };
        Ok(self.names(facts, at.len(), is_changed))
    }

    /// The names of the columns that the deltas wrote and that show it, or that a DELETE hid.
    pub(super) fn won(&self, facts: &Facts, at: Range<usize>) -> ArrayRef {
        self.with_verdict(facts, at, Verdict::Won)
    }

    /// The names of the columns that the deltas would have written or hidden, if nothing newer had been there.
    pub(super) fn lost(&self, facts: &Facts, at: Range<usize>) -> ArrayRef {
        self.with_verdict(facts, at, Verdict::Lost)
    }

    fn with_verdict(&self, facts: &Facts, at: Range<usize>, verdict: Verdict) -> ArrayRef {
        let from = at.start;
        let has = |column: usize, row: usize| self.columns[column].verdicts[from + row] == verdict;
        self.names(facts, at.len(), has)
    }

    fn names(&self, facts: &Facts, rows: usize, has: impl Fn(usize, usize) -> bool) -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in 0..rows {
            for (column, known) in facts.schema.columns.iter().enumerate() {
                if has(column, row) {
                    lists.values().append_value(known.name.as_str());
                }
            }
            lists.append(true);
        }
        Arc::new(lists.finish())
    }
}

fn verdict(step: &Step, cell: Cell) -> Verdict {
    let (before, after) = cell.shown;
    let won = match step.is_delete {
        true if before == NONE => return Verdict::Untouched,
        true => after == NONE,
        false if !cell.written => return Verdict::Untouched,
        false => after == step.fact,
    };
    if won { Verdict::Won } else { Verdict::Lost }
}

fn image(columns: &[ArrayRef], fields: &Fields, exists: BooleanBuffer) -> Result<ArrayRef> {
    let (columns, rows) = (columns.to_vec(), exists.len());
    let nulls = Some(NullBuffer::new(exists));
    let image = StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?;
    Ok(Arc::new(image))
}

/// The values of these facts; nothing is null.
fn taken(values: &ArrayRef, facts: &[u32]) -> Result<ArrayRef> {
    let places = if facts.contains(&NONE) {
        let known = BooleanBuffer::collect_bool(facts.len(), |at| facts[at] != NONE);
        let places = facts
            .iter()
            .map(|fact| if *fact == NONE { 0 } else { *fact });
        let places: ScalarBuffer<u32> = places.collect::<Vec<u32>>().into();
        UInt32Array::new(places, Some(NullBuffer::new(known)))
    } else {
        UInt32Array::from(facts.to_vec())
    };
    Ok(take(values, &places, None)?)
}

/// How many bytes the value of a fact has; none for columns whose values are all of one size.
pub(super) fn lengths(values: &ArrayRef) -> Option<Box<dyn Fn(u32) -> usize + '_>> {
    match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            Some(Box::new(move |fact| match fact {
                NONE => 0,
                fact => texts.value(place(fact)).len(),
            }))
        }
        DataType::LargeBinary => {
            let bytes = values.as_binary::<i64>();
            Some(Box::new(move |fact| match fact {
                NONE => 0,
                fact => bytes.value(place(fact)).len(),
            }))
        }
        _ => None,
    }
}
