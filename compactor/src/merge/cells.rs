//! Rows of a base with changes laid over them: for each cell whether the base or the change has it.
//!
//! ```text
//!   base      r0 │ r1 │ r2 │ r3          rows kept: r0, r1 + c0, r3; a new one: c2
//!   changes        c0   c1        c2     (c1 deletes r2)
//! ```
//! **Invariant:** a cell that no change sets is the base's, or null when the base does not have the row; the row id and
//! the key columns are never changed.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions,
    new_null_array,
};
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use lakesync_providers::proto::TableSchema;

use crate::fold::{set_column, value_column};

/// The most bytes of texts in one column of a batch: their offsets have 32 bits.
const TEXT_BYTES_MAX: usize = 2_147_483_647;

/// A row to be: of a row of the base, of a change, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its row in the base's batch.
    pub(super) base: Option<usize>,
    /// Its row in the batch of changes.
    pub(super) change: Option<usize>,
}

impl Row {
    /// A row that the base does not have.
    pub(super) fn new(change: usize) -> Self {
        Self {
            base: None,
            change: Some(change),
        }
    }
}

/// Where the columns of a batch of changes are.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    /// The columns of the base.
    schema: SchemaRef,
    /// For each of them where its values are.
    values: Vec<Values>,
}

/// Where a column's new values are in a batch of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    /// In this column, for rows that the base does not have: the row id, and what it decides.
    OfKey(usize),
    /// In column `value`, where column `set` is true.
    Set { set: usize, value: usize },
    /// Nowhere: no change sets it.
    Never,
}

impl Cells {
    /// Of changes with the columns `changes` to a base with the columns `base`.
    ///
    /// # Errors
    /// When the changes lack the row id.
    pub(super) fn new(table: &TableSchema, base: &SchemaRef, changes: &SchemaRef) -> Result<Self> {
        let row_id = changes.index_of("row_id")?;
        let values = base.fields().iter().map(|field| {
            let mut columns = table.columns.iter();
            let Some(column) = columns.find(|column| column.name.as_str() == field.name()) else {
                return match field.name().as_str() {
                    "row_id" => Values::OfKey(row_id),
                    _ => Values::Never,
                };
            };
            let value = changes.index_of(&value_column(column.number));
            let set = changes.index_of(&set_column(column.number));
            match (value, set) {
                (Ok(value), Ok(set)) => Values::Set { set, value },
                (Ok(value), Err(_)) => Values::OfKey(value),
                (Err(_), _) => Values::Never,
            }
        });
        Ok(Self {
            schema: Arc::clone(base),
            values: values.collect(),
        })
    }

    /// Which of the changes set all columns: their rows are complete without the base.
    pub(super) fn complete(&self, changes: &RecordBatch) -> BooleanArray {
        let sets: Vec<&BooleanArray> = self
            .values
            .iter()
            .filter_map(|values| match values {
                Values::Set { set, .. } => Some(changes.column(*set).as_boolean()),
                Values::OfKey(_) | Values::Never => None,
            })
            .collect();
        // A column that no change can set has to come from the base.
        let never = self.values.contains(&Values::Never);
        (0..changes.num_rows())
            .map(|row| Some(!never && sets.iter().all(|set| set.value(row))))
            .collect()
    }

    /// The rows, in batches as large as can be: one, unless the texts of a column are too long for that.
    ///
    /// # Errors
    /// Those of Arrow.
    pub(super) fn rows(
        &self,
        rows: &[Row],
        base: Option<&RecordBatch>,
        changes: Option<&RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::with_capacity(1);
        self.add(rows, (base, changes), &mut batches)?;
        Ok(batches)
    }

    fn add(
        &self,
        rows: &[Row],
        from: (Option<&RecordBatch>, Option<&RecordBatch>),
        batches: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if rows.len() > 1 && self.is_too_long(rows, from) {
            let (first, second) = rows.split_at(rows.len() / 2);
            self.add(first, from, batches)?;
            return self.add(second, from, batches);
        }
        let columns = (0..self.values.len()).map(|column| self.column(column, rows, from));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(&self.schema);
        batches.push(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?);
        Ok(())
    }

    fn column(
        &self,
        column: usize,
        rows: &[Row],
        (base, changes): (Option<&RecordBatch>, Option<&RecordBatch>),
    ) -> Result<ArrayRef> {
        let data_type = self.schema.field(column).data_type();
        let old = base.map(|base| base.column(column));
        let new = changes.and_then(|changes| self.new_values(column, changes));
        let cells: Vec<Cell> = rows.iter().map(|row| cell(*row, new)).collect();
        if let Some(old) = old
            && is_all_of(&cells, old.len(), |cell| matches!(cell, Cell::Old(_)))
        {
            return Ok(Arc::clone(old));
        }
        if let Some((_, values)) = new
            && is_all_of(&cells, values.len(), |cell| matches!(cell, Cell::New(_)))
        {
            return Ok(Arc::clone(values));
        }
        let none = new_null_array(data_type, 1);
        let old = old.unwrap_or(&none);
        let values = new.map_or(&none, |(_, values)| values);
        if [old, values]
            .iter()
            .any(|array| array.data_type() != data_type)
        {
            return Err(DataFusionError::Internal(format!(
                "a change has another type than the column {}",
                self.schema.field(column).name()
            )));
        }
        let places: Vec<(usize, usize)> = cells
            .iter()
            .map(|cell| match cell {
                Cell::Old(row) => (0, *row),
                Cell::New(row) => (1, *row),
                Cell::None => (2, 0),
            })
            .collect();
        Ok(interleave(
            &[old.as_ref(), values.as_ref(), none.as_ref()],
            &places,
        )?)
    }

    /// The values that changes have for a column, with what says whether they are set; none: where the base has no row.
    fn new_values<'a>(
        &self,
        column: usize,
        changes: &'a RecordBatch,
    ) -> Option<(Option<&'a BooleanArray>, &'a ArrayRef)> {
        match self.values[column] {
            Values::OfKey(value) => Some((None, changes.column(value))),
            Values::Set { set, value } => {
                let set = changes.column(set).as_boolean();
                Some((Some(set), changes.column(value)))
            }
            Values::Never => None,
        }
    }

    /// Whether the texts of a column are more than one batch can hold.
    fn is_too_long(
        &self,
        rows: &[Row],
        (base, changes): (Option<&RecordBatch>, Option<&RecordBatch>),
    ) -> bool {
        let texts = self.schema.fields().iter().enumerate();
        let mut texts = texts.filter(|(_, field)| *field.data_type() == DataType::Utf8);
        texts.any(|(column, _)| {
            let old = base.map(|base| base.column(column));
            let new = changes.and_then(|changes| self.new_values(column, changes));
            let most = old.map_or(0, text_bytes) + new.map_or(0, |(_, new)| text_bytes(new));
            if most <= TEXT_BYTES_MAX {
                return false;
            }
            let length = |array: Option<&ArrayRef>, row: usize| {
                array.map_or(0, |array| array.as_string::<i32>().value(row).len())
            };
            let bytes = rows.iter().map(|row| match cell(*row, new) {
                Cell::Old(row) => length(old, row),
                Cell::New(row) => length(new.map(|(_, values)| values), row),
                Cell::None => 0,
            });
            bytes.sum::<usize>() > TEXT_BYTES_MAX
        })
    }
}

/// Where one cell's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// In this row of the base's batch.
    Old(usize),
    /// In this row of the changes.
    New(usize),
    /// Nowhere: it is null.
    None,
}

fn cell(row: Row, new: Option<(Option<&BooleanArray>, &ArrayRef)>) -> Cell {
    let old = row.base.map_or(Cell::None, Cell::Old);
    match (row.change, new) {
        (Some(change), Some((Some(set), _))) if set.value(change) => Cell::New(change),
        (Some(change), Some((None, _))) if row.base.is_none() => Cell::New(change),
        _ => old,
    }
}

/// Whether the cells are those of one array, all of them and in its order: then it is taken as it is.
fn is_all_of(cells: &[Cell], rows: usize, of_it: impl Fn(&Cell) -> bool) -> bool {
    let in_order = |(at, cell): (usize, &Cell)| match cell {
        Cell::Old(row) | Cell::New(row) => *row == at && of_it(cell),
        Cell::None => false,
    };
    cells.len() == rows && cells.iter().enumerate().all(in_order)
}

fn text_bytes(array: &ArrayRef) -> usize {
    let offsets = array.as_string::<i32>().value_offsets();
    let bytes = offsets.last().zip(offsets.first());
    bytes.map_or(0, |(last, first)| {
        usize::try_from(last - first).unwrap_or(0)
    })
}
