//! `hlc_at(timestamp)`: the smallest HLC of that millisecond, for comparisons such as `_hlc >= hlc_at(…)`.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::argument::array;

/// Wall clocks of an HLC have 47 bits, so that the number stays positive as a signed one.
const WALL_MS_MAX: i64 = (1 << 47) - 1;

fn smallest_hlc(wall_ms: i64) -> Result<i64, ArrowError> {
    if (0..=WALL_MS_MAX).contains(&wall_ms) {
        return Ok(wall_ms << 16);
    }
    Err(ArrowError::ComputeError(format!(
        "hlc_at: {wall_ms} ms since 1970 is outside what an HLC can hold (0 to {WALL_MS_MAX})"
    )))
}

/// The scalar function `hlc_at`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HlcAt {
    signature: Signature,
}

impl HlcAt {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for HlcAt {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "hlc_at"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wall = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let time = array(&args.args, 0, args.number_rows, &wall)?;
        let hlc: Int64Array = time
            .as_primitive::<TimestampMillisecondType>()
            .try_unary(smallest_hlc)?;
        Ok(ColumnarValue::Array(Arc::new(hlc)))
    }
}
