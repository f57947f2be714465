//! The limit: SQLite with the same table and the same durability, and nothing else.

use std::path::Path;

use rusqlite::Connection;

/// A database with the table of [`rows`](super::rows) as the client would make it, without triggers and without the
/// client's own tables.
pub(super) fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a database");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA recursive_triggers = ON;
         CREATE TABLE items (id TEXT NOT NULL, title TEXT, done INTEGER, points INTEGER, note TEXT, weight REAL,
             due TEXT, place TEXT, PRIMARY KEY (id)) STRICT;",
    )
    .expect("a table");
    db
}
