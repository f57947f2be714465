//! Random histories against the slowest watcher there is: one that reads everything again and compares.
//!
//! Invariant: between two looks of a watcher every row that changed was told; a query answers exactly when its answer is
//! another one than the last it gave.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{apply, database, table};
use crate::dice::Dice;
use crate::{ChangedRows, ClientError, LocalDb, QueryWatch, Rows, Watch};

const QUERIES: [&str; 5] = [
    "SELECT * FROM todos ORDER BY row_id",
    "SELECT count(*) FROM todos WHERE list IS NULL",
    "SELECT max(name) FROM lists",
    "WITH busy AS (SELECT list FROM todos GROUP BY 1 HAVING count(*) > 1) SELECT name FROM lists JOIN busy ON list = row_id",
    "SELECT count(*) FROM notes",
];

type Content = BTreeMap<String, Vec<crate::SqlValue>>;

fn content(db: &LocalDb, table: &str) -> Content {
    let sql = format!("SELECT row_id, * FROM {table}");
    let rows = db.query(&sql, []).unwrap().rows;
    rows.into_iter()
        .map(|row| match &row[0] {
            crate::SqlValue::Text(id) => (id.clone(), row),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A watcher with what it saw when it last looked.
struct Slow {
    watch: Watch,
    table: &'static str,
    seen: Content,
}

impl Slow {
    fn look(&mut self, db: &LocalDb) {
        let told = self.watch.try_next();
        let now = content(db, self.table);
        let told = told.and_then(|mut changes| changes.tables.remove(&table(self.table)));
        for id in now.keys().chain(self.seen.keys()) {
            if now.get(id) != self.seen.get(id) {
                match &told {
                    Some(ChangedRows::Many) => {}
                    Some(ChangedRows::Some(rows)) => {
                        assert!(
                            rows.iter().any(|row| row.as_str() == id),
                            "{id} of {rows:?}"
                        );
                    }
                    None => panic!("{id} of {} changed and nobody said so", self.table),
                }
            }
        }
        self.seen = now;
    }
}

fn step(db: &LocalDb, foreign: &Connection, dice: &mut Dice) {
    let (row, list) = (format!("r{}", dice.below(8)), format!("l{}", dice.below(3)));
    let text = format!("t{}", dice.below(4));
    let upsert = "INSERT INTO todos (row_id, title, list) VALUES (?1, ?2, ?3) \
                  ON CONFLICT DO UPDATE SET title = excluded.title, list = excluded.list";
    match dice.below(10) {
        0 => drop(db.execute(upsert, (&row, &text, &list)).unwrap()),
        1 => drop(
            db.execute("DELETE FROM todos WHERE row_id = ?1", [&row])
                .unwrap(),
        ),
        2 => drop(
            db.execute("UPDATE todos SET list = NULL WHERE title = ?1", [&text])
                .unwrap(),
        ),
        3 => drop(
            db.execute(
                "INSERT OR REPLACE INTO lists (row_id, name) VALUES (?1, ?2)",
                [&list, &text],
            )
            .unwrap(),
        ),
        4 => drop(db.update("todos", &row, &[("title", text.as_str().into())])),
        5 => {
            let failed: Result<(), ClientError> = db.transaction(|tx| {
                tx.execute("DELETE FROM todos", [])?;
                tx.execute("DELETE FROM lists", [])?;
                Err(ClientError::ReadOnly)
            });
            assert!(failed.is_err());
        }
        6 => apply(db, &[(&row, &text)]),
        7 => drop(
            db.execute("INSERT INTO notes VALUES (?1)", [&text])
                .unwrap(),
        ),
        8 => drop(
            db.execute(
                "UPDATE OR REPLACE todos SET row_id = row_id || 'x' WHERE row_id = ?1 AND length(row_id) < 4",
                [&row],
            )
            .unwrap(),
        ),
        _ => {
            foreign.execute(upsert, [&row, &text, &list]).unwrap();
            assert!(db.poll().unwrap());
        }
    }
}

fn history(seed: u64) {
    let mut dice = Dice(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("random.db");
    let db = database(&path);
    db.migrate(&["CREATE TABLE notes (text TEXT)"]).unwrap();
    let foreign = Connection::open(&path).unwrap();
    let mut tables: Vec<Slow> = ["todos", "lists", "todos"]
        .into_iter()
        .map(|table| Slow {
            watch: db.watch(&[table]).unwrap(),
            table,
            seen: content(&db, table),
        })
        .collect();
    let mut queries: Vec<(QueryWatch, Option<Rows>)> = QUERIES
        .iter()
        .map(|sql| (db.watch_query(sql, &[]).unwrap(), None))
        .collect();
    for _ in 0..120 {
        step(&db, &foreign, &mut dice);
        if dice.below(2) == 0 {
            let slow = usize::try_from(dice.below(3)).unwrap();
            tables[slow].look(&db);
        }
        for ((watch, last), sql) in queries.iter_mut().zip(QUERIES) {
            if dice.below(3) > 0 {
                continue;
            }
            let now = db.query(sql, []).unwrap();
            let news = watch.try_next().unwrap();
            match last.as_ref() == Some(&now) {
                true => assert_eq!(news, None, "seed {seed}: {sql}"),
                false => assert_eq!(news.as_ref(), Some(&now), "seed {seed}: {sql}"),
            }
            *last = Some(now);
        }
    }
}

#[test]
fn nothing_that_changes_is_missed_and_no_answer_comes_twice() {
    for seed in 0..12 {
        history(seed);
    }
}
