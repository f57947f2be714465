//! Values as Arrow columns and back, and how many rows one batch may have.
//!
//! **Invariant:** `value_at(column(t, [v]), 0, t) == v` for every value `v` of type `t`; null stays null.
//! Presence is not carried here: a column of the log has its own bitmap (`log_rows`).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int64Builder, LargeBinaryBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use lakesync_proto::{ColumnType, Decimal, Value};

use crate::error::{Error, Result};

/// The most rows of a batch: what DataFusion itself makes.
pub(crate) const BATCH_ROWS: usize = 8_192;
/// The most bytes of values in a batch of more than one row. Offsets into a text column have 32 bits, so a
/// batch of everything that is hot could be one that Arrow cannot hold (2 GiB).
pub(crate) const BATCH_BYTES: usize = 64 << 20;

/// `rows` in their order, cut so that each part makes a batch that Arrow can hold; `bytes` is the size of a
/// row's values. A row that is larger than a batch may be stands alone: each of its columns has one value.
pub(crate) fn chunks<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut chunks = Vec::new();
    let (mut start, mut held) = (0, 0_usize);
    for (at, row) in rows.iter().enumerate() {
        let more = bytes(row);
        if at > start && (at - start == BATCH_ROWS || held + more > BATCH_BYTES) {
            chunks.push(&rows[start..at]);
            (start, held) = (at, 0);
        }
        held += more;
    }
    if start < rows.len() {
        chunks.push(&rows[start..]);
    }
    chunks
}

/// One Arrow column of `column_type` from `values`; `None` and [`Value::Null`] both become null.
///
/// # Errors
/// [`Error::ValueType`] when a value is of another type; admission makes that impossible for deltas.
pub(crate) fn column<'a>(
    column_type: ColumnType,
    values: impl ExactSizeIterator<Item = Option<&'a Value>>,
) -> Result<ArrayRef> {
    macro_rules! build {
        ($builder:expr, $pattern:pat => $value:expr) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    None | Some(Value::Null) => builder.append_null(),
                    Some($pattern) => builder.append_value($value),
                    Some(other) => return Err(Error::value_type(column_type, other)),
                }
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        }};
    }
    let rows = values.len();
    match column_type {
        ColumnType::String => {
            build!(StringBuilder::with_capacity(rows, rows * 16), Value::String(v) => v)
        }
        ColumnType::Json => {
            build!(StringBuilder::with_capacity(rows, rows * 32), Value::Json(v) => v)
        }
        ColumnType::Number => build!(Float64Builder::with_capacity(rows), Value::Number(v) => *v),
        ColumnType::Long => build!(Int64Builder::with_capacity(rows), Value::Long(v) => *v),
        ColumnType::Boolean => build!(BooleanBuilder::with_capacity(rows), Value::Boolean(v) => *v),
        ColumnType::Date => build!(Date32Builder::with_capacity(rows), Value::Date(v) => *v),
        ColumnType::Timestamp => build!(
            TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("+00:00"),
            Value::Timestamp(v) => *v
        ),
        ColumnType::Binary => {
            build!(LargeBinaryBuilder::with_capacity(rows, rows * 16), Value::Binary(v) => v)
        }
        ColumnType::Decimal { precision, scale } => {
            let scale = i8::try_from(scale).map_err(|_| Error::decimal(precision, scale))?;
            let builder = Decimal128Builder::with_capacity(rows)
                .with_precision_and_scale(precision, scale)
                .map_err(Error::from)?;
            build!(builder, Value::Decimal(v) => v.unscaled)
        }
    }
}

/// The value at `row` of an Arrow column that holds `column_type`.
///
/// # Errors
/// [`Error::ColumnType`] when the array is not of the Arrow type that [`column`] makes.
pub(crate) fn value_at(array: &dyn Array, row: usize, column_type: ColumnType) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let value = match (column_type, array.data_type()) {
        (ColumnType::String, DataType::Utf8) => {
            Value::String(array.as_string::<i32>().value(row).to_owned())
        }
        (ColumnType::Json, DataType::Utf8) => {
            Value::Json(array.as_string::<i32>().value(row).to_owned())
        }
        (ColumnType::String, DataType::Utf8View) => {
            Value::String(array.as_string_view().value(row).to_owned())
        }
        (ColumnType::Json, DataType::Utf8View) => {
            Value::Json(array.as_string_view().value(row).to_owned())
        }
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
        (ColumnType::Timestamp, DataType::Timestamp(_, _)) => {
            Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        (ColumnType::Binary, DataType::LargeBinary) => {
            Value::Binary(array.as_binary::<i64>().value(row).to_vec())
        }
        (ColumnType::Decimal { scale, .. }, DataType::Decimal128(_, _)) => {
            Value::Decimal(Decimal {
                unscaled: array.as_primitive::<Decimal128Type>().value(row),
                scale,
            })
        }
        (_, other) => return Err(Error::column_type(column_type, other)),
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(sizes: &[usize]) -> Vec<usize> {
        let parts = chunks(sizes, |size| *size);
        assert_eq!(parts.concat(), sizes, "every row once, in order");
        parts.iter().map(|part| part.len()).collect()
    }

    #[test]
    fn a_batch_ends_at_its_most_rows_or_before_its_most_bytes() {
        assert_eq!(lengths(&[]), [0_usize; 0]);
        assert_eq!(lengths(&[0; BATCH_ROWS]), [BATCH_ROWS]);
        assert_eq!(
            lengths(&[1; BATCH_ROWS * 2 + 1]),
            [BATCH_ROWS, BATCH_ROWS, 1]
        );
        let half = BATCH_BYTES / 2;
        assert_eq!(lengths(&[half, half, 1, half]), [2, 2]);
        assert_eq!(lengths(&[half, half + 1, half]), [1, 1, 1]);
    }

    #[test]
    fn a_row_larger_than_a_batch_stands_alone() {
        assert_eq!(lengths(&[BATCH_BYTES * 40]), [1]);
        assert_eq!(lengths(&[1, BATCH_BYTES * 40, 1]), [1, 1, 1]);
    }
}
