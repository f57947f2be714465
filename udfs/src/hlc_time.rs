//! `hlc_time(hlc)`: the wall clock of an HLC (its upper 48 bits, milliseconds) as a UTC timestamp.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::argument::array;

/// The scalar function `hlc_time`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HlcTime {
    signature: Signature,
}

impl HlcTime {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for HlcTime {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "hlc_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(
            TimeUnit::Millisecond,
            Some("+00:00".into()),
        ))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let hlc = array(&args.args, 0, args.number_rows, &DataType::Int64)?;
        let wall: TimestampMillisecondArray =
            hlc.as_primitive::<Int64Type>().unary(|hlc| hlc >> 16);
        Ok(ColumnarValue::Array(Arc::new(wall.with_timezone("+00:00"))))
    }
}
