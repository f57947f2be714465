//! Reading the local database with plain SQL.
//!
//! Invariant: a query never writes. An edit has to go where it is captured, or nobody else would hear of it.

use rusqlite::Params;
use rusqlite::types::Value as SqlValue;

use crate::{ClientError, LocalDb};

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each with as many values as there are columns.
    pub rows: Vec<Vec<SqlValue>>,
}

impl LocalDb {
    /// Runs one SELECT.
    ///
    /// # Errors
    /// [`ClientError::ReadOnly`] when the statement is no query, or [`ClientError::Database`] with what SQLite says
    /// about it.
    pub fn query(&self, sql: &str, params: impl Params) -> Result<Rows, ClientError> {
        let local = self.local();
        let mut statement = local.connection.prepare_cached(sql)?;
        // BEGIN, ATTACH and their like change no database file, and so count as read-only; but they have no columns.
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(ClientError::ReadOnly);
        }
        let names = statement.column_names().into_iter();
        let columns: Vec<String> = names.map(str::to_owned).collect();
        let width = columns.len();
        let rows = statement
            .query_map(params, |row| {
                (0..width).map(|index| row.get(index)).collect()
            })?
            .collect::<Result<_, _>>()?;
        Ok(Rows { columns, rows })
    }
}
