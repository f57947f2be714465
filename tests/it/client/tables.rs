//! The tables that the clients of a history write, the columns that come later, and the rules.
//!
//! Invariant: a column of a name has one type, whoever adds it first; a rule is told twice, in the gateway's words and as
//! a plain function, and both mean the same.

use std::collections::BTreeMap;

use lakesync_proto::{ColumnDefinition, ColumnName, ColumnType, TableDefinition, TableSchema};
use lakesync_tests::schemas;

/// A table without a key whose rows have owners.
const NOTES: &str = r#"{"table": "notes", "columns": [
    {"name": "owner", "type": "string"},
    {"name": "text", "type": "string"},
    {"name": "n", "type": "long"}
]}"#;

/// Columns that a table may be given later.
const LATER: [(&str, ColumnType); 3] = [
    ("later_text", ColumnType::String),
    ("later_long", ColumnType::Long),
    ("later_flag", ColumnType::Boolean),
];

/// Whether a client sees a row of a table.
pub(super) type Sees = fn(client: &str, table: &str, row: &BTreeMap<String, String>) -> bool;

/// Rules, and what they mean.
pub(super) const RULES: [(&str, Sees); 4] = [
    ("[]", |_, _, _| true),
    (
        r#"[{"name": "mine", "tables": ["notes"], "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}]},
            {"name": "rest", "tables": ["every_type", "one_key", "two_keys"]}]"#,
        |client, table, row| table != "notes" || is(row, "owner", client),
    ),
    (
        r#"[{"name": "mine or open", "tables": ["notes"], "where": "owner = jwt('sub') or owner = 'all'"},
            {"name": "rest", "tables": ["every_type", "one_key", "two_keys"]}]"#,
        |client, table, row| {
            table != "notes" || is(row, "owner", client) || is(row, "owner", "all")
        },
    ),
    (
        r#"[{"name": "mine", "tables": ["notes"], "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}],
             "write": true},
            {"name": "rest", "tables": ["every_type", "one_key", "two_keys"]}]"#,
        |client, table, row| table != "notes" || is(row, "owner", client),
    ),
];

/// The body of a request that sets a rule.
pub(super) fn rule(rule: usize) -> String {
    format!(r#"{{"version": 1, "buckets": {}}}"#, RULES[rule].0)
}

fn is(row: &BTreeMap<String, String>, column: &str, text: &str) -> bool {
    row.get(column) == Some(&format!("\"{text}\""))
}

/// All tables, as they are at the beginning.
pub(super) fn all() -> Vec<TableSchema> {
    let mut all = schemas::all();
    all.push(schemas::schema(NOTES));
    all
}

/// The table with the first column that it does not have yet; none when it has all of them.
pub(super) fn grown(schema: &TableSchema, which: usize) -> Option<TableDefinition> {
    let (name, column_type) = LATER[which % LATER.len()];
    let mut definition = schema.definition();
    if definition.column(name).is_some() {
        return None;
    }
    definition.columns.push(ColumnDefinition {
        name: ColumnName::parse(name).unwrap(),
        column_type,
    });
    Some(definition)
}

/// The table as a database has it that has these columns; none when it has none of them.
pub(super) fn with_columns(schema: &TableSchema, columns: &[String]) -> Option<TableSchema> {
    let mut definition = schema.definition();
    let later = LATER.iter().map(|(name, column_type)| ColumnDefinition {
        name: ColumnName::parse(name).unwrap(),
        column_type: *column_type,
    });
    definition.columns.extend(later);
    let has = |column: &ColumnDefinition| columns.iter().any(|name| name == column.name.as_str());
    definition.columns.retain(has);
    match definition.columns.is_empty() {
        true => None,
        false => Some(TableSchema::from_definition(&definition).unwrap()),
    }
}

/// What both have.
pub(super) fn united(one: &TableSchema, other: &TableSchema) -> TableDefinition {
    let mut united = one.definition();
    for column in other.definition().columns {
        if united.column(column.name.as_str()).is_none() {
            united.columns.push(column);
        }
    }
    united
}
