//! A registered table as this database has it.
//!
//! Invariant: a row is found by its row id alone, whatever the table's key; the row id of a row that stands in the table
//! is what `proto` makes of its key columns.

use std::sync::Arc;

use lakesync_proto::{ColumnName, ColumnType, RowId, TableSchema, Value};
use rusqlite::types::Value as SqlValue;

use crate::error::ClientError;
use crate::value::{from_sqlite, to_sqlite};

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
    where_row: String,
    identity: String,
}

impl LocalTable {
    pub(super) fn new(
        number: TableNumber,
        schema: Arc<TableSchema>,
        columns: Vec<LocalColumn>,
    ) -> LocalTable {
        let names: Vec<String> = match schema.primary_key.as_slice() {
            [] => vec!["\"row_id\"".to_owned()],
            key => key.iter().map(|name| format!("\"{name}\"")).collect(),
        };
        let conditions: Vec<String> = names
            .iter()
            .zip(1..)
            .map(|(name, mark)| format!("{name} = ?{mark}"))
            .collect();
        LocalTable {
            number,
            schema,
            columns,
            gateway: None,
            conflict: None,
            where_row: format!("WHERE {}", conditions.join(" AND ")),
            identity: names.join(", "),
        }
    }

    /// The living column of this name.
    pub(crate) fn column(&self, name: &ColumnName) -> Option<&LocalColumn> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// Whether the column belongs to the key.
    pub(crate) fn is_key(&self, name: &ColumnName) -> bool {
        self.schema.primary_key.contains(name)
    }

    /// `WHERE "row_id" = ?1`, or `WHERE "a" = ?1 AND "b" = ?2` of the key columns: one row, with as many parameters from
    /// `?1` as [`LocalTable::key`] has values.
    pub(crate) fn where_row(&self) -> &str {
        &self.where_row
    }

    /// How many parameters [`LocalTable::where_row`] takes.
    pub(crate) fn key_len(&self) -> usize {
        self.schema.primary_key.len().max(1)
    }

    /// The columns that tell a row's id, for a SELECT: `"row_id"`, or the key columns in key order. Their values go into
    /// [`LocalTable::row_id`].
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The values that [`LocalTable::where_row`] compares with: the row id, or the key columns in key order.
    pub(crate) fn key(&self, row_id: &RowId) -> Result<Vec<SqlValue>, ClientError> {
        if self.schema.primary_key.is_empty() {
            return Ok(vec![SqlValue::Text(row_id.as_str().to_owned())]);
        }
        let key = self
            .schema
            .key_values(row_id)
            .map_err(|error| ClientError::Key {
                table: self.schema.table.clone(),
                reason: error.to_string(),
            })?;
        Ok(key.iter().map(|(_, value)| to_sqlite(value)).collect())
    }

    /// The row id of the values that [`LocalTable::identity`] names, or why they name no row.
    pub(crate) fn row_id(&self, identity: &[SqlValue]) -> Result<RowId, String> {
        match (self.schema.primary_key.as_slice(), identity) {
            ([], [SqlValue::Text(text)]) => RowId::parse(text).map_err(|error| error.to_string()),
            ([], _) => Err("a row id is a text".to_owned()),
            (key, values) => {
                let mut found: Vec<Value> = Vec::with_capacity(key.len());
                for (name, value) in key.iter().zip(values) {
                    let column = self.column(name).ok_or("a key column is missing")?;
                    found.push(from_sqlite(value.into(), column.column_type)?);
                }
                let found: Vec<&Value> = found.iter().collect();
                lakesync_proto::row_id_of(&found).map_err(|error| error.to_string())
            }
        }
    }
}
