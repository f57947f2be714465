//! Random SQL, by us and by other programs, with triggers, savepoints, rollbacks and restarts, against the slow model.

use std::sync::Arc;

use lakesync_proto::{ManualClock, Value};
use rusqlite::Connection;

use super::replay::Replay;
use super::{START_MS, opened, text};
use crate::dice::Dice;
use crate::{ClientError, LocalDb};

/// Histories, and transactions in each.
const SEEDS: u64 = 40;
const TRANSACTIONS: usize = 60;

/// More of them when asked for, as the histories of `tests` do.
fn seeds() -> u64 {
    let asked = std::env::var("LAKESYNC_SEEDS").ok();
    asked.map_or(SEEDS, |asked| asked.parse().expect("a number"))
}

const TRIGGERS: [&str; 4] = [
    "CREATE TRIGGER IF NOT EXISTS count_up AFTER UPDATE OF title ON todos BEGIN
        UPDATE todos SET n = coalesce(n, 0) + 1 WHERE row_id = NEW.row_id; END",
    "CREATE TRIGGER IF NOT EXISTS log AFTER INSERT ON todos BEGIN
        INSERT INTO stock (code, count) VALUES (NEW.row_id, 1) ON CONFLICT DO UPDATE SET count = count + 1; END",
    "CREATE TRIGGER IF NOT EXISTS unlog BEFORE DELETE ON todos BEGIN
        DELETE FROM stock WHERE code = OLD.row_id; END",
    // The same column again: in the wrong order the older value would win.
    "CREATE TRIGGER IF NOT EXISTS start AFTER INSERT ON todos WHEN NEW.n > 0 BEGIN
        UPDATE todos SET n = 0 WHERE row_id = NEW.row_id; END",
];

/// One statement. Few keys and few values, so that it often meets what is there.
fn statement(dice: &mut Dice) -> String {
    let row = *dice.pick(&["r0", "r1", "r2", "r3"]);
    let other = *dice.pick(&["r0", "r1", "r2", "r3"]);
    let title = *dice.pick(&["NULL", "'a'", "'b'", "''"]);
    let n = *dice.pick(&["NULL", "0", "1", "2"]);
    let truth = *dice.pick(&["0", "1"]);
    let or = *dice.pick(&["", "", "OR IGNORE", "OR REPLACE", "OR ABORT", "OR FAIL"]);
    match dice.below(16) {
        0 | 1 => {
            format!("INSERT {or} INTO todos (row_id, title, n) VALUES ('{row}', {title}, {n})")
        }
        2 => format!("INSERT {or} INTO stock VALUES ('{row}', {n}, {title}), ('{other}', 1, NULL)"),
        3 => format!(
            "INSERT {or} INTO places VALUES ({}, {title}, {truth})",
            dice.below(3)
        ),
        4 => format!("UPDATE todos SET title = {title}, done = {truth} WHERE row_id >= '{row}'"),
        5 => format!("UPDATE {or} todos SET row_id = '{other}', n = {n} WHERE row_id = '{row}'"),
        6 => format!("UPDATE {or} stock SET code = '{other}' WHERE code = '{row}'"),
        7 => format!("UPDATE {or} places SET x = (x + 1) % 3, what = {title} WHERE y = {truth}"),
        8 => format!("UPDATE stock SET count = {n}, note = coalesce(note, {title})"),
        9 => format!("DELETE FROM todos WHERE row_id > '{row}' OR n = {n}"),
        10 => format!("DELETE FROM stock WHERE code = '{row}'"),
        11 => format!("DELETE FROM places WHERE x = {}", dice.below(3)),
        12 => format!(
            "INSERT INTO stock (code, count) VALUES ('{row}', {n}) ON CONFLICT DO UPDATE SET count = excluded.count, note = {title}"
        ),
        13 => format!(
            "REPLACE INTO todos (row_id, title) SELECT code, note FROM stock WHERE code < '{row}'"
        ),
        14 => format!(
            "INSERT OR IGNORE INTO stock (code) SELECT row_id FROM todos; DELETE FROM places WHERE what IS {title}"
        ),
        _ => (*dice.pick(&TRIGGERS)).to_owned(),
    }
}

/// Runs a transaction; it fails where a statement does, and then leaves nothing.
fn own(db: &LocalDb, dice: &mut Dice) {
    let _ = db.transaction(|edit| {
        for _ in 0..=dice.below(4) {
            match dice.below(8) {
                0 => edit.execute_batch("SAVEPOINT s")?,
                1 => drop(edit.execute_batch("ROLLBACK TO s")),
                2 => {
                    let (row, title) = (*dice.pick(&["r0", "r1"]), *dice.pick(&["a", "b"]));
                    let _ = edit.insert("stock", &[("code", text(row)), ("note", text(title))]);
                    let _ = edit.update("todos", row, &[("title", text(title))]);
                    let _ = edit.delete("stock", *dice.pick(&["r2", "r3"]));
                    edit.insert("todos", &[("n", Value::Long(1))])?;
                }
                // A statement may fail and the transaction go on: its effects are gone or, with OR FAIL, half there.
                3 => drop(edit.execute_batch(&statement(dice))),
                _ => edit.execute_batch(&statement(dice))?,
            }
        }
        match dice.below(6) {
            0 => Err(ClientError::ReadOnly),
            _ => Ok(()),
        }
    });
}

fn foreign(connection: &Connection, dice: &mut Dice) {
    let in_transaction = dice.below(2) == 0;
    if in_transaction {
        connection.execute_batch("BEGIN").unwrap();
    }
    for _ in 0..=dice.below(3) {
        let _ = connection.execute_batch(&statement(dice));
    }
    if in_transaction && !connection.is_autocommit() {
        let end = *dice.pick(&["COMMIT", "COMMIT", "ROLLBACK"]);
        connection.execute_batch(end).unwrap();
    }
}

#[test]
fn whatever_sql_does_the_sealed_deltas_do_too() {
    for seed in 0..seeds() {
        let dice = &mut Dice(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let clock = Arc::new(ManualClock::new(START_MS));
        let mut db = opened(&path, &clock);
        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("PRAGMA recursive_triggers = ON; PRAGMA synchronous = OFF")
            .unwrap();
        let mut replay = Replay::default();
        let mut most = 0;
        for step in 0..TRANSACTIONS {
            clock.set(START_MS + dice.below(1_000));
            match dice.below(12) {
                0 => {
                    drop(db);
                    db = opened(&path, &clock);
                }
                1..=3 => foreign(&other, dice),
                _ => own(&db, dice),
            }
            if dice.below(3) == 0 {
                replay.check(&db, &format!("seed {seed}, step {step}"));
                most = most.max(replay.len());
            }
        }
        replay.check(&db, &format!("seed {seed}, the end"));
        assert!(most > 3, "seed {seed} did nothing");
    }
}

/// Without recursive triggers a program replaces rows in silence: by the same key, which an insert notices.
#[test]
fn programs_without_recursive_triggers_hide_nothing_behind_a_key() {
    for seed in 0..seeds() {
        let dice = &mut Dice(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let db = opened(&path, &Arc::new(ManualClock::new(START_MS)));
        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("PRAGMA recursive_triggers = OFF; PRAGMA synchronous = OFF")
            .unwrap();
        let mut replay = Replay::default();
        for step in 0..TRANSACTIONS {
            let row = *dice.pick(&["r0", "r1", "r2"]);
            let n = *dice.pick(&["NULL", "0", "1"]);
            let sql = match dice.below(6) {
                0 | 1 => format!("REPLACE INTO stock VALUES ('{row}', {n}, NULL), ('r1', 1, 'x')"),
                2 => format!("INSERT OR IGNORE INTO stock VALUES ('{row}', {n}, NULL)"),
                3 => format!(
                    "INSERT INTO stock VALUES ('{row}', {n}, NULL) ON CONFLICT DO UPDATE SET count = {n}"
                ),
                4 => format!("DELETE FROM stock WHERE code = '{row}'"),
                _ => format!("REPLACE INTO todos (row_id, n) VALUES ('{row}', {n})"),
            };
            if dice.below(4) == 0 {
                db.execute_batch(&sql).unwrap();
            } else {
                other.execute_batch(&sql).unwrap();
            }
            if dice.below(3) == 0 {
                replay.check(&db, &format!("seed {seed}, step {step}: {sql}"));
            }
        }
        replay.check(&db, &format!("seed {seed}, the end"));
    }
}
