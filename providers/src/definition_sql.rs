//! A table as the statement that makes it: `SHOW CREATE TABLE`.
//!
//! **Invariant**: the text read back makes a table of the same columns, key, partitions and order.

use std::fmt::Write as _;

use datafusion::sql::sqlparser::keywords::{
    RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER, RESERVED_FOR_TABLE_ALIAS,
    RESERVED_FOR_TABLE_FACTOR,
};
use lakesync_proto::{ColumnType, GatewayId, PartitionField, PartitionTransform, TableSchema};

/// The statement.
pub(crate) fn create_table_sql(gateway: &GatewayId, schema: &TableSchema) -> String {
    let mut parts: Vec<String> = Vec::with_capacity(schema.columns.len() + 1);
    for column in &schema.columns {
        parts.push(format!(
            "  {} {}",
            name(column.name.as_str()),
            sql_type(column.column_type)
        ));
    }
    if !schema.primary_key.is_empty() {
        let key: Vec<String> = schema
            .primary_key
            .iter()
            .map(|c| name(c.as_str()))
            .collect();
        parts.push(format!("  PRIMARY KEY ({})", key.join(", ")));
    }
    let mut sql = format!(
        "CREATE TABLE {}.{} (\n{}\n)",
        name(gateway.as_ref()),
        name(schema.table.as_str()),
        parts.join(",\n")
    );
    let mut clause = |words: &str, fields: Vec<String>| {
        if !fields.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(sql, "\n{words} ({})", fields.join(", "));
        }
    };
    let partition_by = schema.partition_by.iter().map(partition_field);
    clause("PARTITIONED BY", partition_by.collect());
    let sort_by = schema.sort_by.iter().map(|field| {
        let column = field.column.as_str();
        let text = field.to_string();
        let rest = text.strip_prefix(column).unwrap_or_default();
        format!("{}{}", name(column), rest.to_ascii_uppercase())
    });
    clause("SORTED BY", sort_by.collect());
    sql
}

fn partition_field(field: &PartitionField) -> String {
    let column = name(field.column.as_str());
    match (field.transform.name(), field.transform) {
        (None, _) => column,
        (Some(function), PartitionTransform::Bucket(n) | PartitionTransform::Truncate(n)) => {
            format!("{function}({n}, {column})")
        }
        (Some(function), _) => format!("{function}({column})"),
    }
}

/// Words that begin something else than a column in the list of a table's columns.
const NO_COLUMNS: [&str; 10] = [
    "CHECK",
    "CONSTRAINT",
    "EXCLUDE",
    "FOREIGN",
    "FULLTEXT",
    "INDEX",
    "KEY",
    "PRIMARY",
    "SPATIAL",
    "UNIQUE",
];

/// A name as SQL reads it: in quotes when it has capitals, or is a word that queries or lists of columns read otherwise.
fn name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let upper = name.to_ascii_uppercase();
    let mut reserved = [
        RESERVED_FOR_COLUMN_ALIAS,
        RESERVED_FOR_TABLE_ALIAS,
        RESERVED_FOR_TABLE_FACTOR,
        RESERVED_FOR_IDENTIFIER,
    ]
    .into_iter()
    .flatten()
    .map(|keyword| format!("{keyword:?}"));
    let taken = NO_COLUMNS.contains(&upper.as_str()) || reserved.any(|word| word == upper);
    match name.chars().all(plain) && !taken {
        true => name.to_owned(),
        false => format!("\"{name}\""),
    }
}

fn sql_type(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::String => "text",
        ColumnType::Number => "double",
        ColumnType::Long => "bigint",
        ColumnType::Boolean => "boolean",
        ColumnType::Json => "json",
        ColumnType::Decimal { precision, scale } => {
            return format!("decimal({precision}, {scale})");
        }
        ColumnType::Date => "date",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Binary => "bytea",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use lakesync_proto::TableDefinition;

    use super::*;

    #[test]
    fn names_that_sql_would_read_otherwise_are_quoted() {
        let body = r#"{"table":"T","columns":[{"name":"select","type":"long"},{"name":"aB","type":"decimal(9,2)"},
            {"name":"plain","type":"binary"}],"primaryKey":["select","aB"],
            "partitionBy":["bucket(4, aB)","select"],"sortBy":["aB desc nulls last","plain"]}"#;
        let definition = TableDefinition::from_json(body.as_bytes()).unwrap();
        let schema = TableSchema::from_definition(&definition).unwrap();
        assert_eq!(
            create_table_sql(&GatewayId::parse("public").unwrap(), &schema),
            "CREATE TABLE public.\"T\" (\n  \"select\" bigint,\n  \"aB\" decimal(9, 2),\n  plain bytea,\n  \
             PRIMARY KEY (\"select\", \"aB\")\n)\nPARTITIONED BY (bucket(4, \"aB\"), \"select\")\n\
             SORTED BY (\"aB\" DESC NULLS LAST, plain)"
        );
    }
}
