//! Changing a tracked table's columns.
//!
//! Invariant: the table's triggers are gone while its columns change. What the application has built on a column that a
//! schema drops (an index) goes with it; what cannot go (a view, a trigger) is named.

use lakesync_proto::{Column, TableSchema};
use rusqlite::Connection;

use super::ddl::{constraint, constraint_name, definition};
use super::union::has_dropped;
use crate::error::ClientError;

/// The steps from one schema to another.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    pub(super) dropped: Vec<&'a Column>,
    pub(super) added: Vec<&'a Column>,
    /// Before and after.
    pub(super) widened: Vec<(&'a Column, &'a Column)>,
}

/// What differs. A column that was dropped and added again is another one: it goes and comes.
pub(super) fn plan<'a>(known: &'a TableSchema, merged: &'a TableSchema) -> Changes<'a> {
    let dropped: Vec<&Column> = known
        .columns
        .iter()
        .filter(|column| has_dropped(merged, column))
        .collect();
    let mut changes = Changes {
        dropped,
        added: Vec::new(),
        widened: Vec::new(),
    };
    for column in &merged.columns {
        let before = known
            .column(column.name.as_str())
            .filter(|before| !has_dropped(merged, before));
        match before {
            None => changes.added.push(column),
            Some(before) if before.column_type != column.column_type => {
                changes.widened.push((before, column));
            }
            Some(_) => {}
        }
    }
    changes
}

/// Does them.
pub(super) fn run(
    connection: &Connection,
    known: &TableSchema,
    merged: &TableSchema,
    changes: &Changes<'_>,
) -> Result<(), ClientError> {
    for column in &changes.dropped {
        drop_column(connection, known, column)?;
    }
    let table = &merged.table;
    for (before, after) in &changes.widened {
        drop_constraint(connection, known, before)?;
        if let Some(constraint) = constraint(merged, after) {
            connection.execute_batch(&format!("ALTER TABLE \"{table}\" ADD {constraint}"))?;
        }
    }
    for column in &changes.added {
        let definition = definition(merged, column);
        connection.execute_batch(&format!("ALTER TABLE \"{table}\" ADD COLUMN {definition}"))?;
    }
    Ok(())
}

fn drop_constraint(
    connection: &Connection,
    schema: &TableSchema,
    column: &Column,
) -> Result<(), ClientError> {
    if constraint(schema, column).is_some() {
        connection.execute_batch(&format!(
            "ALTER TABLE \"{}\" DROP CONSTRAINT \"{}\"",
            schema.table,
            constraint_name(schema, column)
        ))?;
    }
    Ok(())
}

fn drop_column(
    connection: &Connection,
    schema: &TableSchema,
    column: &Column,
) -> Result<(), ClientError> {
    // A constraint that was changed once stands behind the columns, where it would hold the column fast.
    drop_constraint(connection, schema, column)?;
    let (table, name) = (&schema.table, &column.name);
    let mut indexes = connection.prepare(
        "SELECT DISTINCT list.name FROM pragma_index_list(?1) AS list, pragma_index_xinfo(list.name) AS info
         WHERE list.origin = 'c' AND info.name = ?2 COLLATE NOCASE",
    )?;
    let indexes: Vec<String> = indexes
        .query_map((table.as_str(), name.as_str()), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for index in indexes {
        let index = index.replace('"', "\"\"");
        connection.execute_batch(&format!("DROP INDEX \"{index}\""))?;
    }
    let dropped =
        connection.execute_batch(&format!("ALTER TABLE \"{table}\" DROP COLUMN \"{name}\""));
    dropped.map_err(|error| match &error {
        rusqlite::Error::SqliteFailure(failure, Some(message))
            if failure.code == rusqlite::ErrorCode::Unknown =>
        {
            ClientError::SchemaConflict {
                table: table.clone(),
                reason: format!(
                    "column {name} is dropped, and something of yours uses it: {message}"
                ),
            }
        }
        _ => ClientError::from(error),
    })
}
