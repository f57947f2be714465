//! `stamp(_hlc, _client, _delta_id)`: the total order of writes as one binary key.
//!
//! ```text
//! ┌────────────┬─────────────────┬──────┬───────────────┐
//! │ hlc, 8 B BE│ client id, bytes│ 0x00 │ delta id, 32 B│
//! └────────────┴─────────────────┴──────┴───────────────┘
//! ```
//! Client ids hold no control character, so the zero byte ends a shorter id before a longer one: bytes
//! compare as (HLC, client id, delta id) does. The layout is [`lakesync_proto::Stamp::to_bytes`]'s.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BinaryBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::argument::array;

/// The scalar function `stamp`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct StampFunction {
    signature: Signature,
}

impl StampFunction {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(3, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for StampFunction {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "stamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let hlc = array(&args.args, 0, rows, &DataType::Int64)?;
        let client = array(&args.args, 1, rows, &DataType::Utf8)?;
        let delta_id = array(&args.args, 2, rows, &DataType::Binary)?;
        let (hlc, client, delta_id) = (
            hlc.as_primitive::<Int64Type>(),
            client.as_string::<i32>(),
            delta_id.as_binary::<i32>(),
        );
        let mut keys = BinaryBuilder::with_capacity(rows, rows * 64);
        let mut key = Vec::with_capacity(64);
        for row in 0..rows {
            if hlc.is_null(row) || client.is_null(row) || delta_id.is_null(row) {
                keys.append_null();
                continue;
            }
            key.clear();
            key.extend_from_slice(&hlc.value(row).to_be_bytes());
            key.extend_from_slice(client.value(row).as_bytes());
            key.push(0);
            key.extend_from_slice(delta_id.value(row));
            keys.append_value(&key);
        }
        Ok(ColumnarValue::Array(Arc::new(keys.finish())))
    }
}
