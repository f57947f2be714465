//! The row id of a row with a primary key: one function, used by every door.
//!
//! Invariant: equal keys have equal row ids and different keys have different ones, on every client and the gateway.

use crate::canonical::write_string;
use crate::id::{IdError, RowId};
use crate::value::Value;
use crate::value_read::ValueError;

/// Makes the row id of a key's values, in the order of the primary key.
///
/// One column: the value's canonical text, strings bare. Several: a JSON array of the canonical forms.
///
/// ```
/// use lakesync_proto::{Value, row_id_of};
/// assert_eq!(row_id_of(&[&Value::from("a b")])?, "a b");
/// assert_eq!(row_id_of(&[&Value::from("a"), &Value::Long(7)])?, r#"["a",7]"#);
/// # Ok::<(), lakesync_proto::RowIdError>(())
/// ```
///
/// # Errors
/// [`RowIdError`] for no column at all, a null, a `json` value, a value that is no legal one, or a text that is no
/// [`RowId`].
pub fn row_id_of(key: &[&Value]) -> Result<RowId, RowIdError> {
    let mut text = String::new();
    match key {
        [] => return Err(RowIdError::NoKey),
        [value] => text = key_text(value, 0)?,
        values => {
            for (position, value) in values.iter().enumerate() {
                text.push(if position == 0 { '[' } else { ',' });
                text.push_str(&element(value, position)?);
            }
            text.push(']');
        }
    }
    RowId::parse(&text).map_err(RowIdError::Text)
}

/// The canonical form of one key column, as it stands in the row id of a composite key.
fn element(value: &Value, position: usize) -> Result<String, RowIdError> {
    let text = key_text(value, position)?;
    Ok(match value {
        Value::Number(_) | Value::Long(_) | Value::Boolean(_) => text,
        _ => {
            let mut quoted = String::with_capacity(text.len() + 2);
            write_string(&text, &mut quoted);
            quoted
        }
    })
}

fn key_text(value: &Value, position: usize) -> Result<String, RowIdError> {
    let name = value.type_name();
    let text = value.text().ok_or(RowIdError::NoText { position, name })?;
    value
        .check()
        .map_err(|source| RowIdError::Value { position, source })?;
    Ok(text)
}

/// Why a key makes no row id.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowIdError {
    /// There is no key column.
    #[error("a row id needs at least one key column")]
    NoKey,
    /// A key column holds a value that names no row.
    #[error("key column {position} is {name}, which cannot be part of a row id")]
    NoText {
        /// The place in the primary key, from 0.
        position: usize,
        /// What the value is.
        name: &'static str,
    },
    /// A key column is missing from the row.
    #[error("key column {column} is missing")]
    Missing {
        /// The column's name.
        column: String,
    },
    /// A key column holds no legal value.
    #[error("key column {position}: {source}")]
    Value {
        /// The place in the primary key, from 0.
        position: usize,
        /// What is wrong with it.
        source: ValueError,
    },
    /// The row id of a table with a key is none of its keys.
    #[error(
        "row id {row_id:?} is no key ({key}); it is the key's canonical text, for several columns a JSON array"
    )]
    NotAKey {
        /// The row id.
        row_id: RowId,
        /// The key's columns.
        key: String,
    },
    /// The text is empty, too long, or has a U+0000.
    #[error(transparent)]
    Text(IdError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal::Decimal;

    #[test]
    fn one_column_is_its_bare_text() {
        let cases = [
            (Value::from("x\"y"), "x\"y"),
            (Value::Long(i64::MIN), "-9223372036854775808"),
            (Value::Number(-0.0), "0"),
            (Value::Number(1e21), "1e+21"),
            (Value::Boolean(true), "true"),
            (
                Value::Decimal(Decimal {
                    unscaled: -5,
                    scale: 2,
                }),
                "-0.05",
            ),
            (Value::Date(0), "1970-01-01"),
            (Value::Timestamp(1), "1970-01-01T00:00:00.000001Z"),
            (Value::Binary(vec![0, 255]), "AP8="),
        ];
        for (value, text) in cases {
            assert_eq!(row_id_of(&[&value]).unwrap(), text);
        }
    }

    #[test]
    fn several_columns_are_an_array_that_cannot_be_confused() {
        let id = |key: &[&Value]| row_id_of(key).unwrap();
        let (one, text) = (Value::Long(1), Value::from("1"));
        assert_eq!(id(&[&one, &text]), r#"[1,"1"]"#);
        assert_ne!(id(&[&one, &text]), id(&[&text, &one]));
        assert_ne!(
            id(&[&Value::from("a\",\"b"), &one]),
            id(&[&Value::from("a"), &Value::from("b")])
        );
        assert_eq!(
            id(&[&Value::Date(1), &Value::from("\0")]),
            r#"["1970-01-02","\u0000"]"#
        );
    }

    #[test]
    fn what_names_no_row_is_refused() {
        let name = |value: Value| match row_id_of(&[&Value::Long(1), &value]) {
            Err(RowIdError::NoText { position: 1, name }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name(Value::Null), "null");
        assert_eq!(name(Value::Json("{}".to_owned())), "json");
        assert_eq!(row_id_of(&[]), Err(RowIdError::NoKey));
        assert!(matches!(
            row_id_of(&[&Value::from("")]),
            Err(RowIdError::Text(_))
        ));
        assert!(matches!(
            row_id_of(&[&Value::from("\0")]),
            Err(RowIdError::Text(_))
        ));
        assert!(matches!(
            row_id_of(&[&Value::Number(f64::NAN)]),
            Err(RowIdError::Value { position: 0, .. })
        ));
    }
}
