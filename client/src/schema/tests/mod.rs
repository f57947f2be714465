//! Tables as SQLite has them: shapes, constraints, slots, changes.

mod columns;
mod shapes;

use lakesync_proto::{TableDefinition, TableSchema};
use rusqlite::Connection;

use super::Registry;
use crate::error::ClientError;
use crate::format;

fn schema(body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

/// The next version of a schema.
fn evolved(before: &TableSchema, body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    before.evolve(&definition).unwrap().schema
}

/// A file in memory with these tables.
fn file(schemas: &[&TableSchema]) -> (Connection, Registry) {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch("PRAGMA recursive_triggers = ON")
        .unwrap();
    format::initialise(&connection).unwrap();
    let mut registry = Registry::load(&connection).unwrap();
    for schema in schemas {
        registry.adopt(&connection, schema).unwrap();
    }
    (connection, registry)
}

/// What was captured, a line for each change, nulls as `-`.
fn changes(connection: &Connection) -> Vec<String> {
    let mut statement = connection
        .prepare("SELECT * FROM _lakesync_changes ORDER BY change")
        .unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement
        .query_map([], |row| {
            let mut line = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let value: rusqlite::types::Value = row.get(at)?;
                let text = match value {
                    rusqlite::types::Value::Null => continue,
                    rusqlite::types::Value::Integer(n) => n.to_string(),
                    rusqlite::types::Value::Real(n) => format!("{n:?}"),
                    rusqlite::types::Value::Text(text) => text,
                    rusqlite::types::Value::Blob(bytes) => format!("{bytes:?}"),
                };
                if !["change", "at_ms", "table_number"].contains(&name.as_str()) {
                    line.push(format!("{name}={text}"));
                }
            }
            Ok(line.join(" "))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn refusal(error: &ClientError) -> String {
    error.to_string()
}
