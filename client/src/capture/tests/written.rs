//! What an insert wrote is found again when it is sealed, whatever has become of its row.

use rusqlite::Connection;

use super::{START_MS, check, db, opened, shown, text};
use crate::{ClientError, LocalDb};

/// A file, and a connection of another program.
fn world() -> (LocalDb, Connection, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let clock = std::sync::Arc::new(lakesync_proto::ManualClock::new(START_MS));
    let db = opened(&path, &clock);
    (db, Connection::open(&path).unwrap(), folder)
}

#[test]
fn the_key_alone_is_written_down() {
    let db = db();
    db.execute_batch("INSERT INTO stock VALUES ('x', 1, 'long'); INSERT INTO todos (row_id, title) VALUES ('r', 'milk')")
        .unwrap();
    let rows = db
        .query(
            "SELECT kind, row_id, n0, n1, n2, o0, o1, o2 FROM _lakesync_changes",
            [],
        )
        .unwrap()
        .rows;
    let shown: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    assert_eq!(
        shown,
        [
            r#"[Integer(7), Null, Text("x"), Null, Null, Null, Null, Null]"#,
            r#"[Integer(7), Text("r"), Null, Null, Null, Null, Null, Null]"#,
        ]
    );
}

#[test]
fn updates_that_follow_tell_what_was_there_before_them() {
    check(
        "",
        "INSERT INTO stock VALUES ('x', 1, NULL), ('y', 5, 'y');
         UPDATE stock SET note = 'a' WHERE code = 'x'; UPDATE stock SET count = 2; UPDATE stock SET count = 3, note = NULL",
        &[
            r#"INSERT stock x code="x" count=1"#,
            r#"INSERT stock y code="y" count=5 note="y""#,
            r#"UPDATE stock x note="a""#,
            "UPDATE stock x count=2",
            "UPDATE stock y count=2",
            "UPDATE stock x count=3 note=null",
            "UPDATE stock y count=3 note=null",
        ],
    );
}

#[test]
fn rows_that_are_deleted_moved_and_made_again_keep_their_lives_apart() {
    check(
        "",
        "INSERT INTO stock VALUES ('x', 1, 'first'); UPDATE stock SET count = 2; DELETE FROM stock;
         INSERT INTO stock VALUES ('x', 3, 'second'); UPDATE stock SET note = 'moved', code = 'y';
         INSERT INTO stock VALUES ('x', NULL, 'third'); REPLACE INTO stock VALUES ('x', 4, NULL);
         UPDATE stock SET count = count + 1",
        &[
            r#"INSERT stock x code="x" count=1 note="first""#,
            "UPDATE stock x count=2",
            "DELETE stock x",
            r#"INSERT stock x code="x" count=3 note="second""#,
            "DELETE stock x",
            r#"INSERT stock y code="y" count=3 note="moved""#,
            r#"INSERT stock x code="x" note="third""#,
            "DELETE stock x",
            r#"INSERT stock x code="x" count=4"#,
            "UPDATE stock y count=4",
            "UPDATE stock x count=5",
        ],
    );
}

#[test]
fn a_row_that_another_program_replaces_tells_what_it_was() {
    let (db, other, _folder) = world();
    db.execute("INSERT INTO stock VALUES ('x', 1, 'ours')", [])
        .unwrap();
    other
        .execute_batch(
            "PRAGMA recursive_triggers = OFF; UPDATE stock SET count = 2;
             INSERT OR IGNORE INTO stock VALUES ('x', 9, 'ignored');
             UPDATE stock SET count = 3; REPLACE INTO stock VALUES ('x', 4, NULL)",
        )
        .unwrap();
    assert_eq!(
        shown(&db),
        [
            r#"INSERT stock x code="x" count=1 note="ours""#,
            "UPDATE stock x count=2",
            "UPDATE stock x count=3",
            "DELETE stock x",
            r#"INSERT stock x code="x" count=4"#,
        ]
    );
}

/// REPLACE by a UNIQUE index, in a program that lets no trigger hear of it: the row has never been, here and everywhere.
#[test]
fn a_new_row_that_went_in_silence_is_not_sent() {
    let (db, other, _folder) = world();
    db.execute_batch(
        "CREATE UNIQUE INDEX counts ON stock (count); INSERT INTO stock VALUES ('x', 1, 'ours')",
    )
    .unwrap();
    other
        .execute_batch(
            "PRAGMA recursive_triggers = OFF; REPLACE INTO stock VALUES ('y', 1, 'theirs')",
        )
        .unwrap();
    other
        .execute_batch("INSERT INTO stock VALUES ('a', 5, NULL), ('b', 6, NULL); UPDATE OR REPLACE stock SET code = 'a' WHERE code = 'b'")
        .unwrap();
    assert_eq!(
        shown(&db),
        [
            r#"INSERT stock y code="y" count=1 note="theirs""#,
            r#"INSERT stock b code="b" count=6"#,
            "DELETE stock b",
            r#"INSERT stock a code="a" count=6 note=null"#,
        ]
    );
    assert_eq!(db.outbox_counts().unwrap().rejected, 0);
}

#[test]
fn an_explicit_null_stays_one_whatever_is_written_over_it() {
    let db = db();
    db.transaction(|edit| {
        edit.insert(
            "stock",
            &[("code", text("x")), ("note", lakesync_proto::Value::Null)],
        )?;
        edit.execute("UPDATE stock SET note = 'later', count = 1", [])?;
        Ok::<_, ClientError>(())
    })
    .unwrap();
    assert_eq!(
        shown(&db),
        [
            r#"INSERT stock x code="x" note=null"#,
            r#"UPDATE stock x count=1 note="later""#
        ]
    );
}

#[test]
fn rows_that_went_with_their_table_are_told_and_hold_nobody_up() {
    let (db, other, _folder) = world();
    db.execute_batch("INSERT INTO todos (row_id, title) VALUES ('r', 'milk'); INSERT INTO stock VALUES ('x', 1, 'kept')")
        .unwrap();
    other
        .execute_batch("DROP TABLE todos; DROP TRIGGER _lakesync_update_2; DROP TRIGGER _lakesync_delete_2;
            DROP TRIGGER _lakesync_insert_2; DROP TRIGGER _lakesync_meet_2; DROP TRIGGER _lakesync_move_2;
            ALTER TABLE stock DROP COLUMN count")
        .unwrap();
    assert_eq!(shown(&db), [r#"INSERT stock x code="x" note="kept""#]);
    let letters = db.dead_letters(10).unwrap();
    let told: Vec<String> = letters
        .iter()
        .map(|letter| {
            format!(
                "{} {}: {}",
                letter.table, letter.row_id, letter.reason.message
            )
        })
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("todos r: ") && told[0].contains("removed the table"),
        "{told:?}"
    );
}

/// What follows the inserts of one log is noted for that log alone.
#[test]
fn one_seal_leaves_nothing_to_the_next() {
    let db = db();
    for round in 0..3 {
        db.execute_batch("INSERT INTO stock VALUES ('x', 1, 'a'); UPDATE stock SET note = 'b'; DELETE FROM stock")
            .unwrap();
        assert_eq!(
            shown(&db)[round * 3..],
            [
                r#"INSERT stock x code="x" count=1 note="a""#,
                r#"UPDATE stock x note="b""#,
                "DELETE stock x",
            ]
        );
    }
}
