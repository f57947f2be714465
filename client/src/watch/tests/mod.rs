//! What those who watch are told, when, and under which locks.
//!
//! Invariant: whatever a watcher does when it is told, nothing is missed and nothing stands still.

mod callbacks;
mod hub;
mod queries;
mod random;
mod signal;
mod tables;

use std::path::Path;
use std::sync::Arc;

use lakesync_proto::{ClientId, ManualClock, RowId, TableDefinition, TableName, TableSchema};

use crate::{ChangedRows, Changes, LocalDb};

/// A database with `todos` and `lists`.
fn database(path: impl AsRef<Path>) -> LocalDb {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let db = LocalDb::open(path, ClientId::parse("laptop").unwrap(), clock).unwrap();
    for definition in [
        r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "list", "type": "string"}]}"#,
        r#"{"table": "lists", "columns": [{"name": "name", "type": "string"}]}"#,
    ] {
        let definition: TableDefinition = serde_json::from_str(definition).unwrap();
        db.register(&TableSchema::from_definition(&definition).unwrap())
            .unwrap();
    }
    db
}

fn table(name: &str) -> TableName {
    TableName::parse(name).unwrap()
}

/// The rows of a table that were named.
fn named(changes: &Changes, name: &str) -> Vec<String> {
    match changes.tables.get(&table(name)) {
        None => Vec::new(),
        Some(ChangedRows::Some(rows)) => rows.iter().map(|row| row.as_str().to_owned()).collect(),
        Some(ChangedRows::Many) => panic!("too many to name"),
    }
}

/// What a page does: rows written behind the closed gate, told as touched.
fn apply(db: &LocalDb, rows: &[(&str, &str)]) {
    db.keep(|work| {
        for (id, title) in rows {
            work.tx.execute(
                "INSERT INTO todos (row_id, title) VALUES (?1, ?2) \
                 ON CONFLICT DO UPDATE SET title = excluded.title",
                [id, title],
            )?;
            work.touched
                .row(&table("todos"), &RowId::parse(id).unwrap());
        }
        Ok(())
    })
    .unwrap();
}
