//! Rows to evaluate conditions on, each column built once whatever the number of conditions.
//!
//! **Invariant:** a condition that cannot be evaluated for a row does not hold for it, and for no other row does that
//! change anything.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::physical_plan::PhysicalExpr;
use lakesync_proto::{ColumnName, RowId, Value};

use super::field::{Field, arrow_schema};
use crate::columnar;
use crate::error::Result;

/// A row: its id and the values that are not null.
pub type Row<'a> = (&'a RowId, &'a BTreeMap<ColumnName, Value>);

/// Some rows of one table.
#[derive(Debug)]
pub struct Rows<'a> {
    rows: &'a [Row<'a>],
    arrays: RefCell<HashMap<Field, ArrayRef>>,
}

impl<'a> Rows<'a> {
    /// `rows` in their order, in parts that can be evaluated at once.
    pub fn parts(rows: &'a [Row<'a>]) -> impl Iterator<Item = Rows<'a>> {
        let bytes = |row: &Row<'_>| {
            let values = row.1.values().map(Value::bytes);
            row.0.as_str().len() + values.sum::<usize>()
        };
        columnar::chunks(rows, bytes).into_iter().map(|rows| Rows {
            rows,
            arrays: RefCell::default(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The value of a field in one of the rows.
    #[must_use]
    pub fn value(&self, row: usize, field: &Field) -> Value {
        let (row_id, values) = self.rows[row];
        match &field.column {
            None => Value::from(row_id.as_str()),
            Some(column) => values.get(column).cloned().unwrap_or(Value::Null),
        }
    }

    /// The rows as a batch of some fields.
    pub(super) fn batch(&self, fields: &[Field]) -> Result<RecordBatch> {
        let arrays = fields.iter().map(|field| self.array(field));
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let schema = arrow_schema(fields)?;
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }

    fn array(&self, field: &Field) -> Result<ArrayRef> {
        if let Some(array) = self.arrays.borrow().get(field) {
            return Ok(Arc::clone(array));
        }
        let values: Vec<Value> = (0..self.rows.len())
            .map(|row| plain(self.value(row, field)))
            .collect();
        let array = columnar::column(field.column_type, values.iter().map(Some))?;
        let built = Arc::clone(&array);
        self.arrays.borrow_mut().insert(field.clone(), built);
        Ok(array)
    }
}

/// A value as conditions compare it: -0 is 0, which Arrow's order tells apart.
pub(super) fn plain(value: Value) -> Value {
    match value {
        // The sum of -0 and 0 is 0; every other number stays.
        Value::Number(number) => Value::Number(number + 0.0),
        other => other,
    }
}

/// For which rows of `batch` the condition holds.
pub(super) fn holds(condition: &dyn PhysicalExpr, batch: &RecordBatch) -> Vec<bool> {
    let rows = batch.num_rows();
    match evaluate(condition, batch) {
        Some(holding) => holding,
        _ if rows > 1 => {
            // A division by zero in one row fails the whole batch: look for it in halves.
            let half = rows / 2;
            let mut holding = holds(condition, &batch.slice(0, half));
            holding.extend(holds(condition, &batch.slice(half, rows - half)));
            holding
        }
        _ => vec![false; rows],
    }
}

/// What a condition says of all rows at once; none when it fails for one of them. The writer of a gateway evaluates
/// conditions, and must outlive a function that panics for some value of a client's.
fn evaluate(condition: &dyn PhysicalExpr, batch: &RecordBatch) -> Option<Vec<bool>> {
    let rows = batch.num_rows();
    let evaluated = catch_unwind(AssertUnwindSafe(|| {
        condition
            .evaluate(batch)
            .and_then(|value| value.into_array(rows))
    }));
    let array = evaluated.ok()?.ok()?;
    let array = array.as_boolean_opt()?;
    let holding = (0..rows).map(|row| array.is_valid(row) && array.value(row));
    Some(holding.collect())
}
