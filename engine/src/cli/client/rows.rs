//! Rows of SQLite in the formats of `lakesync sql`.
//!
//! Invariant: a value reads back as it is in the file. SQLite gives every value a type of its own; a column whose values
//! have one type has it here too, a mixed one is text.

use std::io::stdout;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use lakesync_client::SqlValue;

use crate::cli::CliError;
use crate::cli::render::{Format, write_batches};

/// A result on its way to the output.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<SqlValue>>,
}

impl Table {
    pub(super) fn new<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Table {
        Table {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Writes it to standard output; returns the number of rows.
    pub(super) fn write(self, format: Format) -> Result<usize, CliError> {
        let count = self.rows.len();
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut columns: Vec<Vec<SqlValue>> = self.columns.iter().map(|_| Vec::new()).collect();
        for row in self.rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        for (name, values) in self.columns.into_iter().zip(columns) {
            let array = array(values);
            fields.push(Field::new(name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?;
        Ok(write_batches(format, &schema, &[batch], stdout())?)
    }
}

fn array(values: Vec<SqlValue>) -> ArrayRef {
    match column_type(&values) {
        DataType::Int64 => Arc::new(Int64Array::from_iter(values.iter().map(
            |value| match value {
                SqlValue::Integer(number) => Some(*number),
                _ => None,
            },
        ))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(values.iter().map(
            |value| match value {
                SqlValue::Real(number) => Some(*number),
                _ => None,
            },
        ))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(
            |value| match value {
                SqlValue::Blob(bytes) => Some(bytes),
                _ => None,
            },
        ))),
        _ => Arc::new(StringArray::from_iter(values.into_iter().map(text))),
    }
}

/// The one type of all values that are not null; text for several, and for none.
fn column_type(values: &[SqlValue]) -> DataType {
    let mut types = values.iter().filter_map(|value| match value {
        SqlValue::Null => None,
        SqlValue::Integer(_) => Some(DataType::Int64),
        SqlValue::Real(_) => Some(DataType::Float64),
        SqlValue::Text(_) => Some(DataType::Utf8),
        SqlValue::Blob(_) => Some(DataType::Binary),
    });
    let Some(first) = types.next() else {
        return DataType::Utf8;
    };
    match types.all(|other| other == first) {
        true => first,
        false => DataType::Utf8,
    }
}

/// A value as text, in SQLite's own notation where it is none.
pub(super) fn text(value: SqlValue) -> Option<String> {
    Some(match value {
        SqlValue::Null => return None,
        SqlValue::Integer(number) => number.to_string(),
        SqlValue::Real(number) => format!("{number:?}"),
        SqlValue::Text(text) => text,
        SqlValue::Blob(bytes) => {
            let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("x'{}'", hex.collect::<String>())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_one_type_has_it_and_a_mixed_one_is_text() {
        let integer = || SqlValue::Integer(1 << 60);
        let text = || SqlValue::Text("a".into());
        assert_eq!(column_type(&[SqlValue::Null, integer()]), DataType::Int64);
        assert_eq!(column_type(&[SqlValue::Null]), DataType::Utf8);
        assert_eq!(
            column_type(&[SqlValue::Real(0.5), integer()]),
            DataType::Utf8
        );
        assert_eq!(column_type(&[text(), text()]), DataType::Utf8);
        let mixed = array(vec![
            integer(),
            SqlValue::Blob(vec![0, 255]),
            SqlValue::Null,
        ]);
        let mixed = mixed.as_any().downcast_ref::<StringArray>().unwrap();
        let found: Vec<Option<&str>> = mixed.iter().collect();
        assert_eq!(found, [Some("1152921504606846976"), Some("x'00ff'"), None]);
    }
}
