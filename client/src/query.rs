//! Reading the local database with plain SQL.
//!
//! Invariant: a query never writes. An edit has to go through `insert`, `update` or `delete`, or nobody else would
//! hear of it.

use rusqlite::types::Value as SqlValue;

use crate::client::Client;
use crate::error::ClientError;

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each with as many values as there are columns.
    pub rows: Vec<Vec<SqlValue>>,
}

impl Client {
    /// Runs one SELECT on the local database, whose tables are the registered ones with `row_id` before their columns.
    ///
    /// # Errors
    /// [`ClientError::ReadOnly`] when the statement is no query, or [`ClientError::Database`] with what SQLite says
    /// about it.
    pub fn query(&self, sql: &str) -> Result<Rows, ClientError> {
        let mut statement = self.connection.prepare(sql)?;
        // BEGIN, ATTACH and their like change no database file, and so count as read-only; but they have no columns.
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(ClientError::ReadOnly);
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let width = columns.len();
        let rows = statement
            .query_map([], |row| (0..width).map(|index| row.get(index)).collect())?
            .collect::<Result<_, _>>()?;
        Ok(Rows { columns, rows })
    }
}
