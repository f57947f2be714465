//! The three tables that every random history writes: without a key, with one key column, with two.
//!
//! Invariant: the first of them has a column of every type that exists.

use lakesync_proto::{
    ColumnChange, ColumnType, RowId, TableDefinition, TableSchema, Value, row_id_of,
};

/// A table without a key and with every column type; two numbers, so that a pair of cells can go different ways.
const EVERY_TYPE: &str = r#"{"table": "every_type", "columns": [
    {"name": "title", "type": "string"},
    {"name": "n", "type": "number"},
    {"name": "n2", "type": "number"},
    {"name": "count", "type": "long"},
    {"name": "done", "type": "boolean"},
    {"name": "extra", "type": "json"},
    {"name": "price", "type": "decimal(20,4)"},
    {"name": "day", "type": "date"},
    {"name": "at", "type": "timestamp"},
    {"name": "raw", "type": "binary"}
]}"#;

/// A table whose row id is the text of one column.
const ONE_KEY: &str = r#"{"table": "one_key", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"},
    {"name": "label", "type": "string"},
    {"name": "stock", "type": "long"}
]}"#;

/// A table whose row id is a JSON array of two columns.
const TWO_KEYS: &str = r#"{"table": "two_keys", "primaryKey": ["area", "number"], "columns": [
    {"name": "area", "type": "string"},
    {"name": "number", "type": "long"},
    {"name": "weight", "type": "number"},
    {"name": "note", "type": "string"}
]}"#;

/// The tables, the one with every type first.
pub fn all() -> Vec<TableSchema> {
    [EVERY_TYPE, ONE_KEY, TWO_KEYS]
        .into_iter()
        .map(schema)
        .collect()
}

/// The schema that the body of a schema request defines.
///
/// # Panics
/// When it is none.
pub fn schema(body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).expect("a table definition");
    TableSchema::from_definition(&definition).expect("a table schema")
}

/// The id of row number `row`, and the key columns that an INSERT of it has to bring.
pub fn row(schema: &TableSchema, row: u64) -> (RowId, Vec<ColumnChange>) {
    if schema.primary_key.is_empty() {
        return (
            RowId::parse(&format!("row {row}")).expect("a row id"),
            Vec::new(),
        );
    }
    let key: Vec<ColumnChange> = schema
        .primary_key
        .iter()
        .map(|name| {
            let column = schema
                .column(name.as_str())
                .expect("a key column is a column");
            ColumnChange {
                column: name.clone(),
                value: key_value(column.column_type, row),
            }
        })
        .collect();
    let values: Vec<&Value> = key.iter().map(|change| &change.value).collect();
    (row_id_of(&values).expect("a key without nulls"), key)
}

fn key_value(column_type: ColumnType, row: u64) -> Value {
    match column_type {
        ColumnType::Long => Value::Long(i64::try_from(row).expect("a history has few rows")),
        _ => Value::String(format!("key \"{row}\"")),
    }
}
