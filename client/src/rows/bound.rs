//! A value on its way into SQLite, without a copy of its text or bytes.
//!
//! Invariant: what is bound is what `value::to_sqlite` makes.

use lakesync_proto::Value;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::value::to_sqlite;

/// A borrowed value as a statement's parameter; none is null.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'v>(pub(crate) Option<&'v Value>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            None | Some(Value::Null) => ToSqlOutput::Borrowed(ValueRef::Null),
            Some(Value::String(text) | Value::Json(text)) => {
                ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
            }
            Some(Value::Number(number)) => ToSqlOutput::Borrowed(ValueRef::Real(*number)),
            Some(Value::Long(number)) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Some(Value::Binary(bytes)) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Some(value) => ToSqlOutput::Owned(to_sqlite(value)),
        })
    }
}
