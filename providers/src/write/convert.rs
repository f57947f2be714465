//! Values of a plan as values of a column.
//!
//! **Invariant:** a value is stored as what it is or refused: nothing becomes null, loses digits before the point or
//! is cut off on the way, unless the statement casts it so.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use lakesync_proto::{ColumnType, Value, limits};

use crate::columnar::value_at;
use crate::error::Result;

/// Whether values of this Arrow type may be stored in such a column at all.
pub(super) fn fits(from: &DataType, to: ColumnType, stored: &DataType) -> bool {
    if from == stored || from.is_null() {
        return true;
    }
    let plain = match from {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let text = matches!(
        plain,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let bytes = matches!(
        plain,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    );
    let number = plain.is_numeric() || *plain == DataType::Boolean;
    match to {
        ColumnType::Json => text || number,
        ColumnType::Binary => text || bytes,
        _ => !plain.is_nested() && !bytes && can_cast_types(from, stored),
    }
}

/// A column of a batch as the table's column stores it.
pub(super) struct Converted {
    array: ArrayRef,
    column_type: ColumnType,
}

impl Converted {
    /// Converts a column; the error is the first row whose value cannot be stored.
    pub(super) fn of(
        array: &ArrayRef,
        (column_type, stored): (ColumnType, &DataType),
    ) -> Result<std::result::Result<Self, usize>> {
        if array.data_type() == stored {
            let array = Arc::clone(array);
            return Ok(Ok(Self { array, column_type }));
        }
        let options = CastOptions {
            safe: true,
            ..CastOptions::default()
        };
        let cast = cast_with_options(array, stored, &options)?;
        Ok(match misfit(array, &cast, &options)? {
            Some(row) => Err(row),
            None => Ok(Self {
                array: cast,
                column_type,
            }),
        })
    }

    /// The value of a row; the inner error says why it is none.
    pub(super) fn value(&self, row: usize) -> Result<std::result::Result<Value, String>> {
        let value = value_at(self.array.as_ref(), row, self.column_type)?;
        Ok(match value {
            // The text is as its author wrote it; values are in normal form.
            Value::Json(text) => Value::json(&text).map_err(|error| error.to_string()),
            value => Ok(value),
        })
    }
}

/// The first row whose value was lost, or cut to a whole number.
fn misfit(array: &ArrayRef, cast: &ArrayRef, options: &CastOptions<'_>) -> Result<Option<usize>> {
    let before = array.logical_nulls();
    let after = cast.logical_nulls();
    let is_null = |nulls: &Option<arrow::buffer::NullBuffer>, row| {
        nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    };
    let lost = (0..array.len()).find(|&row| is_null(&after, row) && !is_null(&before, row));
    let (from, to) = (array.data_type(), cast.data_type());
    let cuts = to.is_integer() && (from.is_floating() || from.is_decimal());
    if lost.is_some() || !cuts {
        return Ok(lost);
    }
    let back = cast_with_options(cast, from, options)?;
    let differs = distinct(array, &back)?;
    Ok((0..differs.len()).find(|&row| differs.value(row)))
}

/// A value as an error message repeats it.
pub(super) fn shown(array: &dyn Array, row: usize) -> String {
    let text = array_value_to_string(array, row).unwrap_or_default();
    match text.char_indices().nth(limits::SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, NullArray, StringArray, UInt64Array};

    use super::*;

    fn long(array: impl Array + 'static) -> std::result::Result<Vec<Value>, usize> {
        let array: ArrayRef = Arc::new(array);
        let stored = (ColumnType::Long, &DataType::Int64);
        let converted = Converted::of(&array, stored).unwrap()?;
        Ok((0..array.len())
            .map(|row| converted.value(row).unwrap().unwrap())
            .collect())
    }

    #[test]
    fn whole_numbers_fit_a_long_and_nothing_is_cut_or_lost() {
        let two = || Value::Long(2);
        assert_eq!(long(StringArray::from(vec!["2"])), Ok(vec![two()]));
        assert_eq!(
            long(Float64Array::from(vec![Some(2.0), None])),
            Ok(vec![two(), Value::Null])
        );
        assert_eq!(long(NullArray::new(1)), Ok(vec![Value::Null]));
        assert_eq!(long(Float64Array::from(vec![2.0, 2.5])), Err(1));
        assert_eq!(long(Float64Array::from(vec![1e30])), Err(0));
        assert_eq!(long(Float64Array::from(vec![f64::NAN])), Err(0));
        assert_eq!(long(UInt64Array::from(vec![2, u64::MAX])), Err(1));
        assert_eq!(long(StringArray::from(vec!["2", "x"])), Err(1));
        let decimal = |unscaled| {
            let one = Decimal128Array::from(vec![unscaled]);
            one.with_precision_and_scale(10, 2).unwrap()
        };
        assert_eq!(long(decimal(200)), Ok(vec![two()]));
        assert_eq!(long(decimal(250)), Err(0));
    }

    #[test]
    fn what_could_only_be_stored_as_its_debug_text_is_refused_when_it_is_planned() {
        let list = DataType::new_list(DataType::Int64, true);
        let (text, number) = (DataType::Utf8, DataType::Float64);
        assert!(!fits(&list, ColumnType::String, &text));
        assert!(!fits(&list, ColumnType::Json, &text));
        assert!(!fits(&DataType::Date32, ColumnType::Json, &text));
        assert!(!fits(&DataType::Binary, ColumnType::String, &text));
        assert!(fits(&DataType::Utf8View, ColumnType::Json, &text));
        assert!(fits(&DataType::Int64, ColumnType::Number, &number));
        assert!(fits(&DataType::Null, ColumnType::Number, &number));
        assert!(!fits(
            &DataType::Date32,
            ColumnType::Boolean,
            &DataType::Boolean
        ));
    }
}
