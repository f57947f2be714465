//! Being told what changes: tables, a query, and how syncing goes.
//!
//! `cargo run -p lakesync-client --example watch` makes a database in a temporary directory, writes to it in every way
//! that a program can, from another process's connection too, and prints what each watcher is told.
//!
//! Invariant: whoever wrote it and however, every change is told once it has committed.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;

use lakesync_client::{ChangedRows, LocalDb, Rows, SystemClock};
use lakesync_proto::{ClientId, TableDefinition, TableSchema};

const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("todos.db");
    let db = LocalDb::open(&path, ClientId::parse("laptop")?, Arc::new(SystemClock))?;
    let definition: TableDefinition = serde_json::from_str(TODOS)?;
    db.register(&TableSchema::from_definition(&definition)?)?;

    // Callbacks are called after each commit, outside of it, for as long as their subscription is held.
    let _rows = db.watch(&["todos"])?.on_change(|changes| {
        for (table, rows) in &changes.tables {
            match rows {
                ChangedRows::Some(rows) => println!("  rows of {table}: {}", rows.len()),
                ChangedRows::Many => println!("  rows of {table}: who knows which"),
            }
        }
    });
    let _open = db
        .watch_query(
            "SELECT title FROM todos WHERE done IS NOT 1 ORDER BY title",
            &[],
        )?
        .on_change(|answer| match answer {
            Ok(rows) => println!("  to do: {}", titles(rows).join(", ")),
            Err(error) => println!("  the query fails: {error}"),
        });
    let _status = db.watch_status().on_change(|status| {
        println!(
            "  {:?}, {} edits to send",
            status.phase, status.counts.pending
        );
    });

    println!("a typed write");
    let milk = db.insert(
        "todos",
        &[("title", "Buy milk".into()), ("done", false.into())],
    )?;
    println!("plain SQL");
    db.execute(
        "INSERT INTO todos (title, done) VALUES ('Call Ada', 0), ('Water the plants', 0)",
        [],
    )?;
    println!("a write that changes nothing: nobody is told");
    db.update("todos", milk.as_str(), &[("done", false.into())])?;
    println!("a transaction, told once");
    db.transaction(|tx| {
        tx.update("todos", milk.as_str(), &[("done", true.into())])?;
        tx.execute("DELETE FROM todos WHERE title = 'Call Ada'", [])?;
        Ok::<_, lakesync_client::ClientError>(())
    })?;

    println!("another process writes: SQLite tells nobody, so a program that shares its file asks");
    let foreign = rusqlite::Connection::open(&path)?;
    foreign.execute("INSERT INTO todos (title) VALUES ('Bake bread')", [])?;
    db.poll()?;

    // Without a callback: ask when it suits you, wait for it, or await it.
    let watch = db.watch(&["todos"])?;
    let writer = db.clone();
    let writes = std::thread::spawn(move || writer.execute("UPDATE todos SET done = 1", []));
    let changes = watch.wait(std::time::Duration::from_secs(10));
    println!("waited for: {}", changes.is_some());
    writes.join().expect("the writer does not panic")?;
    Ok(())
}

fn titles(rows: &Rows) -> Vec<String> {
    rows.rows
        .iter()
        .flatten()
        .map(|value| match value {
            lakesync_client::SqlValue::Text(title) => title.clone(),
            other => format!("{other:?}"),
        })
        .collect()
}
