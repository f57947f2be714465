//! Files of an older format. `two.sql` and `three.sql` are dumps of what the client wrote when those were its formats, with
//! changes that nobody had sealed: its own, each of another kind, and those of another program.

use std::path::Path;
use std::sync::Arc;

use lakesync_proto::ManualClock;
use rusqlite::Connection;

use crate::LocalDb;
use crate::capture::tests::{START_MS, opened, sealed, shown};

const SEALED_BEFORE: [&str; 2] = [
    r#"INSERT stock x code="x" count=1 note="old""#,
    r#"INSERT stock y code="y" count=2"#,
];

const WAITED: [&str; 10] = [
    r#"INSERT todos 018bcfe5-6800-79ba-b2b9-ddd1a912713b title="milk" n=null"#,
    "UPDATE stock x count=7 note=null",
    "UPDATE stock y note=null",
    r#"INSERT places [-5,true] x=-5 what="Ünder" y=true"#,
    "DELETE places [-5,true]",
    r#"INSERT places [-5,false] x=-5 what="Ünder" y=false"#,
    "UPDATE stock x count=8",
    "DELETE stock y",
    r#"INSERT stock y code="y" count=3 note="new""#,
    "DELETE places [-5,false]",
];

/// The formats before this one, each with a file of it.
const OLDER: [(i64, &str); 2] = [(2, include_str!("two.sql")), (3, include_str!("three.sql"))];

fn file(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

#[test]
fn what_waited_in_an_older_file_is_sealed_as_it_was_captured() {
    for (format, sql) in OLDER {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        file(&path, sql);
        let db = opened(&path, &clock());
        let expected = [&SEALED_BEFORE[..], &WAITED].concat();
        assert_eq!(shown(&db), expected, "format {format}");
        let walls: Vec<u64> = sealed(&db, 2)
            .iter()
            .map(|(_, delta)| delta.hlc.wall_ms())
            .collect();
        assert_eq!(walls, [START_MS; 10], "no stamp is below one before it");
    }
}

#[test]
fn a_tool_brings_an_older_file_up_too_and_both_write_on() {
    for (format, sql) in OLDER {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let other = file(&path, sql);
        let tool = LocalDb::reopen(&path, clock()).unwrap();
        other
            .execute_batch(
                "UPDATE stock SET note = 'theirs' WHERE code = 'x';
                 INSERT INTO stock VALUES ('z', 4, 'theirs')",
            )
            .unwrap();
        tool.execute("UPDATE stock SET note = 'ours' WHERE code <> 'y'", [])
            .unwrap();
        let after = [
            r#"UPDATE stock x note="theirs""#,
            r#"INSERT stock z code="z" count=4 note="theirs""#,
            r#"UPDATE stock x note="ours""#,
            r#"UPDATE stock z note="ours""#,
        ];
        let expected = [&SEALED_BEFORE[..], &WAITED, &after].concat();
        assert_eq!(shown(&tool), expected, "format {format}");
        let sql = "SELECT value FROM _lakesync_state WHERE name = 'format'";
        let now = tool.query(sql, []).unwrap().rows;
        assert_eq!(now, [[crate::SqlValue::Integer(super::FORMAT)]]);
        assert_eq!(shown(&opened(&path, &clock())), shown(&tool));
    }
}

/// A client of format 3 that has the file open asks its gate before everything, and finds none.
#[test]
fn an_older_client_that_has_the_file_open_is_stopped_and_not_misled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let older = file(&path, include_str!("three.sql"));
    let gate = "UPDATE _lakesync_gate SET applying = 2";
    older.execute(gate, []).unwrap();
    let db = opened(&path, &clock());
    let error = older.execute(gate, []).unwrap_err().to_string();
    assert!(error.contains("no such table"), "{error}");
    assert_eq!(shown(&db), [&SEALED_BEFORE[..], &WAITED].concat());
}

#[test]
fn a_table_that_another_program_has_removed_holds_no_upgrade_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let other = file(&path, include_str!("three.sql"));
    other
        .execute_batch("DROP TABLE places; ALTER TABLE stock DROP COLUMN note")
        .unwrap_err();
    other.execute_batch("DROP TABLE IF EXISTS places").unwrap();
    let db = LocalDb::reopen(&path, clock()).unwrap();
    assert_eq!(shown(&db), [&SEALED_BEFORE[..], &WAITED].concat());
    db.execute("UPDATE stock SET count = 9 WHERE code = 'x'", [])
        .unwrap();
    assert_eq!(shown(&db).last().unwrap(), "UPDATE stock x count=9");
}

#[test]
fn a_format_that_nobody_knows_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let connection = file(&path, include_str!("three.sql"));
    for format in [1, super::FORMAT + 1] {
        crate::state::set_format(&connection, format).unwrap();
        for opened in [
            LocalDb::reopen(&path, clock()),
            LocalDb::open(&path, "a".parse().unwrap(), clock()),
        ] {
            let refused = opened.unwrap_err().to_string();
            assert!(
                refused.contains(&format!("has format {format}")),
                "{refused}"
            );
        }
    }
}
