//! The types that a column can have.
//!
//! Invariant: one table (WIRE A6) fixes each type's JSON form, canonical form, Arrow, Iceberg and SQLite type; the
//! text form here is what schemas hold.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::shown;
use crate::limits::DECIMAL_PRECISION_MAX;

/// The type of a column.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnType {
    /// Text.
    String,
    /// A finite 64-bit float.
    Number,
    /// A signed 64-bit integer.
    Long,
    /// True or false.
    Boolean,
    /// Any JSON value.
    Json,
    /// An exact decimal number.
    Decimal {
        /// All digits, 1 to [`DECIMAL_PRECISION_MAX`].
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// A day of the proleptic Gregorian calendar, years 1 to 9999.
    Date,
    /// A moment in UTC with microseconds, years 1 to 9999.
    Timestamp,
    /// Bytes.
    Binary,
}

impl ColumnType {
    /// `decimal(precision,scale)`, checked.
    ///
    /// # Errors
    /// [`ColumnTypeError`] unless `1 <= precision <= 38` and `scale <= precision`.
    pub fn decimal(precision: u8, scale: u8) -> Result<ColumnType, ColumnTypeError> {
        let decimal = ColumnType::Decimal { precision, scale };
        match (1..=DECIMAL_PRECISION_MAX).contains(&precision) && scale <= precision {
            true => Ok(decimal),
            false => Err(ColumnTypeError {
                text: decimal.to_string(),
            }),
        }
    }

    /// Whether every value of `self` is a value of `to`, and Iceberg may change the column so: only a decimal's
    /// precision can grow.
    pub fn widens_to(self, to: ColumnType) -> bool {
        match (self, to) {
            (
                ColumnType::Decimal {
                    precision: p,
                    scale: s,
                },
                ColumnType::Decimal { precision, scale },
            ) => s == scale && p < precision,
            _ => false,
        }
    }
}

/// A text that names no column type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid column type {text:?}: string, number (double), long (integer, int), boolean, json, decimal(p,s) with \
     1 <= p <= 38 and s <= p, date, timestamp and binary exist"
)]
pub struct ColumnTypeError {
    /// The refused text, shortened.
    pub text: String,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::String => f.pad("string"),
            ColumnType::Number => f.pad("number"),
            ColumnType::Long => f.pad("long"),
            ColumnType::Boolean => f.pad("boolean"),
            ColumnType::Json => f.pad("json"),
            ColumnType::Decimal { precision, scale } => {
                f.pad(&format!("decimal({precision},{scale})"))
            }
            ColumnType::Date => f.pad("date"),
            ColumnType::Timestamp => f.pad("timestamp"),
            ColumnType::Binary => f.pad("binary"),
        }
    }
}

impl FromStr for ColumnType {
    type Err = ColumnTypeError;

    fn from_str(text: &str) -> Result<ColumnType, ColumnTypeError> {
        match text {
            "string" => Ok(ColumnType::String),
            "number" | "double" => Ok(ColumnType::Number),
            "long" | "integer" | "int" => Ok(ColumnType::Long),
            "boolean" => Ok(ColumnType::Boolean),
            "json" => Ok(ColumnType::Json),
            "date" => Ok(ColumnType::Date),
            "timestamp" => Ok(ColumnType::Timestamp),
            "binary" => Ok(ColumnType::Binary),
            _ => parse_decimal_type(text).ok_or_else(|| ColumnTypeError { text: shown(text) }),
        }
    }
}

/// Reads `decimal(p,s)`; spaces around the numbers are allowed.
fn parse_decimal_type(text: &str) -> Option<ColumnType> {
    let inner = text.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = inner.split_once(',')?;
    ColumnType::decimal(small(precision)?, small(scale)?).ok()
}

fn small(text: &str) -> Option<u8> {
    crate::number::parse_u64(text.trim()).and_then(|n| u8::try_from(n).ok())
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ColumnType, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_read_and_the_name_comes_back() {
        let cases = [
            ("string", "string"),
            ("double", "number"),
            ("int", "long"),
            ("integer", "long"),
            ("decimal(10, 2)", "decimal(10,2)"),
            ("decimal(38,38)", "decimal(38,38)"),
            ("timestamp", "timestamp"),
        ];
        for (text, name) in cases {
            let column_type: ColumnType = text.parse().unwrap();
            assert_eq!(column_type.to_string(), name);
            assert_eq!(name.parse(), Ok(column_type));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for text in [
            "null",
            "",
            "String",
            "decimal",
            "decimal(0,0)",
            "decimal(39,0)",
            "decimal(5,6)",
            "decimal(5)",
        ] {
            let error = text.parse::<ColumnType>().unwrap_err().to_string();
            assert!(error.contains("Invalid column type"), "{error}");
        }
    }

    #[test]
    fn only_a_decimals_precision_widens() {
        let decimal = |p, s| ColumnType::decimal(p, s).unwrap();
        assert!(decimal(5, 2).widens_to(decimal(6, 2)));
        assert!(!decimal(5, 2).widens_to(decimal(5, 2)));
        assert!(!decimal(5, 2).widens_to(decimal(6, 3)));
        assert!(!decimal(5, 2).widens_to(decimal(4, 2)));
        assert!(!ColumnType::Long.widens_to(ColumnType::Number));
    }
}
