//! Files: what a restart finds.

use std::sync::Arc;

use lakesync_proto::{ManualClock, Value};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{START_MS, STOCK, client_id, schema, shown, text};
use crate::{Client, ClientError};

fn open(dir: &TempDir, name: &str, now_ms: u64) -> Result<Client, ClientError> {
    Client::open(
        dir.path().join("client.db"),
        client_id(name),
        Arc::new(ManualClock::new(now_ms)),
    )
}

#[test]
fn a_restart_keeps_rows_outbox_schema_and_clock() {
    let dir = TempDir::new().unwrap();
    let mut before = open(&dir, "a", START_MS).unwrap();
    before.register(&schema(STOCK)).unwrap();
    let first = before
        .insert("stock", &[("code", text("x")), ("count", Value::Long(1))])
        .unwrap();
    drop(before);
    let mut after = open(&dir, "a", START_MS - 3_600_000).unwrap();
    assert_eq!(after.outbox().unwrap(), std::slice::from_ref(&first));
    let second = after
        .update("stock", "x", &[("count", Value::Long(2))])
        .unwrap();
    assert!(
        second.hlc > first.hlc,
        "the wall clock went back an hour, stamps did not"
    );
    assert_eq!(shown(&after, "stock"), "x: code=\"x\", count=2");
}

#[test]
fn a_file_belongs_to_one_client() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir, "a", START_MS).unwrap());
    let error = open(&dir, "b", START_MS).unwrap_err();
    assert!(matches!(error, ClientError::OtherClient { .. }), "{error}");
}

#[test]
fn a_newer_format_and_a_file_that_is_no_database_are_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir, "a", START_MS).unwrap());
    let file = Connection::open(dir.path().join("client.db")).unwrap();
    file.execute(
        "UPDATE _lakesync_state SET value = 2 WHERE name = 'format'",
        [],
    )
    .unwrap();
    drop(file);
    let error = open(&dir, "a", START_MS).unwrap_err();
    assert!(
        matches!(error, ClientError::NewerFormat { found: 2, known: 1 }),
        "{error}"
    );
    std::fs::write(
        dir.path().join("other.db"),
        "plain text, and long enough to be taken for a header, 1234567890",
    )
    .unwrap();
    let error = Client::open(
        dir.path().join("other.db"),
        client_id("a"),
        Arc::new(ManualClock::new(0)),
    )
    .unwrap_err();
    assert!(matches!(error, ClientError::Database(_)), "{error}");
}

#[test]
fn a_row_that_somebody_removed_by_hand_is_named() {
    let dir = TempDir::new().unwrap();
    let mut client = open(&dir, "a", START_MS).unwrap();
    client.register(&schema(STOCK)).unwrap();
    client.insert("stock", &[("code", text("x"))]).unwrap();
    Connection::open(dir.path().join("client.db"))
        .unwrap()
        .execute("DELETE FROM stock", [])
        .unwrap();
    let error = client
        .update("stock", "x", &[("note", text("y"))])
        .unwrap_err();
    assert!(error.to_string().contains("row x of stock"), "{error}");
}
