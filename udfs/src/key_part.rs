//! `key_part(row_id, position)`: one column of a composite key as text, out of the row id.
//!
//! The row id of a composite key is a JSON array of its columns; a text element comes without its quotes.
//! What is no such array, or has no such element, gives null.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use serde_json::value::RawValue;

use crate::argument::array;

/// The scalar function `key_part`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyPart {
    signature: Signature,
}

impl KeyPart {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

fn part(row_id: &str, position: i64) -> Option<String> {
    let elements: Vec<&RawValue> = serde_json::from_str(row_id).ok()?;
    let element = elements.get(usize::try_from(position).ok()?)?.get();
    match element.starts_with('"') {
        true => serde_json::from_str(element).ok(),
        false => Some(element.to_owned()),
    }
}

impl ScalarUDFImpl for KeyPart {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "key_part"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let row_id = array(&args.args, 0, rows, &DataType::Utf8)?;
        let position = array(&args.args, 1, rows, &DataType::Int64)?;
        let (row_id, position) = (
            row_id.as_string::<i32>(),
            position.as_primitive::<Int64Type>(),
        );
        let parts: StringArray = (0..rows)
            .map(|row| match row_id.is_null(row) || position.is_null(row) {
                true => None,
                false => part(row_id.value(row), position.value(row)),
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn elements_come_bare_and_what_is_not_there_is_none() {
        assert_eq!(part(r#"["a\"b",7]"#, 0).as_deref(), Some("a\"b"));
        assert_eq!(part(r#"["a",7]"#, 1).as_deref(), Some("7"));
        assert_eq!(part(r#"["a",7]"#, 2), None);
        assert_eq!(part("a", 0), None);
    }
}
