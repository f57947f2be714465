//! Drivers between real sessions and a gateway in memory.

mod as_future;
mod carried;
mod gateway;
mod in_background;
mod once;
mod shared_file;

use std::sync::Arc;
use std::time::Duration;

use lakesync_proto::{ClientId, RowId, TableDefinition, TableSchema, Value};

use crate::{LocalDb, SystemClock};

const TODOS: &str = r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn todos() -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(TODOS).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

/// A database in memory with the one table.
fn database(name: &str) -> LocalDb {
    let client_id = ClientId::parse(name).unwrap();
    let db = LocalDb::open(":memory:", client_id, Arc::new(SystemClock)).unwrap();
    db.register(&todos()).unwrap();
    db
}

fn add(db: &LocalDb, title: &str) -> RowId {
    let title = Value::String(title.to_owned());
    db.insert("todos", &[("title", title)]).unwrap()
}

/// The titles, in order.
fn titles(db: &LocalDb) -> Vec<String> {
    let rows = db.rows("todos").unwrap();
    let mut titles: Vec<String> = rows
        .into_values()
        .flat_map(|row| row.into_values())
        .map(|value| match value {
            Value::String(title) => title,
            other => panic!("no title: {other:?}"),
        })
        .collect();
    titles.sort();
    titles
}

/// Waits until the database holds these titles.
fn wait_for(db: &LocalDb, wanted: &[&str]) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let signal = db.hub().signal();
    loop {
        let generation = signal.generation();
        let found = titles(db);
        if found == wanted {
            return;
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        assert!(!left.is_zero(), "{found:?} instead of {wanted:?}");
        signal.wait_past(generation, Some(left));
    }
}

/// Waits until something holds that nobody is told of.
fn until(mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    let (_open, never) = std::sync::mpsc::channel::<()>();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to that");
        let _ = never.recv_timeout(Duration::from_millis(1));
    }
}
