//! The schema registry (`_lakesync_meta`): which tables this client has, each with the SQL that reads and writes it.
//!
//! Invariant: a local table has exactly the living columns of its registered schema. A column that only this client
//! knows stays; one that the newer schema has dropped goes, and comes back empty when it is added again.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{Schemas, TableName, TableSchema};
use rusqlite::Connection;

use crate::error::ClientError;
use crate::schema_change::{alter_table, checked, definition, union};

/// A registered table and its statements.
#[derive(Debug)]
pub(crate) struct LocalTable {
    pub(crate) schema: Arc<TableSchema>,
    /// All columns of one row, in schema order: `?1` is the row id.
    pub(crate) select_row: String,
    /// Writes one whole row: `?1` is the row id, then all columns in schema order.
    pub(crate) upsert_row: String,
    /// Removes one row: `?1` is the row id.
    pub(crate) delete_row: String,
}

impl LocalTable {
    fn new(schema: TableSchema) -> LocalTable {
        let table = &schema.table;
        let names: Vec<String> = schema
            .columns
            .iter()
            .map(|c| format!("\"{}\"", c.name))
            .collect();
        let marks: Vec<String> = (2..names.len() + 2).map(|n| format!("?{n}")).collect();
        let assignments: Vec<String> = names
            .iter()
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        LocalTable {
            select_row: format!(
                "SELECT {} FROM \"{table}\" WHERE row_id = ?1",
                names.join(", ")
            ),
            upsert_row: format!(
                "INSERT INTO \"{table}\" (row_id, {}) VALUES (?1, {}) ON CONFLICT (row_id) DO UPDATE SET {}",
                names.join(", "),
                marks.join(", "),
                assignments.join(", ")
            ),
            delete_row: format!("DELETE FROM \"{table}\" WHERE row_id = ?1"),
            schema: Arc::new(schema),
        }
    }
}

/// The tables of one client, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    tables: BTreeMap<TableName, Arc<LocalTable>>,
}

impl Registry {
    /// What `_lakesync_meta` holds.
    pub(crate) fn load(connection: &Connection) -> Result<Registry, ClientError> {
        let mut statement =
            connection.prepare("SELECT table_name, schema_json FROM _lakesync_meta")?;
        let mut rows = statement.query([])?;
        let mut registry = Registry::default();
        while let Some(row) = rows.next()? {
            let (name, json): (String, String) = (row.get(0)?, row.get(1)?);
            let schema = TableSchema::from_json(&json).map_err(|error| ClientError::Damaged {
                what: format!("the schema of {name}: {error}"),
            })?;
            registry.keep(schema);
        }
        Ok(registry)
    }

    pub(crate) fn table(&self, table: &TableName) -> Result<&Arc<LocalTable>, ClientError> {
        self.tables
            .get(table)
            .ok_or_else(|| ClientError::UnknownTable {
                table: table.clone(),
            })
    }

    pub(crate) fn schemas(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.tables.values().map(|table| &table.schema)
    }

    /// Takes a schema: makes its table, or brings it up to date. Runs in the caller's transaction; the caller keeps
    /// this registry only if that commits.
    pub(crate) fn adopt(
        &mut self,
        connection: &Connection,
        incoming: &TableSchema,
    ) -> Result<(), ClientError> {
        let schema = match self.tables.get(&incoming.table) {
            None => {
                check_new_table(connection, incoming)?;
                checked(incoming)?;
                connection.execute_batch(&create_table(incoming))?;
                incoming.clone()
            }
            Some(known) => {
                let merged = union(&known.schema, incoming)?;
                alter_table(connection, &known.schema, &merged)?;
                merged
            }
        };
        connection
            .prepare_cached(
                "INSERT INTO _lakesync_meta VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE
                 SET schema_version = excluded.schema_version, schema_json = excluded.schema_json",
            )?
            .execute((schema.table.as_str(), schema.version, schema.to_json()))?;
        self.keep(schema);
        Ok(())
    }

    fn keep(&mut self, schema: TableSchema) {
        self.tables
            .insert(schema.table.clone(), Arc::new(LocalTable::new(schema)));
    }
}

impl Schemas for Registry {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.tables
            .get(table)
            .map(|table| Arc::clone(&table.schema))
    }
}

/// SQLite compares names without regard to case, and the application may have tables of its own in the file.
fn check_new_table(connection: &Connection, schema: &TableSchema) -> Result<(), ClientError> {
    let taken = |reason| ClientError::NameTaken {
        name: schema.table.to_string(),
        reason,
    };
    let lower = schema.table.as_str().to_ascii_lowercase();
    if lower.starts_with("_lakesync_") || lower.starts_with("sqlite_") {
        return Err(taken("the prefix is reserved"));
    }
    let exists: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE lower(name) = ?1)",
        [&lower],
        |row| row.get(0),
    )?;
    if exists {
        Err(taken("the local database has something of that name"))
    } else {
        Ok(())
    }
}

fn create_table(schema: &TableSchema) -> String {
    let columns: String = schema
        .columns
        .iter()
        .map(|column| format!(", {}", definition(column)))
        .collect();
    format!(
        "CREATE TABLE \"{}\" (row_id TEXT PRIMARY KEY NOT NULL{columns}) STRICT",
        schema.table
    )
}
