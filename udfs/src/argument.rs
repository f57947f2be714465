//! Arguments as plain Arrow arrays of the type a function works on.
//!
//! Strings and binaries arrive in several Arrow layouts (view, large, dictionary); every function casts
//! once, here, and then knows one layout only.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;

/// Argument `index` as an array of `rows` values of `data_type`.
pub(crate) fn array(
    args: &[ColumnarValue],
    index: usize,
    rows: usize,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let Some(value) = args.get(index) else {
        return exec_err!("argument {} is missing", index + 1);
    };
    let array = value.to_array(rows)?;
    as_type(&array, data_type)
}

/// `array` cast to `data_type`; fixed-size binaries become plain ones value by value.
pub(crate) fn as_type(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(ArrayRef::clone(array));
    }
    if let (DataType::FixedSizeBinary(_), DataType::Binary) = (array.data_type(), data_type) {
        let fixed = array.as_fixed_size_binary();
        let plain: datafusion::arrow::array::BinaryArray = fixed.iter().collect();
        return Ok(std::sync::Arc::new(plain));
    }
    Ok(cast(array, data_type)?)
}
