//! Rows folded into a chunk: what the base, or an older chunk, has of them under what their hot deltas say.
//!
//! A column is built whole, from the columns that its values come from; a value of the base never becomes a value of
//! its own. A row that is folded again takes its older resolved row for its base: what a delta decided there wins again,
//! as its stamp still stands among the candidates, and what a delete hid stays hidden, as delete clocks only rise. So
//! a row is read from the base once.
//!
//! **Invariant:** the rows of a chunk are those of the merge rule; a column is decided for a row of the base's unless
//! its value is the base's.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, BooleanArray, Scalar, StringArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use lakesync_proto::{Column, Hlc, InBase, RowFold, RowId, RowState, Source, TableSchema, Value};

use super::candidates::Candidates;
use crate::columnar::column;
use crate::error::{Error, Result};
use crate::scan::Place;

/// What the rows of one overlay look like.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The table's schema.
    pub(super) schema: Arc<TableSchema>,
    /// The same as Arrow has it, with the row id.
    pub(super) arrow: SchemaRef,
    /// A delta stamped above it wins over everything in the base.
    pub(super) max_hlc: Hlc,
}

/// A row to fold.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its number in the overlay.
    pub(super) slot: u32,
    /// Its id.
    pub(super) id: RowId,
    /// Its hot deltas.
    pub(super) candidates: Candidates,
    /// How far they are looked at.
    pub(super) scope: Scope,
    /// Which row of the older ones it is.
    pub(super) from: Option<Older>,
    /// Whether the base has it.
    pub(super) home: Home,
}

/// Whether the base has a row, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// It has not.
    Nowhere,
    /// It has, and nobody knows where.
    Somewhere,
    /// It has, here.
    At(Place),
}

impl Home {
    /// Where, if that is known.
    pub(super) fn place(self) -> Option<Place> {
        match self {
            Self::At(place) => Some(place),
            Self::Nowhere | Self::Somewhere => None,
        }
    }
}

/// Which of a row's deltas decide.
#[derive(Debug)]
pub(super) enum Scope {
    /// All of them, with this evidence.
    All(RowState),
    /// Those that are newer than the base: the rest is in the older row already.
    Newer,
}

/// A row of [`Rows`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Older {
    /// Which of the batches.
    pub(super) batch: usize,
    /// Which row of it.
    pub(super) row: usize,
}

/// Older rows, of the base or of a chunk. Columns may be missing: their values are not known.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// The values.
    pub(super) batch: RecordBatch,
    /// What is decided of a chunk's rows; nothing is of the base's.
    pub(super) decided: Vec<Option<BooleanBuffer>>,
}

impl Rows {
    fn is_decided(&self, column: usize, row: usize) -> bool {
        let decided = self.decided.get(column).and_then(Option::as_ref);
        decided.is_some_and(|decided| decided.value(row))
    }
}

/// Folded rows.
#[derive(Debug)]
pub(super) struct Made {
    /// Those that exist.
    pub(super) rows: RecordBatch,
    /// By column of the schema, for which of them it is decided; none when for no row.
    pub(super) decided: Vec<Option<BooleanBuffer>>,
    /// Their slots, and where the base has them.
    pub(super) there: Vec<(u32, Home)>,
    /// The same of those that do not exist.
    pub(super) gone: Vec<(u32, Home)>,
    /// The ids of those that do not exist, in the same order.
    pub(super) gone_ids: StringArray,
}

/// Folds rows, in their order. It is all work and no waiting.
///
/// # Errors
/// When a value is not of its column's type, or a row id is none of the table's.
pub(super) fn fold(shape: &Shape, pending: &[Pending], older: &[Rows]) -> Result<Made> {
    let nothing = RowState::default();
    let states: Vec<RowState> = pending.iter().map(|row| row.state(shape)).collect();
    let folds = pending.iter().zip(&states).map(|(row, state)| {
        let in_base = row.from.map_or(InBase::Nothing, |_| InBase::Row);
        let evidence = match &row.scope {
            Scope::All(evidence) => evidence,
            Scope::Newer => &nothing,
        };
        (row, RowFold::new(in_base, state, evidence))
    });
    let (there, gone): (Vec<_>, Vec<_>) = folds.partition(|(_, fold)| fold.exists());
    let mut arrays = Vec::with_capacity(shape.arrow.fields().len());
    let mut decided = Vec::with_capacity(arrays.capacity());
    for (at, field) in shape.arrow.fields().iter().enumerate() {
        let cells = Cells {
            rows: &there,
            older,
            at,
        };
        let (array, bits) = match shape.schema.column(field.name()) {
            None => (cells.ids(), None),
            Some(key) if shape.schema.primary_key.contains(&key.name) => {
                (cells.key(&shape.schema, key)?, None)
            }
            Some(known) => cells.merged(known)?,
        };
        arrays.push(array);
        decided.push(bits);
    }
    let named = |rows: &[(&Pending, RowFold<'_>)]| {
        let rows = rows.iter();
        rows.map(|(row, _)| (row.slot, row.home)).collect()
    };
    Ok(Made {
        rows: RecordBatch::try_new(Arc::clone(&shape.arrow), arrays)?,
        decided,
        there: named(&there),
        gone: named(&gone),
        gone_ids: StringArray::from_iter_values(gone.iter().map(|(row, _)| &row.id)),
    })
}

impl Pending {
    fn state(&self, shape: &Shape) -> RowState {
        match self.scope {
            Scope::All(_) => self.candidates.state(),
            Scope::Newer => self.candidates.state_above(shape.max_hlc),
        }
    }
}

/// One column of the rows that exist.
struct Cells<'a> {
    rows: &'a [(&'a Pending, RowFold<'a>)],
    older: &'a [Rows],
    /// The column's place in the schema.
    at: usize,
}

/// Where a cell's value is.
enum Cell<'a> {
    Value(&'a Value),
    Older(Older),
    Null,
}

impl Cells<'_> {
    fn ids(&self) -> ArrayRef {
        let ids = self.rows.iter().map(|(row, _)| &row.id);
        Arc::new(StringArray::from_iter_values(ids))
    }

    /// A key column: no write decides it, the row's id does.
    fn key(&self, schema: &TableSchema, key: &Column) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(self.rows.len());
        for (row, _) in self.rows {
            let of_row = schema.key_values(&row.id);
            let of_row = of_row.map_err(|error| Error::BrokenDelta {
                table: schema.table.clone(),
                seq: 0,
                reason: error.to_string(),
            })?;
            let value = of_row.into_iter().find(|(name, _)| *name == key.name);
            values.push(value.map(|(_, value)| value));
        }
        column(key.column_type, values.iter().map(Option::as_ref))
    }

    /// Any other column, and for which rows it is decided.
    fn merged(&self, known: &Column) -> Result<(ArrayRef, Option<BooleanBuffer>)> {
        let mut cells = Vec::with_capacity(self.rows.len());
        let mut decided = Vec::with_capacity(self.rows.len());
        for (row, fold) in self.rows {
            let of_base = row.home != Home::Nowhere;
            let (cell, is_decided) = match (fold.source(&known.name), row.from) {
                (Source::Candidate(value), _) => (Cell::Value(value), of_base),
                (Source::Base, Some(from)) => {
                    let older = &self.older[from.batch];
                    (Cell::Older(from), older.is_decided(self.at, from.row))
                }
                (Source::Base | Source::Hidden, _) => (Cell::Null, of_base),
            };
            cells.push(cell);
            decided.push(is_decided);
        }
        let decided = BooleanBuffer::from(decided);
        let decided = (decided.count_set_bits() > 0).then_some(decided);
        Ok((self.column(known, &cells)?, decided))
    }

    fn column(&self, known: &Column, cells: &[Cell<'_>]) -> Result<ArrayRef> {
        let values = cells.iter().filter_map(|cell| match cell {
            Cell::Value(value) => Some(Some(*value)),
            Cell::Older(_) | Cell::Null => None,
        });
        let mut values: Vec<Option<&Value>> = values.collect();
        if values.len() == cells.len() {
            return column(known.column_type, values.into_iter());
        }
        let written = values.len();
        values.push(None);
        let written_values = column(known.column_type, values.into_iter())?;
        let older: Vec<Option<&ArrayRef>> = self
            .older
            .iter()
            .map(|rows| rows.batch.column_by_name(known.name.as_ref()))
            .collect();
        if let Some(whole) = whole(cells, &older) {
            return Ok(Arc::clone(whole));
        }
        // A column that is missing gives nothing but nulls.
        let fallback: &dyn arrow::array::Array = written_values.as_ref();
        let mut arrays: Vec<&dyn arrow::array::Array> = older
            .iter()
            .map(|array| array.map_or(fallback, |array| array.as_ref()))
            .collect();
        arrays.push(written_values.as_ref());
        let null = (arrays.len() - 1, written);
        let mut next = 0;
        let indices: Vec<(usize, usize)> = cells
            .iter()
            .map(|cell| match cell {
                Cell::Value(_) => {
                    next += 1;
                    (arrays.len() - 1, next - 1)
                }
                Cell::Older(from) if older[from.batch].is_some() => (from.batch, from.row),
                Cell::Older(_) | Cell::Null => null,
            })
            .collect();
        Ok(interleave(&arrays, &indices)?)
    }
}

/// The column of the only older batch, when the cells are all of it in its order.
fn whole<'a>(cells: &[Cell<'_>], older: &[Option<&'a ArrayRef>]) -> Option<&'a ArrayRef> {
    let [Some(array)] = older else {
        return None;
    };
    let in_order =
        |(row, cell): (usize, &Cell<'_>)| matches!(cell, Cell::Older(from) if from.row == row);
    let all = array.len() == cells.len() && cells.iter().enumerate().all(in_order);
    all.then_some(*array)
}

impl Made {
    /// Without the values that are the base's: they are null. Ids, keys and what is decided stay.
    ///
    /// # Errors
    /// Arrow's, when memory ends.
    pub(super) fn without_base_values(self, schema: &TableSchema) -> Result<Self> {
        let fields = self.rows.schema();
        let columns = fields.fields().iter().zip(self.rows.columns());
        let mut arrays = Vec::with_capacity(self.decided.len());
        for ((field, array), decided) in columns.zip(&self.decided) {
            let own = schema
                .column(field.name())
                .is_none_or(|column| schema.primary_key.contains(&column.name));
            let null = || new_null_array(array.data_type(), 1);
            arrays.push(match decided {
                _ if own => Arc::clone(array),
                None => new_null_array(array.data_type(), array.len()),
                Some(decided) => {
                    let decided = BooleanArray::new(decided.clone(), None);
                    zip(&decided, array, &Scalar::new(null()))?
                }
            });
        }
        Ok(Self {
            rows: RecordBatch::try_new(fields, arrays)?,
            ..self
        })
    }
}
