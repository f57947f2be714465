//! `hlc_counter(hlc)`: the counter of an HLC, its lower 16 bits.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::argument::array;

/// The scalar function `hlc_counter`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HlcCounter {
    signature: Signature,
}

impl HlcCounter {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for HlcCounter {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "hlc_counter"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let hlc = array(&args.args, 0, args.number_rows, &DataType::Int64)?;
        let counter: Int64Array = hlc.as_primitive::<Int64Type>().unary(|hlc| hlc & 0xffff);
        Ok(ColumnarValue::Array(Arc::new(counter)))
    }
}
