//! Values in SQLite: one type of ours, one storage class, both ways without loss.
//!
//! ```text
//! string json decimal date timestamp   TEXT      the JSON form without its quotes; json as its text
//! number                               REAL
//! long                                 INTEGER
//! boolean                              INTEGER   0 or 1
//! binary                               BLOB
//! ```
//! Invariant: what was written reads back equal, because tables are STRICT and the schema tells the type.

use lakesync_proto::{ColumnType, Value};
use rusqlite::types::{Value as SqlValue, ValueRef};

/// The storage class of a column in a STRICT table.
pub(crate) fn storage_class(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Number => "REAL",
        ColumnType::Long | ColumnType::Boolean => "INTEGER",
        ColumnType::Binary => "BLOB",
        ColumnType::String
        | ColumnType::Json
        | ColumnType::Decimal { .. }
        | ColumnType::Date
        | ColumnType::Timestamp => "TEXT",
    }
}

/// What SQLite keeps for a value.
pub(crate) fn to_sqlite(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::String(text) | Value::Json(text) => SqlValue::Text(text.clone()),
        Value::Number(number) => SqlValue::Real(*number),
        Value::Long(number) => SqlValue::Integer(*number),
        Value::Boolean(truth) => SqlValue::Integer(i64::from(*truth)),
        Value::Binary(bytes) => SqlValue::Blob(bytes.clone()),
        Value::Decimal(_) | Value::Date(_) | Value::Timestamp(_) => match value.to_json() {
            serde_json::Value::String(text) => SqlValue::Text(text),
            other => SqlValue::Text(other.to_string()),
        },
    }
}

/// The value that SQLite kept, or what is wrong with it.
pub(crate) fn from_sqlite(stored: ValueRef<'_>, column_type: ColumnType) -> Result<Value, String> {
    let mismatch = || format!("a {} where a {column_type} belongs", stored.data_type());
    match (column_type, stored) {
        (_, ValueRef::Null) => Ok(Value::Null),
        (ColumnType::Number, ValueRef::Real(number)) => Ok(Value::Number(number)),
        (ColumnType::Long, ValueRef::Integer(number)) => Ok(Value::Long(number)),
        (ColumnType::Boolean, ValueRef::Integer(number)) => Ok(Value::Boolean(number != 0)),
        (ColumnType::Binary, ValueRef::Blob(bytes)) => Ok(Value::Binary(bytes.to_vec())),
        (ColumnType::String, ValueRef::Text(_)) => text(stored).map(Value::String),
        (ColumnType::Json, ValueRef::Text(_)) => text(stored).map(Value::Json),
        (
            ColumnType::Decimal { .. } | ColumnType::Date | ColumnType::Timestamp,
            ValueRef::Text(_),
        ) => {
            let json = serde_json::Value::String(text(stored)?);
            Value::from_json(&json, column_type).map_err(|error| error.to_string())
        }
        _ => Err(mismatch()),
    }
}

/// The value of what an application wrote, checked as everything is that others will read, and put into its normal form;
/// or what is wrong with it.
pub(crate) fn from_written(
    written: ValueRef<'_>,
    column_type: ColumnType,
) -> Result<Value, String> {
    let value = match (column_type, written) {
        (ColumnType::Json, ValueRef::Text(_)) => {
            return Value::json(&text(written)?).map_err(|error| error.to_string());
        }
        _ => from_sqlite(written, column_type)?,
    };
    value.check().map_err(|error| error.to_string())?;
    Ok(value)
}

/// A copy of what SQLite kept. Text that is no UTF-8, which only a broken program can have written, is mended.
pub(crate) fn copied(stored: ValueRef<'_>) -> SqlValue {
    match stored {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Text(bytes) => SqlValue::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
    }
}

fn text(stored: ValueRef<'_>) -> Result<String, String> {
    stored
        .as_str()
        .map(str::to_owned)
        .map_err(|error| error.to_string())
}
