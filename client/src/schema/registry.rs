//! The schema registry (`_lakesync_meta`, `_lakesync_columns`): which tables this database has, each with the SQL that
//! reads and writes it.
//!
//! Invariant: a local table has exactly the living columns of its registered schema. A table's number and a column's slot
//! are never given twice, so clocks and captured changes mean the same after every change of a schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{ColumnName, ColumnType, RowId, Schemas, TableName, TableSchema};
use rusqlite::Connection;

use crate::error::ClientError;
use crate::state;

/// A table's number in the client's own tables.
pub(crate) type TableNumber = i64;

/// A column's number within its table, from 0: its place in clocks and captured changes.
pub(crate) type Slot = u32;

/// A living column of a registered table.
#[derive(Debug, Clone)]
pub(crate) struct LocalColumn {
    pub(crate) name: ColumnName,
    pub(crate) column_type: ColumnType,
    pub(crate) slot: Slot,
}

/// A registered table.
#[derive(Debug)]
pub(crate) struct LocalTable {
    pub(crate) number: TableNumber,
    pub(crate) schema: Arc<TableSchema>,
    /// In the schema's order.
    pub(crate) columns: Vec<LocalColumn>,
    /// What the gateway has under this name, as it last said; none when it has no such table or was never asked.
    pub(crate) gateway: Option<Arc<TableSchema>>,
    /// Why the gateway's schema and this one do not go together.
    pub(crate) conflict: Option<String>,
}

/// The tables of one database, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    version: i64,
    tables: BTreeMap<TableName, Arc<LocalTable>>,
}

impl Registry {
    /// What the file holds.
    pub(crate) fn load(connection: &Connection) -> Result<Registry, ClientError> {
        let _ = connection;
        unimplemented!("schema")
    }

    /// This registry, or what the file holds when another connection has changed it.
    pub(crate) fn refreshed(&self, connection: &Connection) -> Result<Registry, ClientError> {
        match state::registry(connection)? == self.version {
            true => Ok(self.clone()),
            false => Registry::load(connection),
        }
    }

    pub(crate) fn table(&self, table: &TableName) -> Result<&Arc<LocalTable>, ClientError> {
        self.tables
            .get(table)
            .ok_or_else(|| ClientError::UnknownTable {
                table: table.clone(),
            })
    }

    /// The table of this number.
    pub(crate) fn numbered(&self, number: TableNumber) -> Option<&Arc<LocalTable>> {
        self.tables.values().find(|table| table.number == number)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<LocalTable>> {
        self.tables.values()
    }

    /// Takes a schema: makes its table, or brings it up to date, and writes its triggers anew. Runs in the caller's
    /// transaction, behind the closed gate, after a seal.
    pub(crate) fn adopt(
        &mut self,
        connection: &Connection,
        incoming: &TableSchema,
    ) -> Result<(), ClientError> {
        let _ = (connection, incoming);
        unimplemented!("schema")
    }
}

impl LocalTable {
    /// The living column of this name.
    pub(crate) fn column(&self, name: &ColumnName) -> Option<&LocalColumn> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// `WHERE` of one row, with as many parameters from `?1` as [`LocalTable::key`] has values.
    pub(crate) fn where_row(&self) -> &str {
        unimplemented!("schema")
    }

    /// The values that [`LocalTable::where_row`] compares with: the row id, or the key columns in key order.
    pub(crate) fn key(
        &self,
        row_id: &RowId,
    ) -> Result<Vec<rusqlite::types::Value>, ClientError> {
        let _ = row_id;
        unimplemented!("schema")
    }
}

impl Schemas for Registry {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.tables
            .get(table)
            .map(|table| Arc::clone(&table.schema))
    }
}
