//! What a callback may do.
//!
//! Invariant: it is called outside every lock and every transaction, so it may do anything that its thread may.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::{apply, database, named};
use crate::{LocalDb, SqlValue, Subscription};

fn count(db: &LocalDb, of: &str) -> i64 {
    let rows = db.query(&format!("SELECT count(*) FROM {of}"), []).unwrap();
    match rows.rows[0][0] {
        SqlValue::Integer(count) => count,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_callback_reads_writes_and_watches_the_database_it_is_told_of() {
    let db = database(":memory:");
    let again = db.clone();
    let subscription = db.watch(&["todos"]).unwrap().on_change(move |changes| {
        for row in named(changes, "todos") {
            again
                .execute(
                    "INSERT INTO lists (row_id, name) VALUES (?1, 'seen')",
                    [row],
                )
                .unwrap();
        }
        assert!(again.watch(&["todos"]).unwrap().try_next().is_none());
        again.status();
        again.poll().unwrap();
    });
    db.insert("todos", &[("title", "Own".into())]).unwrap();
    apply(&db, &[("a", "From afar")]);
    assert_eq!(count(&db, "lists"), 2);
    drop(subscription);
    apply(&db, &[("b", "From afar")]);
    assert_eq!(count(&db, "lists"), 2);
}

#[test]
fn a_callback_that_changes_what_it_watches_is_told_of_it_until_it_stops() {
    let db = database(":memory:");
    let again = db.clone();
    let _subscription = db.watch(&["todos"]).unwrap().on_change(move |_| {
        if count(&again, "todos") < 20 {
            again.insert("todos", &[("title", "More".into())]).unwrap();
        }
    });
    db.insert("todos", &[("title", "First".into())]).unwrap();
    assert_eq!(count(&db, "todos"), 20);
}

#[test]
fn a_callback_may_end_its_own_subscription() {
    let db = database(":memory:");
    let held: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let (own, calls) = (Arc::clone(&held), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&calls);
    let subscription = db.watch(&["todos"]).unwrap().on_change(move |_| {
        *counted.lock().unwrap() += 1;
        own.lock().unwrap().take();
    });
    *held.lock().unwrap() = Some(subscription);
    apply(&db, &[("a", "Milk")]);
    apply(&db, &[("b", "Bread")]);
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[test]
fn a_callback_that_panics_leaves_the_write_and_the_database_whole() {
    let db = database(":memory:");
    let _bad = db
        .watch(&[])
        .unwrap()
        .on_change(|_| panic!("a bug of the application"));
    let (heard, hears) = mpsc::channel();
    let _good = db
        .watch(&[])
        .unwrap()
        .on_change(move |_| heard.send(()).unwrap());
    db.insert("todos", &[("title", "First".into())]).unwrap();
    apply(&db, &[("a", "From afar")]);
    assert_eq!(count(&db, "todos"), 2);
    assert_eq!(hears.try_iter().count(), 2);
}

#[test]
fn a_query_calls_with_its_first_answer_and_every_other() {
    let db = database(":memory:");
    let answers = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&answers);
    let again = db.clone();
    let subscription = db
        .watch_query("SELECT title FROM todos ORDER BY title", &[])
        .unwrap()
        .on_change(move |rows| {
            again.status();
            kept.lock().unwrap().push(rows.unwrap().rows.len());
        });
    apply(&db, &[("a", "Milk")]);
    apply(&db, &[("a", "Milk")]);
    db.execute("DELETE FROM todos", []).unwrap();
    assert_eq!(*answers.lock().unwrap(), [0, 1, 0]);
    drop(subscription);
    apply(&db, &[("a", "Milk")]);
    assert_eq!(answers.lock().unwrap().len(), 3);
    assert_eq!(Arc::strong_count(&answers), 1, "the callback is gone");
}

#[test]
fn a_status_calls_with_how_it_goes_now_and_with_every_difference() {
    let db = database(":memory:");
    let (heard, hears) = mpsc::channel();
    let _subscription = db
        .watch_status()
        .on_change(move |status| heard.send(status.counts.pending).unwrap());
    db.insert("todos", &[("title", "Own".into())]).unwrap();
    assert_eq!(hears.try_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn writers_in_many_threads_and_callbacks_that_write_end_and_miss_nothing() {
    let db = database(":memory:");
    let again = db.clone();
    let _subscription = db.watch(&["todos"]).unwrap().on_change(move |changes| {
        for row in named(changes, "todos") {
            again
                .execute(
                    "INSERT INTO lists (row_id, name) VALUES (?1, 'seen') ON CONFLICT DO NOTHING",
                    [row],
                )
                .unwrap();
        }
    });
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let db = db.clone();
            std::thread::spawn(move || {
                for _ in 0..25 {
                    db.insert("todos", &[("title", "Own".into())]).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(count(&db, "lists"), 100);
}
