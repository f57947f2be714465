//! What the application's SQL does to tracked tables themselves, and to the settings of its connection.

use std::sync::Arc;

use lakesync_proto::ManualClock;
use rusqlite::Connection;

use super::{START_MS, all_rows, db, opened, shown};
use crate::ClientError;

#[test]
fn sql_that_changes_a_tracked_table_is_refused_and_rolled_back() {
    let remade = "CREATE TABLE new (row_id TEXT PRIMARY KEY, title TEXT); INSERT INTO new SELECT row_id, title FROM todos;
        DROP TABLE todos; ALTER TABLE new RENAME TO todos";
    for (sql, reason) in [
        ("DROP TABLE todos", "it is gone"),
        ("ALTER TABLE todos RENAME TO tasks", "it is gone"),
        (
            "ALTER TABLE todos RENAME COLUMN title TO what",
            "column what is not in the schema",
        ),
        (
            "ALTER TABLE todos ADD COLUMN mine TEXT",
            "column mine is not in the schema",
        ),
        (remade, "it is gone"),
    ] {
        let db = db();
        db.execute("INSERT INTO todos (row_id, title) VALUES ('r', 'milk')", [])
            .unwrap();
        let before = all_rows(&db);
        let check = |result: Result<(), ClientError>| {
            let error = result.expect_err(sql);
            assert!(
                matches!(error, ClientError::TableChanged { .. }),
                "{sql}: {error:?}"
            );
            assert!(error.to_string().contains(reason), "{sql}: {error}");
            assert_eq!(all_rows(&db), before, "{sql}");
        };
        check(db.execute_batch(sql));
        check(db.transaction(|edit| {
            // Who does not look at the error is refused at the end.
            drop(edit.execute_batch(sql));
            Ok(())
        }));
        db.execute("UPDATE todos SET title = 'tea'", []).unwrap();
        assert_eq!(shown(&db).len(), 2, "{sql}");
    }
}

#[test]
fn generated_columns_are_the_applications_own() {
    let db = db();
    db.execute_batch("ALTER TABLE todos ADD COLUMN loud TEXT AS (upper(title)) VIRTUAL; CREATE INDEX l ON todos (loud)")
        .unwrap();
    db.execute("INSERT INTO todos (row_id, title) VALUES ('r', 'milk')", [])
        .unwrap();
    assert_eq!(shown(&db), [r#"INSERT todos r title="milk""#]);
}

#[test]
fn a_table_that_lost_its_triggers_is_captured_again() {
    let db = db();
    let insert = |row: &str| {
        db.execute("INSERT INTO todos (row_id, title) VALUES (?1, 'x')", [row])
            .unwrap();
    };
    db.with_connection(|connection| {
        connection
            .execute_batch("DROP TRIGGER _lakesync_insert_1; DROP TRIGGER _lakesync_meet_1")
            .map_err(ClientError::from)
    })
    .unwrap();
    insert("a");
    // As the guide of SQLite has it for changes that ALTER TABLE cannot do.
    db.with_connection(|connection| {
        connection
            .execute_batch(
                "CREATE TABLE new (row_id TEXT NOT NULL PRIMARY KEY, title TEXT, done INTEGER, n INTEGER) STRICT;
                 INSERT INTO new SELECT * FROM todos; DROP TABLE todos; ALTER TABLE new RENAME TO todos",
            )
            .map_err(ClientError::from)
    })
    .unwrap();
    insert("b");
    assert_eq!(
        shown(&db),
        [r#"INSERT todos a title="x""#, r#"INSERT todos b title="x""#]
    );
}

#[test]
fn a_table_that_another_program_dropped_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let db = opened(&path, &Arc::new(ManualClock::new(START_MS)));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("DROP TABLE todos").unwrap();
    db.execute("INSERT INTO stock VALUES ('x', 7, NULL)", [])
        .unwrap();
    assert_eq!(shown(&db), [r#"INSERT stock x code="x" count=7"#]);
}

#[test]
fn replace_is_captured_when_the_application_turns_recursive_triggers_off() {
    let db = db();
    db.execute("INSERT INTO stock VALUES ('x', 7, 'old')", [])
        .unwrap();
    db.execute_batch("PRAGMA recursive_triggers = OFF").unwrap();
    db.execute("REPLACE INTO stock VALUES ('x', 1, NULL)", [])
        .unwrap();
    assert_eq!(
        shown(&db)[1..],
        ["DELETE stock x", r#"INSERT stock x code="x" count=1"#]
    );
}
