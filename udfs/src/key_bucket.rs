//! `key_bucket(row_id, count)`: which of `count` parts a row belongs to, so that a table can be worked on in parts.
//!
//! The parts are even and the same in every run: the 64-bit FNV-1a hash of the row id, modulo the count.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::argument::array;

/// The scalar function `key_bucket`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyBucket {
    signature: Signature,
}

impl KeyBucket {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The bucket below `count`; `None` when there is no such count.
fn bucket(row_id: &str, count: i64) -> Option<i64> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    i64::try_from(fnv1a(row_id) % count).ok()
}

impl ScalarUDFImpl for KeyBucket {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "key_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let row_id = array(&args.args, 0, rows, &DataType::Utf8)?;
        let count = array(&args.args, 1, rows, &DataType::Int64)?;
        let (row_id, count) = (row_id.as_string::<i32>(), count.as_primitive::<Int64Type>());
        let buckets: Int64Array = (0..rows)
            .map(|row| match row_id.is_null(row) || count.is_null(row) {
                true => None,
                false => bucket(row_id.value(row), count.value(row)),
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(buckets)))
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn every_row_is_in_one_bucket_and_the_buckets_are_even() {
        let mut sizes = [0; 4];
        for n in 0..4_000 {
            let at = bucket(&format!("row {n}"), 4).unwrap();
            sizes[usize::try_from(at).unwrap()] += 1;
        }
        assert!(
            sizes.iter().all(|size| (900..1_100).contains(size)),
            "{sizes:?}"
        );
        assert_eq!(bucket("x", 0), None);
        assert_eq!(bucket("x", 1), Some(0));
    }
}
