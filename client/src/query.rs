//! Reading the local database with plain SQL.
//!
//! Invariant: a query never writes. What it would write had no time and no place in a transaction of the application's.

use std::collections::BTreeMap;

use lakesync_proto::{ColumnName, RowId, TableName, Value};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, Params};

use crate::db::LocalDb;
use crate::error::ClientError;
use crate::rows::RowImage;

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each with as many values as there are columns.
    pub rows: Vec<Vec<SqlValue>>,
}

impl LocalDb {
    /// Runs one SELECT on the local database: the registered tables, as [`LocalDb::register`] makes them, and whatever the
    /// application has made besides.
    ///
    /// # Errors
    /// [`ClientError::ReadOnly`] when the statement is no query, or [`ClientError::Database`] with what SQLite says
    /// about it.
    pub fn query(&self, sql: &str, params: impl Params) -> Result<Rows, ClientError> {
        read(&self.local().connection, sql, params)
    }

    /// The rows of a table, each with the values it shows. An explicit null is there as [`Value::Null`], a column
    /// that was never written is not.
    ///
    /// # Errors
    /// [`ClientError::UnknownTable`], or when the database fails.
    pub fn rows(
        &self,
        table: &str,
    ) -> Result<BTreeMap<RowId, BTreeMap<ColumnName, Value>>, ClientError> {
        let name = TableName::parse(table)?;
        self.keep(|work| {
            let table = std::sync::Arc::clone(work.registry.table(&name)?);
            let sql = format!("SELECT {} FROM \"{name}\"", table.identity());
            let mut statement = work.tx.prepare_cached(&sql)?;
            let mut found = statement.query([])?;
            let mut rows = BTreeMap::new();
            while let Some(row) = found.next()? {
                let identity: Vec<SqlValue> = (0..table.key_len())
                    .map(|at| row.get(at))
                    .collect::<Result<_, _>>()?;
                let row_id = table
                    .row_id(&identity)
                    .map_err(|what| ClientError::Damaged {
                        what: format!("a row of {name}: {what}"),
                    })?;
                let state = RowImage::load(work, &table, &row_id)?.visible();
                let mut values: BTreeMap<ColumnName, Value> = state
                    .visible_cells()
                    .filter(|(column, _)| table.column(column).is_some())
                    .map(|(column, cell)| (column.clone(), cell.value.clone()))
                    .collect();
                // The key follows from the row id, whoever wrote what.
                let key = table.schema.key_values(&row_id);
                values.extend(key.map_err(|error| ClientError::Damaged {
                    what: error.to_string(),
                })?);
                rows.insert(row_id, values);
            }
            Ok(rows)
        })
    }
}

/// Runs one SELECT.
pub(crate) fn read(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Rows, ClientError> {
    let mut statement = connection.prepare_cached(sql)?;
    // BEGIN, ATTACH and their like change no database file, and so count as read-only; but they have no columns.
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(ClientError::ReadOnly);
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = columns.len();
    let rows = statement
        .query_map(params, |row| {
            (0..width).map(|index| row.get(index)).collect()
        })?
        .collect::<Result<_, _>>()?;
    Ok(Rows { columns, rows })
}
