//! What becomes of a registered table when another version of its schema comes along.
//!
//! Invariant: versions merge in either order to the same columns: those of the newer, and behind them those that the
//! newer has never heard of. Only what a schema says it dropped is dropped.

use lakesync_proto::{Column, TableSchema};

use crate::error::ClientError;

/// Both schemas in one: the newer as it is, and behind its columns those that it has never heard of.
pub(super) fn union(
    known: &TableSchema,
    incoming: &TableSchema,
) -> Result<TableSchema, ClientError> {
    let (newer, older) = if incoming.version >= known.version {
        (incoming, known)
    } else {
        (known, incoming)
    };
    if newer.primary_key != older.primary_key {
        return Err(conflict(known, "the key columns differ".to_owned()));
    }
    let mut merged = newer.clone();
    for column in older
        .columns
        .iter()
        .filter(|column| !has_dropped(newer, column))
    {
        let was = column.column_type;
        match newer.column(column.name.as_str()) {
            None => {
                let number = merged.next_number;
                merged.next_number += 1;
                merged.columns.push(Column {
                    number,
                    ..column.clone()
                });
            }
            Some(now) if now.column_type == was || was.widens_to(now.column_type) => {}
            Some(now) => {
                let (name, is) = (&column.name, now.column_type);
                return Err(conflict(
                    known,
                    format!("column {name} was {was} and is {is}"),
                ));
            }
        }
    }
    checked(&merged)?;
    Ok(merged)
}

/// Refuses a schema that breaks its own rules, such as two columns whose names differ in case only.
pub(super) fn checked(schema: &TableSchema) -> Result<(), ClientError> {
    match TableSchema::from_json(&schema.to_json()) {
        Ok(_) => Ok(()),
        Err(error) => Err(conflict(schema, error.to_string())),
    }
}

fn conflict(schema: &TableSchema, reason: String) -> ClientError {
    ClientError::SchemaConflict {
        table: schema.table.clone(),
        reason,
    }
}

/// Whether the schema has dropped just this column, be there another one of its name or not.
pub(super) fn has_dropped(schema: &TableSchema, column: &Column) -> bool {
    schema
        .dropped
        .iter()
        .any(|dropped| dropped.number == column.number && dropped.name == column.name)
}
