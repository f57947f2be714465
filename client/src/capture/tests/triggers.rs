//! The application's own triggers on tracked tables.

use super::{check, db, shown};

const TOUCH: &str = "CREATE TRIGGER touch AFTER UPDATE OF title ON todos BEGIN
    UPDATE todos SET n = coalesce(n, 0) + 1 WHERE row_id = NEW.row_id; END;
    CREATE TRIGGER start AFTER INSERT ON todos WHEN NEW.n IS NULL BEGIN
    UPDATE todos SET n = 0 WHERE row_id = NEW.row_id; END;";

const EXPECTED: [&str; 4] = [
    r#"INSERT todos r title="a""#,
    "UPDATE todos r n=0",
    r#"UPDATE todos r title="b""#,
    "UPDATE todos r n=1",
];

#[test]
fn what_a_trigger_does_to_the_same_row_is_captured_after_what_it_follows() {
    check(
        TOUCH,
        "INSERT INTO todos (row_id, title) VALUES ('r', 'a'); UPDATE todos SET title = 'b'",
        &EXPECTED,
    );
}

#[test]
fn a_trigger_counts_from_the_statement_behind_it() {
    check(
        "",
        &format!(
            "{TOUCH} INSERT INTO todos (row_id, title) VALUES ('r', 'a'); UPDATE todos SET title = 'b'"
        ),
        &EXPECTED,
    );
}

#[test]
fn a_trigger_made_through_the_connection_counts_from_its_end() {
    let db = db();
    db.with_connection(|connection| {
        connection
            .execute_batch(TOUCH)
            .map_err(crate::ClientError::from)
    })
    .unwrap();
    db.execute_batch(
        "INSERT INTO todos (row_id, title) VALUES ('r', 'a'); UPDATE todos SET title = 'b'",
    )
    .unwrap();
    assert_eq!(shown(&db), EXPECTED);
}

#[test]
fn a_trigger_of_another_program_counts_from_the_next_transaction_here() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let clock = std::sync::Arc::new(lakesync_proto::ManualClock::new(super::START_MS));
    let db = super::opened(&path, &clock);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch(TOUCH).unwrap();
    db.execute_batch(
        "INSERT INTO todos (row_id, title) VALUES ('r', 'a'); UPDATE todos SET title = 'b'",
    )
    .unwrap();
    assert_eq!(shown(&db), EXPECTED);
}

#[test]
fn a_trigger_that_writes_elsewhere_takes_part_in_the_edit() {
    check(
        "CREATE TRIGGER log AFTER DELETE ON todos BEGIN
            INSERT INTO stock (code, note) VALUES (OLD.row_id, OLD.title) ON CONFLICT DO NOTHING; END;
         INSERT INTO todos (row_id, title) VALUES ('r', 'a')",
        "DELETE FROM todos",
        &["DELETE todos r", r#"INSERT stock r code="r" note="a""#],
    );
}

#[test]
fn a_trigger_before_the_change_is_captured_before_it() {
    check(
        "CREATE TRIGGER first BEFORE INSERT ON todos BEGIN
            INSERT INTO stock (code, count) VALUES ('todos', 1) ON CONFLICT DO UPDATE SET count = count + 1; END",
        "INSERT INTO todos (row_id) VALUES ('r'), ('s')",
        &[
            r#"INSERT stock todos code="todos" count=1"#,
            "INSERT todos r",
            "UPDATE stock todos count=2",
            "INSERT todos s",
        ],
    );
}

#[test]
fn a_trigger_that_says_no_takes_the_change_back() {
    let db = db();
    db.execute_batch("CREATE TRIGGER no BEFORE DELETE ON todos BEGIN SELECT raise(ABORT, 'never'); END; INSERT INTO todos (row_id) VALUES ('r')")
        .unwrap();
    let error = db.execute("DELETE FROM todos", []).unwrap_err();
    assert!(format!("{error:?}").contains("never"), "{error:?}");
    assert_eq!(shown(&db), ["INSERT todos r"]);
}

#[test]
fn foreign_keys_that_cascade_are_captured() {
    // A tracked table has no foreign keys of its own; a table of the application's may hang on it, and the other way round.
    check(
        "CREATE TABLE tags (todo TEXT REFERENCES todos ON DELETE CASCADE);
         CREATE TRIGGER tagged AFTER DELETE ON tags BEGIN UPDATE stock SET count = count - 1 WHERE code = 'tags'; END;
         INSERT INTO stock VALUES ('tags', 1, NULL); INSERT INTO todos (row_id) VALUES ('r'); INSERT INTO tags VALUES ('r')",
        "DELETE FROM todos",
        &["UPDATE stock tags count=0", "DELETE todos r"],
    );
}

/// SQLite saves pages before a statement that might fail in its middle. See `schema::moment`.
#[test]
fn nothing_in_our_triggers_can_fail() {
    let db = db();
    for sql in [
        "UPDATE stock SET note = 'a'",
        "DELETE FROM stock",
        "UPDATE todos SET title = 'a', n = 1",
        "DELETE FROM todos",
    ] {
        let opcodes = db
            .with_connection(|connection| {
                let mut statement = connection.prepare(&format!("EXPLAIN {sql}"))?;
                let opcodes = statement.query_map([], |row| row.get::<_, String>(1))?;
                Ok::<_, crate::ClientError>(opcodes.collect::<Result<Vec<_>, _>>()?)
            })
            .unwrap();
        assert!(opcodes.iter().any(|opcode| opcode == "Program"), "{sql}");
        for fails in [
            "Function",
            "PureFunc",
            "HaltIfNull",
            "MustBeInt",
            "NoConflict",
        ] {
            assert!(
                opcodes.iter().all(|opcode| opcode != fails),
                "{sql}: {fails}"
            );
        }
    }
}
