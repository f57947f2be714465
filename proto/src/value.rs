//! One value of a column, with its type kept.
//!
//! Invariant: a value reads back from its JSON form as the same value of the same type, and equal values have equal
//! canonical text. User text is never rewritten, whatever its column is called; only `json` is put into its normal
//! form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Number, Value as Json};

use crate::calendar;
use crate::canonical::{write_canonical_json, write_number, write_string};
use crate::column_type::ColumnType;
use crate::decimal::Decimal;
use crate::error::shown;
use crate::limits::DECIMAL_PRECISION_MAX;
use crate::number::push_digits;
use crate::value_read::{ValueError, bad_text, check_size};

/// The greatest integer up to which a 64-bit float counts by ones: 2^53.
const EXACT_INTEGER_MAX: u64 = 1 << 53;

/// One value. Null belongs to every type.
///
/// ```
/// use lakesync_proto::{ColumnType, Value};
/// let value = Value::from_json(&serde_json::json!("9007199254740993"), ColumnType::Long)?;
/// assert_eq!(value, Value::Long(9_007_199_254_740_993));
/// assert_eq!(value.to_json(), serde_json::json!("9007199254740993"));
/// # Ok::<(), lakesync_proto::ValueError>(())
/// ```
#[derive(Debug, Clone)]
pub enum Value {
    /// No value, set explicitly.
    Null,
    /// Text.
    String(String),
    /// A finite float.
    Number(f64),
    /// A signed 64-bit integer.
    Long(i64),
    /// True or false.
    Boolean(bool),
    /// JSON text in normal form ([`Value::json`]); never `null`, which is [`Value::Null`].
    Json(String),
    /// An exact decimal number.
    Decimal(Decimal),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since the Unix epoch, UTC.
    Timestamp(i64),
    /// Bytes.
    Binary(Vec<u8>),
}

/// By meaning: -0 equals 0 and a NaN, which no check lets pass, equals itself.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::String(a), Value::String(b)) | (Value::Json(a), Value::Json(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Long(a), Value::Long(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Boolean(a), Value::Boolean(b)) => a == b,
            (Value::Decimal(a), Value::Decimal(b)) => a == b,
            (Value::Date(a), Value::Date(b)) => a == b,
            (Value::Binary(a), Value::Binary(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Value {
    /// The JSON form: what [`Value::from_json`] reads back.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::String(text) => Json::String(text.clone()),
            Value::Number(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Long(long) if long.unsigned_abs() <= EXACT_INTEGER_MAX => Json::from(*long),
            Value::Boolean(value) => Json::Bool(*value),
            // A text that is no JSON was never checked; it is shown, not hidden.
            Value::Json(text) => {
                serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone()))
            }
            Value::Long(_)
            | Value::Decimal(_)
            | Value::Date(_)
            | Value::Timestamp(_)
            | Value::Binary(_) => Json::String(self.text().unwrap_or_default()),
        }
    }

    /// Appends the JSON form as text.
    pub(crate) fn write_json(&self, out: &mut String) {
        match self {
            Value::Long(long) if long.unsigned_abs() > EXACT_INTEGER_MAX => {
                out.push('"');
                push_digits(long, out);
                out.push('"');
            }
            Value::Number(number) if *number == 0.0 && number.is_sign_negative() => {
                out.push_str("-0.0")
            }
            Value::Json(text) => out.push_str(text),
            _ => self.write_canonical(out),
        }
    }

    /// Appends the canonical form: what a delta id hashes.
    ///
    /// It is the JSON form, but a `long` is its decimal digits at any size, -0 is 0, and an integer inside `json` is
    /// what a 64-bit float makes of it.
    pub fn write_canonical(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::String(text) => write_string(text, out),
            Value::Number(number) => write_number(*number, out),
            Value::Long(long) => push_digits(long, out),
            Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Json(text) => write_canonical_json(text, out),
            Value::Decimal(_) | Value::Date(_) | Value::Timestamp(_) | Value::Binary(_) => {
                // These texts are plain ASCII: nothing to escape.
                out.push('"');
                out.push_str(&self.text().unwrap_or_default());
                out.push('"');
            }
        }
    }

    /// The canonical form without quotes, for a row id; none for null and `json`, which name no row.
    pub fn text(&self) -> Option<String> {
        let mut out = String::new();
        match self {
            Value::Null | Value::Json(_) => return None,
            Value::String(text) => out.push_str(text),
            Value::Number(_) | Value::Long(_) | Value::Boolean(_) => self.write_canonical(&mut out),
            Value::Decimal(decimal) => out = decimal.to_string(),
            Value::Date(days) => calendar::write_date(i64::from(*days), &mut out),
            Value::Timestamp(micros) => calendar::write_timestamp(*micros, &mut out),
            Value::Binary(bytes) => BASE64.encode_string(bytes, &mut out),
        }
        Some(out)
    }

    /// Whether a column of `column_type` can hold this value; null fits everywhere.
    pub fn column_type_matches(&self, column_type: ColumnType) -> bool {
        match (self, column_type) {
            (Value::Decimal(decimal), ColumnType::Decimal { precision, scale }) => {
                decimal.fits(precision, scale)
            }
            (Value::Null, _)
            | (Value::String(_), ColumnType::String)
            | (Value::Number(_), ColumnType::Number)
            | (Value::Long(_), ColumnType::Long)
            | (Value::Boolean(_), ColumnType::Boolean)
            | (Value::Json(_), ColumnType::Json)
            | (Value::Date(_), ColumnType::Date)
            | (Value::Timestamp(_), ColumnType::Timestamp)
            | (Value::Binary(_), ColumnType::Binary) => true,
            _ => false,
        }
    }

    /// What the value is, in one word, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Long(_) => "long",
            Value::Boolean(_) => "boolean",
            Value::Json(_) => "json",
            Value::Decimal(_) => "decimal",
            Value::Date(_) => "date",
            Value::Timestamp(_) => "timestamp",
            Value::Binary(_) => "binary",
        }
    }

    /// Checks what the type alone cannot: finite numbers, calendar ranges, digits, normal JSON, size.
    ///
    /// # Errors
    /// [`ValueError`] names what is wrong.
    pub fn check(&self) -> Result<(), ValueError> {
        match self {
            Value::Null | Value::Boolean(_) | Value::Long(_) => Ok(()),
            Value::String(text) => check_size(text.len()),
            Value::Binary(bytes) => check_size(bytes.len().div_ceil(3) * 4),
            Value::Number(number) if !number.is_finite() => {
                Err(ValueError::NotFinite { number: *number })
            }
            Value::Number(_) => Ok(()),
            Value::Json(text) => match Value::json(text)? {
                Value::Json(normal) if normal == *text => Ok(()),
                _ => Err(bad_text(ColumnType::Json, text, "it is not in normal form")),
            },
            Value::Decimal(decimal) if decimal.fits(DECIMAL_PRECISION_MAX, decimal.scale) => Ok(()),
            Value::Date(days) if (calendar::DATE_MIN..=calendar::DATE_MAX).contains(days) => Ok(()),
            Value::Timestamp(micros)
                if (calendar::TIMESTAMP_MIN..=calendar::TIMESTAMP_MAX).contains(micros) =>
            {
                Ok(())
            }
            Value::Decimal(_) | Value::Date(_) | Value::Timestamp(_) => {
                let (name, text) = (self.type_name(), self.text().unwrap_or_default());
                Err(ValueError::OutOfRange {
                    name,
                    text: shown(&text),
                })
            }
        }
    }

    /// An estimate of the value's memory beyond the enum itself, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Value::String(text) | Value::Json(text) => text.len(),
            Value::Binary(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<i64> for Value {
    fn from(long: i64) -> Value {
        Value::Long(long)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Boolean(value)
    }
}
