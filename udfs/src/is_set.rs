//! `is_set(_set, column_number)`: does a delta of the log carry that column?
//!
//! `_set` is a bitmap by stable column number, least significant bit first: column `n` is bit
//! `n % 8` of byte `n / 8`. A bitmap that is too short, or null, has the column absent.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
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
        let set = array(&args.args, 0, rows, &DataType::Binary)?;
        let number = array(&args.args, 1, rows, &DataType::Int64)?;
        let (set, number) = (set.as_binary::<i32>(), number.as_primitive::<Int64Type>());
        let present: BooleanArray = (0..rows)
            .map(|row| {
                Some(
                    !set.is_null(row)
                        && !number.is_null(row)
                        && bit(set.value(row), number.value(row)),
                )
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(present)))
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
