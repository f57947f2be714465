//! The file after a crash at any point: what committed is there, captured or sealed, and nothing else.

use std::sync::Arc;

use lakesync_proto::ManualClock;

use super::{START_MS, opened, shown};
use crate::ClientError;

#[test]
fn what_was_captured_and_not_sealed_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let clock = Arc::new(ManualClock::new(START_MS));
    let db = opened(&path, &clock);
    db.execute("INSERT INTO stock VALUES ('x', 7, NULL)", [])
        .unwrap();
    drop(db);
    clock.advance(1_000);
    let db = opened(&path, &clock);
    db.execute("UPDATE stock SET count = 8", []).unwrap();
    drop(db);
    clock.advance(1_000);
    let db = opened(&path, &clock);
    assert_eq!(
        shown(&db),
        [
            r#"INSERT stock x code="x" count=7"#,
            "UPDATE stock x count=8"
        ]
    );
    let walls: Vec<u64> = super::sealed(&db, 0)
        .iter()
        .map(|(_, delta)| delta.hlc.wall_ms())
        .collect();
    assert_eq!(
        walls,
        [START_MS, START_MS + 1_000],
        "each has the time of its own transaction"
    );
    drop(db);
    assert_eq!(shown(&opened(&path, &clock)).len(), 2, "sealed once");
}

#[test]
fn a_copy_of_the_file_taken_in_the_middle_has_whole_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let clock = Arc::new(ManualClock::new(START_MS));
    let db = opened(&path, &clock);
    let copies: Vec<(usize, std::path::PathBuf)> = (0..6)
        .map(|step| {
            let copy = |name: &str| {
                let to = folder.path().join(format!("{name}{step}"));
                for end in ["", "-wal"] {
                    let from = format!("{}{end}", path.display());
                    std::fs::copy(from, format!("{}{end}", to.display())).unwrap();
                }
                to
            };
            let taken = db
                .transaction(|edit| {
                    edit.execute("INSERT INTO stock (code) VALUES (?1)", [format!("s{step}")])?;
                    let taken = copy("in the middle of an edit ");
                    edit.execute(
                        "UPDATE stock SET count = ?1",
                        [i64::try_from(step).unwrap()],
                    )?;
                    Ok::<_, ClientError>(taken)
                })
                .unwrap();
            if step % 2 == 1 {
                shown(&db);
            }
            (step, taken)
        })
        .collect();
    for (step, copy) in copies {
        let db = opened(&copy, &clock);
        let count = db
            .query("SELECT count(*), max(count) FROM stock", [])
            .unwrap()
            .rows;
        let expected = i64::try_from(step).unwrap();
        assert_eq!(count[0][0], crate::SqlValue::Integer(expected), "{copy:?}");
        // Every insert with its update, and the updates of all rows before.
        assert_eq!(
            shown(&db).len(),
            (1..=step).map(|n| n + 1).sum::<usize>(),
            "{copy:?}"
        );
    }
}

#[test]
fn a_seal_that_is_not_committed_leaves_everything_captured() {
    let clock = Arc::new(ManualClock::new(START_MS));
    let db = opened(":memory:", &clock);
    db.execute("INSERT INTO stock VALUES ('x', 7, NULL)", [])
        .unwrap();
    let failed: Result<(), ClientError> = db.keep(|_| Err(ClientError::ReadOnly));
    failed.unwrap_err();
    let counts = |table: &str| {
        db.query(&format!("SELECT count(*) FROM {table}"), [])
            .unwrap()
            .rows[0][0]
            .clone()
    };
    assert_eq!(counts("_lakesync_changes"), crate::SqlValue::Integer(1));
    assert_eq!(counts("_lakesync_outbox"), crate::SqlValue::Integer(0));
    assert_eq!(shown(&db).len(), 1);
    assert_eq!(counts("_lakesync_changes"), crate::SqlValue::Integer(0));
    assert_eq!(counts("_lakesync_commits"), crate::SqlValue::Integer(0));
}
