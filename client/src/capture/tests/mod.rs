//! Every kind of SQL on tracked tables: what is captured, what it becomes, what a refused write leaves.

mod files;
mod foreign;
mod histories;
mod own_ddl;
mod replay;

mod sql;
mod triggers;
mod typed;
mod values;
mod written;

use std::path::Path;
use std::sync::Arc;

use lakesync_proto::{
    ClientId, ManualClock, RowDelta, TableDefinition, TableSchema, Value, WallClock, decode_batch,
};

use crate::{ClientError, LocalDb};

/// The wall clock at which tests start, in milliseconds since 1970.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

pub(crate) const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "n", "type": "long"}]}"#;

pub(crate) const STOCK: &str = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "note", "type": "string"}]}"#;

pub(crate) const PLACES: &str = r#"{"table": "places", "primaryKey": ["x", "y"], "columns": [
    {"name": "x", "type": "long"}, {"name": "what", "type": "string"}, {"name": "y", "type": "boolean"}]}"#;

pub(crate) fn schema(body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

pub(crate) fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

pub(crate) fn opened(path: impl AsRef<Path>, clock: &Arc<ManualClock>) -> LocalDb {
    let clock: Arc<dyn WallClock> = Arc::<ManualClock>::clone(clock);
    let db = LocalDb::open(path, ClientId::parse("a").unwrap(), clock).unwrap();
    for body in [TODOS, STOCK, PLACES] {
        db.register(&schema(body)).unwrap();
    }
    db
}

/// A database in memory with all three tables.
pub(crate) fn db() -> LocalDb {
    opened(":memory:", &Arc::new(ManualClock::new(START_MS)))
}

/// The sealed deltas behind an entry, in order, with the entry's number.
pub(crate) fn sealed(db: &LocalDb, after: i64) -> Vec<(i64, RowDelta)> {
    db.keep(|work| {
        let mut statement = work.tx.prepare(
            "SELECT entry, delta FROM _lakesync_outbox WHERE entry > ?1 AND state < 4 ORDER BY entry",
        )?;
        let mut rows = statement.query([after])?;
        let mut deltas = Vec::new();
        while let Some(row) = rows.next()? {
            let blob: Vec<u8> = row.get(1)?;
            let decoded = decode_batch(&blob, &*work.registry).unwrap();
            deltas.push((row.get(0)?, decoded[0].delta.clone()));
        }
        Ok(deltas)
    })
    .unwrap()
}

/// All sealed deltas as text: `INSERT todos r: title="milk" n=1`.
pub(crate) fn shown(db: &LocalDb) -> Vec<String> {
    let deltas = sealed(db, 0);
    deltas.iter().map(|(_, delta)| show(delta)).collect()
}

fn show(delta: &RowDelta) -> String {
    let mut line = format!("{} {} {}", delta.op, delta.table, delta.row_id);
    for change in &delta.columns {
        let mut value = String::new();
        change.value.write_canonical(&mut value);
        line.push_str(&format!(" {}={value}", change.column));
    }
    line
}

/// Runs this SQL, after what `before` has left behind, and compares what it was captured as.
fn check(before: &str, sql: &str, expected: &[&str]) {
    let db = db();
    db.execute_batch(before).unwrap();
    let known = shown(&db).len();
    db.execute_batch(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert_eq!(shown(&db)[known..], *expected, "{sql}");
}

/// The write fails by that error, and leaves neither a row nor a captured change.
fn check_refused(write: impl Fn(&LocalDb) -> Result<(), ClientError>, expected: &str) {
    let db = db();
    db.execute("INSERT INTO stock VALUES ('there', 1, 'note')", [])
        .unwrap();
    let before = (shown(&db), all_rows(&db));
    let error = write(&db).expect_err(expected);
    let told = format!("{error:?} {error}");
    assert!(told.contains(expected), "{told}");
    assert_eq!((shown(&db), all_rows(&db)), before, "{expected}");
}

fn all_rows(db: &LocalDb) -> Vec<crate::Rows> {
    ["todos", "stock", "places"]
        .map(|table| {
            db.query(&format!("SELECT * FROM {table} ORDER BY row_id"), [])
                .unwrap()
        })
        .to_vec()
}
