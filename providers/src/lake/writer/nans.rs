//! Counts of the values that are no numbers: no bound of a file covers them, so its manifest entry tells how many there are.

use std::collections::HashMap;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};

use crate::scan::field_id;

/// Counts the values of float columns that are no numbers, which bounds do not cover.
pub(super) struct Nans(Vec<(usize, i32, u64)>);

impl Nans {
    /// Of the columns of this schema that can have any.
    pub(super) fn of(schema: &Schema) -> Self {
        let fields = schema.fields().iter().enumerate();
        let floats = fields.filter_map(|(at, field)| {
            let is_float = matches!(field.data_type(), DataType::Float32 | DataType::Float64);
            let id = field_id(field)?;
            is_float.then_some((at, id, 0))
        });
        Self(floats.collect())
    }

    /// Counts those of a batch.
    pub(super) fn count(&mut self, batch: &RecordBatch) {
        for (at, _, count) in &mut self.0 {
            let column = batch.column(*at);
            let found = match column.data_type() {
                DataType::Float32 => {
                    let values = column.as_primitive::<Float32Type>().iter().flatten();
                    values.filter(|value| value.is_nan()).count()
                }
                _ => {
                    let values = column.as_primitive::<Float64Type>().iter().flatten();
                    values.filter(|value| value.is_nan()).count()
                }
            };
            *count += u64::try_from(found).unwrap_or(u64::MAX);
        }
    }

    /// The counts by field id.
    pub(super) fn counts(&self) -> HashMap<i32, u64> {
        self.0.iter().map(|(_, id, count)| (*id, *count)).collect()
    }
}
