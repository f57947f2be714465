//! Files of an older format. `two.sql` is the dump of one that the client wrote when that was its format, with changes that
//! nobody had sealed: its own, each of another kind, and those of another program.

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

fn file(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(include_str!("two.sql")).unwrap();
    connection
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

#[test]
fn what_waited_in_a_file_of_format_2_is_sealed_as_it_was_captured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    file(&path);
    let db = opened(&path, &clock());
    assert_eq!(shown(&db), [&SEALED_BEFORE[..], &WAITED].concat());
    let walls: Vec<u64> = sealed(&db, 2)
        .iter()
        .map(|(_, delta)| delta.hlc.wall_ms())
        .collect();
    assert_eq!(walls, [START_MS; 10], "no stamp is below one before it");
}

#[test]
fn a_tool_brings_a_file_of_format_2_up_too_and_both_write_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let other = file(&path);
    let tool = LocalDb::reopen(&path, clock()).unwrap();
    other
        .execute("UPDATE stock SET note = 'theirs' WHERE code = 'x'", [])
        .unwrap();
    tool.execute("UPDATE stock SET note = 'ours' WHERE code = 'x'", [])
        .unwrap();
    let after = [
        r#"UPDATE stock x note="theirs""#,
        r#"UPDATE stock x note="ours""#,
    ];
    assert_eq!(shown(&tool), [&SEALED_BEFORE[..], &WAITED, &after].concat());
    let format = |db: &LocalDb| {
        let sql = "SELECT value FROM _lakesync_state WHERE name = 'format'";
        db.query(sql, []).unwrap().rows
    };
    assert_eq!(format(&tool), [[crate::SqlValue::Integer(super::FORMAT)]]);
    assert_eq!(shown(&opened(&path, &clock())), shown(&tool));
}

#[test]
fn a_format_that_nobody_knows_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let connection = file(&path);
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
