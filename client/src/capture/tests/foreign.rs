//! Other programs on the same file: what they do through plain SQLite is captured too.

use std::sync::Arc;

use lakesync_proto::ManualClock;
use rusqlite::Connection;

use super::{START_MS, opened, shown};
use crate::LocalDb;

struct World {
    db: LocalDb,
    other: Connection,
    _folder: tempfile::TempDir,
}

/// A file, and a connection to it that knows nothing of us.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let db = opened(&path, &Arc::new(ManualClock::new(START_MS)));
    let other = Connection::open(&path).unwrap();
    World {
        db,
        other,
        _folder: folder,
    }
}

const ROWS: &str = "INSERT INTO stock VALUES ('x', 7, 'old'), ('y', 8, NULL)";

#[test]
fn another_program_is_captured_in_its_own_transactions() {
    let world = world();
    world.other.execute_batch(ROWS).unwrap();
    world
        .other
        .execute_batch("BEGIN; DELETE FROM stock; ROLLBACK")
        .unwrap();
    world
        .db
        .execute("UPDATE stock SET count = 0 WHERE code = 'x'", [])
        .unwrap();
    world
        .other
        .execute_batch("BEGIN; DELETE FROM stock WHERE code = 'y'; COMMIT")
        .unwrap();
    assert_eq!(
        shown(&world.db),
        [
            r#"INSERT stock x code="x" count=7 note="old""#,
            r#"INSERT stock y code="y" count=8"#,
            "UPDATE stock x count=0",
            "DELETE stock y",
        ]
    );
    let deltas = super::sealed(&world.db, 0);
    let now: i64 = world
        .other
        .query_row("SELECT unixepoch()", [], |row| row.get(0))
        .unwrap();
    let foreign = i64::try_from(deltas[0].1.hlc.wall_ms() / 1_000).unwrap();
    assert!((now - foreign).abs() < 60, "SQLite's clock stamps it");
}

#[test]
fn replace_without_recursive_triggers_is_a_delete_and_an_insert() {
    for sealed_before in [false, true] {
        let world = world();
        world.other.execute_batch(ROWS).unwrap();
        if sealed_before {
            shown(&world.db);
        }
        world
            .other
            .execute_batch("REPLACE INTO stock VALUES ('x', 1, NULL), ('new', 2, NULL)")
            .unwrap();
        assert_eq!(
            shown(&world.db)[2..],
            [
                "DELETE stock x",
                r#"INSERT stock x code="x" count=1"#,
                r#"INSERT stock new code="new" count=2"#
            ]
        );
    }
}

#[test]
fn replace_with_recursive_triggers_is_the_same() {
    let world = world();
    world
        .other
        .execute_batch("PRAGMA recursive_triggers = ON")
        .unwrap();
    world.other.execute_batch(ROWS).unwrap();
    world
        .other
        .execute_batch("REPLACE INTO stock VALUES ('x', 1, NULL)")
        .unwrap();
    assert_eq!(
        shown(&world.db)[2..],
        ["DELETE stock x", r#"INSERT stock x code="x" count=1"#]
    );
}

#[test]
fn an_insert_that_met_a_row_and_did_not_replace_it_is_nothing() {
    let world = world();
    world.other.execute_batch(ROWS).unwrap();
    world
        .other
        .execute_batch(
            "INSERT OR IGNORE INTO stock VALUES ('x', 1, NULL), ('a', 1, NULL);
             INSERT INTO stock VALUES ('x', 1, NULL) ON CONFLICT DO UPDATE SET count = 9;
             INSERT INTO stock VALUES ('y', 1, NULL) ON CONFLICT DO NOTHING;
             DELETE FROM stock WHERE code = 'y'; INSERT INTO stock VALUES ('y', NULL, 'again');",
        )
        .unwrap();
    world
        .other
        .execute_batch("INSERT INTO stock VALUES ('x', 1, NULL)")
        .unwrap_err();
    assert_eq!(
        shown(&world.db)[2..],
        [
            r#"INSERT stock a code="a" count=1"#,
            "UPDATE stock x count=9",
            "DELETE stock y",
            r#"INSERT stock y code="y" note="again""#,
        ]
    );
}

#[test]
fn a_move_onto_another_row_leaves_nothing_of_it() {
    let world = world();
    world
        .other
        .execute_batch("INSERT INTO stock VALUES ('x', 7, NULL), ('y', 8, 'gone')")
        .unwrap();
    assert_eq!(shown(&world.db).len(), 2);
    world
        .other
        .execute_batch("UPDATE OR REPLACE stock SET code = 'y' WHERE code = 'x'")
        .unwrap();
    assert_eq!(
        shown(&world.db)[2..],
        [
            "DELETE stock x",
            r#"INSERT stock y code="y" count=7 note=null"#
        ]
    );
}

#[test]
fn what_we_write_while_another_program_has_the_file_open_is_ours() {
    let world = world();
    world
        .db
        .execute("REPLACE INTO stock VALUES ('x', 7, 'old')", [])
        .unwrap();
    world
        .db
        .execute("REPLACE INTO stock VALUES ('x', 8, NULL)", [])
        .unwrap();
    let met: i64 = world
        .other
        .query_row(
            "SELECT count(*) FROM _lakesync_changes WHERE kind = 6",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(met, 0);
    assert_eq!(
        shown(&world.db)[1..],
        ["DELETE stock x", r#"INSERT stock x code="x" count=8"#]
    );
}

#[test]
fn a_second_handle_sees_tables_that_the_first_has_registered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let clock = Arc::new(ManualClock::new(START_MS));
    let (one, two) = (opened(&path, &clock), opened(&path, &clock));
    one.register(&super::schema(
        r#"{"table": "late", "columns": [{"name": "v", "type": "long"}]}"#,
    ))
    .unwrap();
    two.insert("late", &[("v", lakesync_proto::Value::Long(1))])
        .unwrap();
    assert_eq!(two.schemas().unwrap().len(), 4);
    assert_eq!(shown(&one).len(), 1);
}
