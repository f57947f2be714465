//! The rows that a procedure answers with.
//!
//! **Invariant:** an answer has the columns that the table of procedures says, whatever was found.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    Long,
}

/// A column of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: ColumnKind,
}

/// One value of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    Long(i64),
    Null,
}

/// The rows of an answer.
pub(super) type Rows = Vec<Vec<Cell>>;

/// A text.
pub(super) fn text(value: impl ToString) -> Cell {
    Cell::Text(value.to_string())
}

/// A number; one beyond 64 bits is as good as none.
pub(super) fn long(value: impl TryInto<i64>) -> Cell {
    value.try_into().map_or(Cell::Null, Cell::Long)
}

/// The rows as Arrow has them.
pub(super) fn batch(columns: &[Column], rows: Rows) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns.iter().map(field).collect();
    let arrays = columns.iter().enumerate().map(|(at, column)| -> ArrayRef {
        let cells = rows.iter().map(|row| row.get(at).unwrap_or(&Cell::Null));
        match column.kind {
            ColumnKind::Text => {
                let texts = cells.map(|cell| match cell {
                    Cell::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                Arc::new(texts.collect::<StringArray>())
            }
            ColumnKind::Long => {
                let longs = cells.map(|cell| match cell {
                    Cell::Long(long) => Some(*long),
                    _ => None,
                });
                Arc::new(longs.collect::<Int64Array>())
            }
        }
    });
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, arrays.collect()).map_err(arrow_error)
}

fn field(column: &Column) -> Field {
    let kind = match column.kind {
        ColumnKind::Text => DataType::Utf8,
        ColumnKind::Long => DataType::Int64,
    };
    Field::new(column.name, kind, true)
}

pub(super) fn arrow_error(error: arrow::error::ArrowError) -> Error {
    datafusion::error::DataFusionError::from(error).into()
}
