//! One table's rows: the statements that read and write them by row id, and the clocks beside them.
//!
//! Invariant: a statement says whether it changed what shows. A write that finds the same values there changes nothing,
//! so nobody is told of it.

use std::collections::HashMap;
use std::sync::Arc;

use lakesync_proto::{RowId, Value};
use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{CachedStatement, Connection};

use super::bound::Bound;
use super::clocks::RowClocks;
use super::confirmed::{READ_CLOCKS, WRITE_CLOCKS, decoded, write_clocks};
use crate::error::ClientError;
use crate::schema::{LocalColumn, LocalTable, Slot};
use crate::value::from_sqlite;

/// Sets of columns whose UPDATE is kept for one page: clients write few different ones.
const UPDATES_KEPT: usize = 64;

/// The values of a row that stands in `t`, by slot; key columns are not among them.
pub(crate) type VisibleRow = Vec<(Slot, Value)>;

/// The statements of one table, prepared once each.
pub(crate) struct RowStatements<'a> {
    connection: &'a Connection,
    table: Arc<LocalTable>,
    /// The columns that are not in the key.
    columns: Vec<LocalColumn>,
    insert: Option<CachedStatement<'a>>,
    exists: Option<CachedStatement<'a>>,
    delete: Option<CachedStatement<'a>>,
    select: Option<CachedStatement<'a>>,
    read_clocks: Option<CachedStatement<'a>>,
    write_clocks: Option<CachedStatement<'a>>,
    updates: HashMap<Vec<Slot>, CachedStatement<'a>>,
}

impl<'a> RowStatements<'a> {
    pub(crate) fn new(connection: &'a Connection, table: &Arc<LocalTable>) -> RowStatements<'a> {
        let others = table.columns.iter();
        let others = others.filter(|column| !table.is_key(&column.name));
        RowStatements {
            connection,
            table: Arc::clone(table),
            columns: others.cloned().collect(),
            insert: None,
            exists: None,
            delete: None,
            select: None,
            read_clocks: None,
            write_clocks: None,
            updates: HashMap::new(),
        }
    }

    pub(crate) fn table(&self) -> &Arc<LocalTable> {
        &self.table
    }

    /// The columns that are not in the key, in the schema's order.
    pub(crate) fn columns(&self) -> &[LocalColumn] {
        &self.columns
    }

    /// Whether the row stands in `t`.
    pub(crate) fn exists(&mut self, key: &[SqlValue]) -> Result<bool, ClientError> {
        let (connection, table) = (self.connection, &self.table);
        let statement = prepared(&mut self.exists, connection, || {
            format!(
                "SELECT 1 FROM \"{}\" {}",
                table.schema.table,
                table.where_row()
            )
        })?;
        bind(statement, key)?;
        let mut rows = statement.raw_query();
        Ok(rows.next()?.is_some())
    }

    /// The row as it stands in `t`.
    pub(crate) fn select(&mut self, key: &[SqlValue]) -> Result<Option<VisibleRow>, ClientError> {
        let (connection, table, columns) = (self.connection, &self.table, &self.columns);
        let statement = prepared(&mut self.select, connection, || select_sql(table, columns))?;
        bind(statement, key)?;
        let mut rows = statement.raw_query();
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let values = columns.iter().enumerate().map(|(index, column)| {
            let value = read(&self.table, column, row.get_ref(index + 1)?)?;
            Ok((column.slot, value))
        });
        values.collect::<Result<_, ClientError>>().map(Some)
    }

    /// Adds a row that does not stand in `t`.
    pub(crate) fn insert<'v>(
        &mut self,
        key: &[SqlValue],
        value_of: impl Fn(Slot) -> Option<&'v Value>,
    ) -> Result<(), ClientError> {
        let (connection, table, columns) = (self.connection, &self.table, &self.columns);
        let statement = prepared(&mut self.insert, connection, || insert_sql(table, columns))?;
        for (column, mark) in columns.iter().zip(bind(statement, key)?..) {
            statement.raw_bind_parameter(mark, Bound(value_of(column.slot)))?;
        }
        statement.raw_execute()?;
        Ok(())
    }

    /// Sets some columns of a row that stands in `t`; whether that changed anything. Slots of no living column beside the
    /// key are left out.
    pub(crate) fn update<'v>(
        &mut self,
        key: &[SqlValue],
        changes: &[(Slot, Option<&'v Value>)],
    ) -> Result<bool, ClientError> {
        let living = |slot: Slot| self.columns.iter().find(|column| column.slot == slot);
        let changes: Vec<(&LocalColumn, Option<&'v Value>)> = changes
            .iter()
            .filter_map(|(slot, value)| Some((living(*slot)?, *value)))
            .collect();
        if changes.is_empty() {
            return Ok(false);
        }
        let slots: Vec<Slot> = changes.iter().map(|(column, _)| column.slot).collect();
        if !self.updates.contains_key(&slots) {
            let sql = update_sql(&self.table, changes.iter().map(|(column, _)| *column));
            let statement = self.connection.prepare_cached(&sql)?;
            if self.updates.len() >= UPDATES_KEPT {
                self.updates.clear();
            }
            self.updates.insert(slots.clone(), statement);
        }
        let statement = self
            .updates
            .get_mut(&slots)
            .expect("it was put there when it was missing");
        for ((_, value), mark) in changes.into_iter().zip(bind(statement, key)?..) {
            statement.raw_bind_parameter(mark, Bound(value))?;
        }
        Ok(statement.raw_execute()? > 0)
    }

    /// Takes a row out of `t`; whether it was there.
    pub(crate) fn delete(&mut self, key: &[SqlValue]) -> Result<bool, ClientError> {
        let (connection, table) = (self.connection, &self.table);
        let statement = prepared(&mut self.delete, connection, || {
            format!(
                "DELETE FROM \"{}\" {}",
                table.schema.table,
                table.where_row()
            )
        })?;
        bind(statement, key)?;
        Ok(statement.raw_execute()? > 0)
    }

    /// The clocks beside a row, when there are any.
    pub(crate) fn clocks(&mut self, row_id: &RowId) -> Result<Option<RowClocks>, ClientError> {
        let place = (self.table.number, row_id);
        let statement = prepared(&mut self.read_clocks, self.connection, || {
            READ_CLOCKS.to_owned()
        })?;
        decoded(statement, place)
    }

    /// Replaces the clocks beside a row; none takes them away.
    pub(crate) fn set_clocks(
        &mut self,
        row_id: &RowId,
        clocks: Option<&RowClocks>,
    ) -> Result<(), ClientError> {
        let place = (self.table.number, row_id);
        match clocks {
            None => write_clocks(self.connection, place, None),
            Some(clocks) => {
                let statement = prepared(&mut self.write_clocks, self.connection, || {
                    WRITE_CLOCKS.to_owned()
                })?;
                statement.execute((place.0, row_id.as_str(), clocks.encode()))?;
                Ok(())
            }
        }
    }

    /// Names the row in an error that came of an index or trigger of the application.
    pub(crate) fn explained(&self, row_id: &RowId, error: ClientError) -> ClientError {
        match constraint(&error) {
            None => error,
            Some(reason) => ClientError::RowForbidden {
                table: self.table.schema.table.clone(),
                row_id: row_id.clone(),
                reason,
            },
        }
    }
}

/// What SQLite says when a write breaks a constraint.
fn constraint(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Database(rusqlite::Error::SqliteFailure(code, text))
            if code.code == rusqlite::ErrorCode::ConstraintViolation =>
        {
            Some(text.clone().unwrap_or_else(|| code.to_string()))
        }
        _ => None,
    }
}

/// A column's value out of SQLite.
pub(super) fn read(
    table: &LocalTable,
    column: &LocalColumn,
    stored: ValueRef<'_>,
) -> Result<Value, ClientError> {
    from_sqlite(stored, column.column_type).map_err(|what| ClientError::Damaged {
        what: format!("column {} of {}: {what}", column.name, table.schema.table),
    })
}

/// Every column beside the key, behind a 1: a row may have no other column.
fn select_sql(table: &LocalTable, columns: &[LocalColumn]) -> String {
    let names: String = columns
        .iter()
        .map(|column| format!(", \"{}\"", column.name))
        .collect();
    format!(
        "SELECT 1{names} FROM \"{}\" {}",
        table.schema.table,
        table.where_row()
    )
}

fn insert_sql(table: &LocalTable, columns: &[LocalColumn]) -> String {
    let names: String = columns
        .iter()
        .map(|column| format!(", \"{}\"", column.name))
        .collect();
    let marks = table.key_len() + columns.len();
    let marks: Vec<String> = (1..=marks).map(|mark| format!("?{mark}")).collect();
    format!(
        "INSERT INTO \"{}\" ({}{names}) VALUES ({})",
        table.schema.table,
        table.identity(),
        marks.join(", ")
    )
}

fn update_sql<'c>(table: &LocalTable, columns: impl Iterator<Item = &'c LocalColumn>) -> String {
    let (mut sets, mut differs) = (Vec::new(), Vec::new());
    for (column, mark) in columns.zip(table.key_len() + 1..) {
        sets.push(format!("\"{}\" = ?{mark}", column.name));
        differs.push(format!("\"{}\" IS NOT ?{mark}", column.name));
    }
    format!(
        "UPDATE \"{}\" SET {} {} AND ({})",
        table.schema.table,
        sets.join(", "),
        table.where_row(),
        differs.join(" OR ")
    )
}

fn prepared<'s, 'a>(
    place: &'s mut Option<CachedStatement<'a>>,
    connection: &'a Connection,
    sql: impl FnOnce() -> String,
) -> Result<&'s mut CachedStatement<'a>, ClientError> {
    if place.is_none() {
        *place = Some(connection.prepare_cached(&sql())?);
    }
    Ok(place
        .as_mut()
        .expect("it was put there when it was missing"))
}

/// Binds a row's key; gives the number of the next parameter.
fn bind(statement: &mut CachedStatement<'_>, key: &[SqlValue]) -> Result<usize, ClientError> {
    for (value, mark) in key.iter().zip(1..) {
        statement.raw_bind_parameter(mark, value)?;
    }
    Ok(key.len() + 1)
}
