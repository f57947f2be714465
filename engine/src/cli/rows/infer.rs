//! The types of columns, from the values of the first rows.
//!
//! Invariant: a type is never narrower than a value that was seen; values that have no common type are an error that
//! names the line, not a guess.

use lakesync_proto::{ColumnDefinition, ColumnName, ColumnType, TableDefinition, TableName, Value};

use super::Row;
use super::error::{RowError, RowErrorKind};

/// How plain rows become a table.
#[derive(Clone, Debug)]
pub struct Import {
    table: TableName,
    key: Vec<String>,
    types: Vec<(String, ColumnType)>,
}

impl Import {
    /// Rows for `table`. Without a `key` every row gets an id of its own; `types` are taken instead of inferred ones.
    pub fn new(table: TableName, key: Vec<String>, types: Vec<(String, ColumnType)>) -> Import {
        Import { table, key, types }
    }

    fn named_type(&self, column: &str) -> Option<ColumnType> {
        let named = self.types.iter().find(|(name, _)| name == column);
        named.map(|(_, column_type)| *column_type)
    }
}

/// Reads `--type column=type`.
///
/// # Errors
/// What is wrong, for clap to show.
pub fn parse_type_override(text: &str) -> Result<(String, ColumnType), String> {
    let Some((name, column_type)) = text.split_once('=') else {
        return Err("write it as column=type, like price=decimal(15,2)".to_owned());
    };
    let name = ColumnName::parse(name.trim()).map_err(|error| error.to_string())?;
    let column_type = column_type
        .trim()
        .parse()
        .map_err(|error| format!("{error}"))?;
    Ok((name.to_string(), column_type))
}

/// What the values of a column have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    Null,
    Boolean,
    Long,
    Number,
    Date,
    Timestamp,
    Text,
    Json,
}

impl Seen {
    fn of(json: &str) -> Result<Seen, String> {
        let is = |column_type| Value::from_json_text(json, column_type).is_ok();
        Ok(match json.as_bytes().first() {
            Some(b'n') => Seen::Null,
            Some(b't' | b'f') => Seen::Boolean,
            Some(b'{' | b'[') => Seen::Json,
            Some(b'"') if is(ColumnType::Date) => Seen::Date,
            Some(b'"') if is(ColumnType::Timestamp) => Seen::Timestamp,
            Some(b'"') => Seen::Text,
            _ if is(ColumnType::Long) => Seen::Long,
            // A double would round it, and two keys could become one.
            _ if !json.contains(['.', 'e', 'E']) => {
                return Err(format!("{json} is a whole number of more than 64 bits"));
            }
            _ => match Value::from_json_text(json, ColumnType::Number) {
                Ok(_) => Seen::Number,
                Err(error) => return Err(error.to_string()),
            },
        })
    }

    /// The narrowest type that both have room in; none when there is none.
    fn with(self, other: Seen) -> Option<Seen> {
        use Seen::{Date, Long, Null, Number, Text, Timestamp};
        match (self, other) {
            (one, two) if one == two => Some(one),
            (Null, one) | (one, Null) => Some(one),
            (Long, Number) | (Number, Long) => Some(Number),
            (Date | Timestamp | Text, Date | Timestamp | Text) => Some(Text),
            _ => None,
        }
    }

    fn column_type(self) -> ColumnType {
        match self {
            Seen::Null | Seen::Text => ColumnType::String,
            Seen::Boolean => ColumnType::Boolean,
            Seen::Long => ColumnType::Long,
            Seen::Number => ColumnType::Number,
            Seen::Date => ColumnType::Date,
            Seen::Timestamp => ColumnType::Timestamp,
            Seen::Json => ColumnType::Json,
        }
    }
}

struct Inferred {
    name: ColumnName,
    seen: Seen,
    named: Option<ColumnType>,
}

pub(super) fn definition<'a>(
    rows: impl Iterator<Item = &'a Row>,
    import: &Import,
) -> Result<TableDefinition, RowError> {
    let mut columns: Vec<Inferred> = Vec::new();
    let mut any = false;
    for row in rows {
        any = true;
        for (name, json) in row.cells() {
            see(&mut columns, import, row, name, json)?;
        }
    }
    if !any {
        return Err(undefined(
            "the input has no rows",
            "check that it is the right file",
        ));
    }
    for (name, column_type) in &import.types {
        if !columns.iter().any(|column| column.name == *name.as_str()) {
            columns.push(Inferred {
                name: legal(name)?,
                seen: Seen::Null,
                named: Some(*column_type),
            });
        }
    }
    let primary_key = import.key.iter().map(|key| key_column(&columns, key));
    Ok(TableDefinition {
        table: import.table.clone(),
        primary_key: primary_key.collect::<Result<_, _>>()?,
        columns: columns
            .into_iter()
            .map(|column| ColumnDefinition {
                name: column.name,
                column_type: column.named.unwrap_or(column.seen.column_type()),
            })
            .collect(),
        partition_by: None,
        sort_by: None,
    })
}

fn key_column(columns: &[Inferred], key: &str) -> Result<ColumnName, RowError> {
    match columns.iter().find(|column| column.name == *key) {
        Some(column) => Ok(column.name.clone()),
        None => {
            let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
            Err(undefined(
                format!("the key column {key} is in none of the first rows"),
                format!("their columns are {}", names.join(", ")),
            ))
        }
    }
}

fn legal(name: &str) -> Result<ColumnName, RowError> {
    ColumnName::parse(name).map_err(|error| undefined(error.to_string(), "rename the column"))
}

fn see(
    columns: &mut Vec<Inferred>,
    import: &Import,
    row: &Row,
    name: &str,
    json: &str,
) -> Result<(), RowError> {
    let place = |error: RowError| error.at(row.line, Some(row.byte));
    let known = columns.iter_mut().find(|column| column.name == *name);
    let column = match known {
        Some(column) => column,
        None => {
            columns.push(Inferred {
                name: legal(name).map_err(place)?,
                seen: Seen::Null,
                named: import.named_type(name),
            });
            columns.last_mut().expect("just pushed")
        }
    };
    if column.named.is_some() {
        // The value is checked against the named type when its row is read.
        return Ok(());
    }
    let seen = Seen::of(json).map_err(|message| {
        place(undefined(
            format!("column {name}: {message}"),
            format!("name its type, like --type {name}=string"),
        ))
    })?;
    match column.seen.with(seen) {
        Some(both) => column.seen = both,
        None => {
            let (before, now) = (column.seen.column_type(), seen.column_type());
            return Err(place(undefined(
                format!("column {name} is a {now} here and was a {before} before"),
                format!(
                    "correct the rows, or name a type that has room for both: --type {name}=json"
                ),
            )));
        }
    }
    Ok(())
}

fn undefined(message: impl Into<String>, next: impl Into<String>) -> RowError {
    RowError::new(RowErrorKind::Definition, message, next)
}
