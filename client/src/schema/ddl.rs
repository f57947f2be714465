//! The SQL that makes a tracked table, and what its constraints demand of values.
//!
//! ```text
//! without a key   row_id TEXT PRIMARY KEY, a UUID of version 7 by default; then the columns
//! with a key      row_id as the key's canonical text (generated, where SQL can write it); then the columns
//! ```
//! Invariant: what passes the constraints is the one text or number that SQLite keeps for its value, so equal values are
//! equal in SQL too. A constraint is named `table.column: what is wanted`, which is what the error of a write says.

use lakesync_proto::limits::ROW_ID_BYTES_MAX;
use lakesync_proto::{Column, ColumnType, TableSchema};

use crate::value::storage_class;

/// The time now in milliseconds since 1970, as every SQLite that knows STRICT tables can tell it.
pub(super) const NOW_MS: &str =
    "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)";

/// CREATE TABLE of a tracked table.
pub(super) fn create_table(schema: &TableSchema) -> String {
    let mut parts: Vec<String> = row_id(schema).into_iter().collect();
    parts.extend(schema.columns.iter().map(|column| {
        let not_null = if schema.primary_key.contains(&column.name) {
            " NOT NULL"
        } else {
            ""
        };
        format!("{}{not_null}", definition(schema, column))
    }));
    if !schema.primary_key.is_empty() {
        let key: Vec<String> = schema
            .primary_key
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!(
        "CREATE TABLE \"{}\" ({}) STRICT",
        schema.table,
        parts.join(", ")
    )
}

/// A column in CREATE TABLE and ADD COLUMN.
pub(super) fn definition(schema: &TableSchema, column: &Column) -> String {
    let name = &column.name;
    // INT is INTEGER in all but one thing: as the only key column it is no alias of the rowid. SQLite would number rows
    // by itself, and every client would give the same numbers.
    let class = match storage_class(column.column_type) {
        "INTEGER" if schema.primary_key.contains(name) => "INT",
        class => class,
    };
    match constraint(schema, column) {
        None => format!("\"{name}\" {class}"),
        Some(constraint) => format!("\"{name}\" {class} {constraint}"),
    }
}

/// `CONSTRAINT "…" CHECK (…)` of a column, when its type allows less than its storage class.
pub(super) fn constraint(schema: &TableSchema, column: &Column) -> Option<String> {
    let name = format!("\"{}\"", column.name);
    let mut checks = Vec::new();
    checks.extend(check(&name, column.column_type));
    if schema.primary_key == [column.name.clone()] && column.column_type == ColumnType::String {
        checks.push(row_id_check(&name));
    }
    if checks.is_empty() {
        return None;
    }
    let constraint = constraint_name(schema, column);
    Some(format!(
        "CONSTRAINT \"{constraint}\" CHECK ({})",
        checks.join(" AND ")
    ))
}

/// The name of a column's constraint.
pub(super) fn constraint_name(schema: &TableSchema, column: &Column) -> String {
    format!(
        "{}.{}: {}",
        schema.table,
        column.name,
        wanted(column.column_type)
    )
}

/// What is wanted of a value, in words that end the sentence "column c takes …".
fn wanted(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::String => format!("a text of 1 to {ROW_ID_BYTES_MAX} bytes without U+0000"),
        ColumnType::Number => "a finite number".to_owned(),
        ColumnType::Boolean => "0 or 1".to_owned(),
        ColumnType::Json => "JSON text".to_owned(),
        ColumnType::Date => "a date like 2026-01-31".to_owned(),
        ColumnType::Timestamp => {
            "RFC 3339 in UTC with microseconds, like 2026-01-31T09:30:00.000000Z".to_owned()
        }
        ColumnType::Decimal { precision, scale } => format!(
            "a decimal as text, at most {precision} digits, exactly {scale} after the point, no zeros in front"
        ),
        ColumnType::Long | ColumnType::Binary => column_type.to_string(),
    }
}

/// The condition on a value that is not null; a null passes every CHECK, for none of these is false then.
fn check(name: &str, column_type: ColumnType) -> Option<String> {
    match column_type {
        ColumnType::String | ColumnType::Long | ColumnType::Binary => None,
        ColumnType::Number => Some(format!("{name} < 9e999 AND {name} > -9e999")),
        ColumnType::Boolean => Some(format!("{name} IN (0, 1)")),
        ColumnType::Json => Some(format!("json_valid({name})")),
        // Whatever SQLite reads as a date it writes in this form: only the form itself comes back as it was. 'now' is
        // refused before SQLite would ask the clock.
        ColumnType::Date => Some(format!(
            "{name} >= '0001' AND {name} < ':' AND date({name}) IS {name}"
        )),
        ColumnType::Timestamp => Some(format!(
            "length({name}) = 27 AND strftime('%Y-%m-%dT%H:%M:%S.', substr({name}, 1, 19)) || substr({name}, 21, 6) \
             || 'Z' IS {name} AND substr({name}, 21, 6) NOT GLOB '*[^0-9]*' AND {name} >= '0001'"
        )),
        ColumnType::Decimal { precision, scale } => Some(decimal_check(name, precision, scale)),
    }
}

fn decimal_check(name: &str, precision: u8, scale: u8) -> String {
    let sign = format!("({name} GLOB '-*')");
    let not_minus_zero = format!("({name} NOT GLOB '-*' OR trim({name}, '-0.') <> '')");
    let (whole, fraction) = match scale {
        0 => (
            format!("substr({name}, 1 + {sign})"),
            not_minus_zero.clone(),
        ),
        _ => (
            format!(
                "substr({name}, 1 + {sign}, length({name}) - {} - {sign})",
                scale + 1
            ),
            format!(
                "length({name}) >= {} AND substr({name}, -{}, 1) = '.' AND substr({name}, -{scale}) NOT GLOB \
                 '*[^0-9]*' AND {not_minus_zero}",
                scale + 2,
                scale + 1,
            ),
        ),
    };
    let digits = precision - scale;
    match digits {
        0 => format!("{fraction} AND {whole} = '0'"),
        _ => format!(
            "{fraction} AND ({whole} = '0' OR length({whole}) BETWEEN 1 AND {digits} AND {whole} NOT GLOB '*[^0-9]*' \
             AND {whole} NOT GLOB '0*')"
        ),
    }
}

fn row_id_check(name: &str) -> String {
    format!(
        "length(CAST({name} AS BLOB)) BETWEEN 1 AND {ROW_ID_BYTES_MAX} AND instr(CAST({name} AS BLOB), x'00') = 0"
    )
}

/// The column `row_id`; none for a key whose canonical text SQL cannot write.
fn row_id(schema: &TableSchema) -> Option<String> {
    let table = &schema.table;
    if schema.primary_key.is_empty() {
        let check = row_id_check("row_id");
        let wanted = wanted(ColumnType::String);
        return Some(format!(
            "row_id TEXT NOT NULL PRIMARY KEY DEFAULT ({}) CONSTRAINT \"{table}.row_id: {wanted}\" CHECK ({check})",
            uuid_v7()
        ));
    }
    let texts: Option<Vec<String>> = schema
        .primary_key
        .iter()
        .map(|name| key_text(schema, name.as_str()))
        .collect();
    let texts = texts?;
    let text = match texts.as_slice() {
        [single] => single.clone(),
        several => format!("json_array({})", several.join(", ")),
    };
    Some(format!("row_id TEXT GENERATED ALWAYS AS ({text}) VIRTUAL"))
}

/// The canonical text of a key column: alone, or as an element of a JSON array.
fn key_text(schema: &TableSchema, name: &str) -> Option<String> {
    let alone = schema.primary_key.len() == 1;
    match schema.column(name)?.column_type {
        // The text of a float is JavaScript's, and bytes are base64: SQL has neither.
        ColumnType::Number | ColumnType::Binary | ColumnType::Json => None,
        ColumnType::Long if alone => Some(format!("CAST(\"{name}\" AS TEXT)")),
        ColumnType::Boolean => {
            let text = format!("CASE \"{name}\" WHEN 0 THEN 'false' ELSE 'true' END");
            Some(if alone { text } else { format!("json({text})") })
        }
        _ => Some(format!("\"{name}\"")),
    }
}

/// A UUID of version 7 (RFC 9562) as an SQL expression.
fn uuid_v7() -> String {
    format!(
        "printf('%08x-%04x-7%03x-%04x-%s', {NOW_MS} >> 16, {NOW_MS} & 65535, random() & 4095, 32768 | (random() & \
         16383), lower(hex(randomblob(6))))"
    )
}
