//! Reading values from their JSON form.
//!
//! Invariant: nothing is coerced. A value has its column's type or is refused, with what was expected and what came.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::calendar;
use crate::canonical::{Integers, normal_text};
use crate::column_type::ColumnType;
use crate::decimal::Decimal;
use crate::error::shown;
use crate::limits::VALUE_BYTES_MAX;
use crate::number::parse_i64;
use crate::value::Value;

impl Value {
    /// A `json` value from any JSON text, put into normal form: keys sorted by UTF-16 code unit, the last of repeated
    /// keys kept, no spaces, integers with all their digits, other numbers in their shortest JavaScript form.
    ///
    /// # Errors
    /// [`ValueError::BadText`] when the text is no JSON, or nested deeper than
    /// [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX); [`ValueError::TooLarge`].
    pub fn json(text: &str) -> Result<Value, ValueError> {
        check_size(text.len())?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let normal = normal_text(&mut reader, Integers::Exact)
            .and_then(|normal| reader.end().map(|()| normal));
        Value::of_normal_json(normal, || text.to_owned())
    }

    /// Reads the JSON form of a value of `column_type`.
    ///
    /// # Errors
    /// [`ValueError`] when it is none; nothing is coerced.
    pub fn from_json(json: &Json, column_type: ColumnType) -> Result<Value, ValueError> {
        let refused = || wrong_type(column_type, describe(json));
        match (column_type, json) {
            (_, Json::Null) => Ok(Value::Null),
            (ColumnType::Json, json) => {
                Value::of_normal_json(normal_text(json, Integers::Exact), || json.to_string())
            }
            (column_type, Json::String(text)) => from_text(Cow::Borrowed(text), column_type),
            (ColumnType::Boolean, Json::Bool(value)) => Ok(Value::Boolean(*value)),
            (ColumnType::Number, Json::Number(number)) => {
                number.as_f64().map(Value::Number).ok_or_else(refused)
            }
            (ColumnType::Long, Json::Number(number)) => {
                number.as_i64().map(Value::Long).ok_or_else(refused)
            }
            _ => Err(refused()),
        }
    }

    /// Reads the JSON form of a value of `column_type` from text; large numbers keep all their digits.
    ///
    /// # Errors
    /// [`ValueError`] when the text is no JSON or no such value.
    pub fn from_json_text(text: &str, column_type: ColumnType) -> Result<Value, ValueError> {
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|e| bad_text(column_type, text, e.to_string()))?;
        Value::from_raw(raw, column_type)
    }

    pub(crate) fn from_raw(raw: &RawValue, column_type: ColumnType) -> Result<Value, ValueError> {
        let text = raw.get();
        let first = text.as_bytes().first().copied();
        match (column_type, first) {
            (_, Some(b'n')) => Ok(Value::Null),
            (ColumnType::Json, _) => Value::json(text),
            (_, Some(b'"')) => {
                let inner =
                    string_of(raw).map_err(|e| bad_text(column_type, text, e.to_string()))?;
                from_text(inner, column_type)
            }
            (ColumnType::Boolean, Some(b't')) => Ok(Value::Boolean(true)),
            (ColumnType::Boolean, Some(b'f')) => Ok(Value::Boolean(false)),
            (ColumnType::Number, Some(b'-' | b'0'..=b'9')) => match text.parse() {
                Ok(number) if f64::is_finite(number) => Ok(Value::Number(number)),
                _ => Err(bad_text(
                    column_type,
                    text,
                    "a 64-bit float does not reach that far",
                )),
            },
            (ColumnType::Long, Some(b'-' | b'0'..=b'9')) => long(text),
            _ => Err(wrong_type(column_type, describe_raw(text))),
        }
    }

    /// Takes normal JSON text; `original` is what an error shows.
    fn of_normal_json(
        normal: Result<String, serde_json::Error>,
        original: impl FnOnce() -> String,
    ) -> Result<Value, ValueError> {
        let text = normal.map_err(|e| bad_text(ColumnType::Json, &original(), e.to_string()))?;
        check_size(text.len())?;
        Ok(if text == "null" {
            Value::Null
        } else {
            Value::Json(text)
        })
    }
}

/// The text of a JSON string, copied only when it has escapes.
pub(crate) fn string_of(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    let text = raw.get();
    let plain = text
        .strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .filter(|t| !t.contains('\\'));
    match plain {
        Some(plain) => Ok(Cow::Borrowed(plain)),
        None => serde_json::from_str(text).map(Cow::Owned),
    }
}

/// Reads a value that JSON writes as a string.
fn from_text(text: Cow<'_, str>, column_type: ColumnType) -> Result<Value, ValueError> {
    check_size(text.len())?;
    match column_type {
        ColumnType::String => Ok(Value::String(text.into_owned())),
        ColumnType::Long => long(&text),
        ColumnType::Decimal { precision, scale } => Decimal::parse(&text, precision, scale)
            .map(Value::Decimal)
            .map_err(|reason| bad_text(column_type, &text, reason)),
        ColumnType::Date => calendar::parse_date(&text)
            .map(Value::Date)
            .ok_or_else(|| bad_text(column_type, &text, "YYYY-MM-DD of the years 0001 to 9999 is needed")),
        ColumnType::Timestamp => calendar::parse_timestamp(&text).map(Value::Timestamp).ok_or_else(|| {
            let reason = "RFC 3339 with Z or an offset, at most microseconds, of the years 0001 to 9999 is needed";
            bad_text(column_type, &text, reason)
        }),
        ColumnType::Binary => BASE64
            .decode(text.as_bytes())
            .map(Value::Binary)
            .map_err(|e| bad_text(column_type, &text, format!("it is no padded base64: {e}"))),
        ColumnType::Number | ColumnType::Boolean | ColumnType::Json => {
            Err(wrong_type(column_type, format!("string {:?}", shown(&text))))
        }
    }
}

fn long(text: &str) -> Result<Value, ValueError> {
    let reason = "an integer of 64 bits, as a number or as decimal digits in a string, is needed";
    parse_i64(text)
        .map(Value::Long)
        .ok_or_else(|| bad_text(ColumnType::Long, text, reason))
}

pub(crate) fn check_size(bytes: usize) -> Result<(), ValueError> {
    let limit_bytes = VALUE_BYTES_MAX;
    match bytes > limit_bytes {
        true => Err(ValueError::TooLarge { bytes, limit_bytes }),
        false => Ok(()),
    }
}

fn describe(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => format!("boolean {value}"),
        Json::Number(number) => format!("number {number}"),
        Json::String(text) => format!("string {:?}", shown(text)),
        Json::Array(_) => "an array".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    }
}

fn describe_raw(text: &str) -> String {
    match text.as_bytes().first() {
        Some(b'[') => "an array".to_owned(),
        Some(b'{') => "an object".to_owned(),
        Some(b't' | b'f') => format!("boolean {text}"),
        _ => format!("number {}", shown(text)),
    }
}

fn wrong_type(expected: ColumnType, found: String) -> ValueError {
    ValueError::WrongType { expected, found }
}

pub(crate) fn bad_text(expected: ColumnType, text: &str, reason: impl Into<String>) -> ValueError {
    ValueError::BadText {
        expected,
        text: shown(text),
        reason: reason.into(),
    }
}

/// Why something is no value of a column.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// It has another JSON type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The column's type.
        expected: ColumnType,
        /// What came, shortened.
        found: String,
    },
    /// It has the right JSON type but is no value of the column's type.
    #[error("{text:?} is no {expected}: {reason}")]
    BadText {
        /// The column's type.
        expected: ColumnType,
        /// What came, shortened.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// NaN or an infinity.
    #[error("{number} is refused: a number must be finite")]
    NotFinite {
        /// The refused number.
        number: f64,
    },
    /// A date, timestamp or decimal that its text form does not reach.
    #[error("{name} {text} is out of range")]
    OutOfRange {
        /// The value's type.
        name: &'static str,
        /// The value.
        text: String,
    },
    /// It is too large.
    #[error("the value has {bytes} bytes, {limit_bytes} are allowed")]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
        /// The limit, bytes.
        limit_bytes: usize,
    },
}
