//! Query rows as canonical texts, so that they can be compared with the oracle's.
//!
//! Invariant: the mapping from Arrow to canonical text is this crate's own; nothing of the product's is used.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use lakesync_proto::{ColumnType, Decimal, TableSchema, Value};

use crate::oracle::OracleRows;

/// The rows of a table's query, by row id.
///
/// # Panics
/// When a column is missing, is of another type than the schema says, or a row id comes twice.
pub fn rows(schema: &TableSchema, batches: &[RecordBatch]) -> OracleRows {
    let mut rows = OracleRows::new();
    for batch in batches {
        let ids = batch.column_by_name("row_id").expect("row_id is selected");
        for row in 0..batch.num_rows() {
            let cells = schema.columns.iter().map(|column| {
                let name = column.name.to_string();
                let array = batch
                    .column_by_name(&name)
                    .expect("every column is selected");
                let mut text = String::new();
                value(array.as_ref(), row, column.column_type).write_canonical(&mut text);
                (name, text)
            });
            let id = text(ids, row);
            let before = rows.insert(id.clone(), cells.collect());
            assert!(
                before.is_none(),
                "row {id} of {} is there twice",
                schema.table
            );
        }
    }
    rows
}

/// A text, however the query gives it.
///
/// # Panics
/// When the column has none.
pub fn text(array: &dyn Array, row: usize) -> String {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        _ => array.as_string::<i32>().value(row).to_owned(),
    }
}

fn value(array: &dyn Array, row: usize, column_type: ColumnType) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match (column_type, array.data_type()) {
        (ColumnType::String, DataType::Utf8 | DataType::Utf8View) => {
            Value::String(text(array, row))
        }
        (ColumnType::Json, DataType::Utf8 | DataType::Utf8View) => Value::Json(text(array, row)),
        (ColumnType::Number, DataType::Float64) => {
            Value::Number(array.as_primitive::<Float64Type>().value(row))
        }
        (ColumnType::Long, DataType::Int64) => {
            Value::Long(array.as_primitive::<Int64Type>().value(row))
        }
        (ColumnType::Boolean, DataType::Boolean) => Value::Boolean(array.as_boolean().value(row)),
        (ColumnType::Date, DataType::Date32) => {
            Value::Date(array.as_primitive::<Date32Type>().value(row))
        }
        (ColumnType::Timestamp, DataType::Timestamp(_, Some(zone)))
            if zone.as_ref() == "+00:00" =>
        {
            Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        (ColumnType::Binary, DataType::LargeBinary) => {
            Value::Binary(array.as_binary::<i64>().value(row).to_vec())
        }
        (ColumnType::Decimal { precision, scale }, DataType::Decimal128(p, s)) => {
            assert_eq!(
                (precision, i16::from(scale)),
                (*p, i16::from(*s)),
                "precision and scale"
            );
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            Value::Decimal(Decimal { unscaled, scale })
        }
        (expected, found) => panic!("a column of type {expected} came as {found}"),
    }
}
