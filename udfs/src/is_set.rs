//! `is_set(_set, column_number)`: does a delta of the log carry that column?
//!
//! `_set` is a bitmap by stable column number, least significant bit first: column `n` is bit
//! `n % 8` of byte `n / 8`. A bitmap that is too short, or null, has the column absent.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::argument::array;

/// The scalar function `is_set`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct IsSet {
    signature: Signature,
}

impl IsSet {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

fn bit(bitmap: &[u8], number: i64) -> bool {
    usize::try_from(number)
        .ok()
        .and_then(|number| bitmap.get(number / 8).map(|byte| byte >> (number % 8) & 1))
        == Some(1)
}

impl ScalarUDFImpl for IsSet {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "is_set"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let set = match args.args.first() {
            Some(ColumnarValue::Array(set)) if *set.data_type() == DataType::LargeBinary => {
                Arc::clone(set)
            }
            _ => array(&args.args, 0, rows, &DataType::LargeBinary)?,
        };
        let set = set.as_binary::<i64>();
        let present = match args.args.get(1) {
            // The number is nearly always written out.
            Some(ColumnarValue::Scalar(number)) => {
                let number = number.cast_to(&DataType::Int64)?;
                let ScalarValue::Int64(Some(number)) = number else {
                    return Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(
                        vec![false; rows],
                    ))));
                };
                BooleanBuffer::collect_bool(rows, |row| {
                    set.is_valid(row) && bit(set.value(row), number)
                })
            }
            _ => {
                let number = array(&args.args, 1, rows, &DataType::Int64)?;
                let number = number.as_primitive::<Int64Type>();
                BooleanBuffer::collect_bool(rows, |row| {
                    set.is_valid(row)
                        && number.is_valid(row)
                        && bit(set.value(row), number.value(row))
                })
            }
        };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(
            present, None,
        ))))
    }
}

#[cfg(test)]
mod tests {
    use super::bit;

    #[test]
    fn a_bit_is_found_by_column_number_and_nothing_beyond_the_bitmap_is_set() {
        let bitmap = [0b0000_0010, 0b0000_0001];
        assert!(bit(&bitmap, 1) && bit(&bitmap, 8));
        assert!(!bit(&bitmap, 0) && !bit(&bitmap, 2) && !bit(&bitmap, 16) && !bit(&bitmap, -1));
    }
}
