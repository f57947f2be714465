//! The hub alone, without a database.
//!
//! Invariant: callbacks are called one after the other, outside every lock, until each has heard everything.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lakesync_proto::{RowId, TableName};

use crate::watch::changes::{ChangedRows, Changes, Touched};
use crate::watch::hub::Hub;
use crate::watch::inbox::{Callback, First, Inbox, Interest};
use crate::{Phase, Status};

fn table(name: &str) -> TableName {
    TableName::parse(name).unwrap()
}

fn row(name: &str) -> RowId {
    RowId::parse(name).unwrap()
}

fn touched(name: &str, rows: &[&str]) -> Touched {
    let mut touched = Touched::default();
    for id in rows {
        touched.row(&table(name), &row(id));
    }
    touched.origins.synced = true;
    touched
}

fn all(hub: &Hub) -> Arc<Inbox> {
    hub.subscribe(Interest::Tables(BTreeSet::new()), First::Nothing)
}

fn named(changes: &Changes, name: &str) -> Vec<String> {
    match &changes.tables[&table(name)] {
        ChangedRows::Some(rows) => rows.iter().map(|row| row.as_str().to_owned()).collect(),
        ChangedRows::Many => panic!("too many to name"),
    }
}

#[test]
fn changes_merge_until_they_are_read_and_only_wanted_tables_come() {
    let hub = Hub::default();
    let todos = hub.subscribe(
        Interest::Tables(BTreeSet::from([table("todos")])),
        First::Nothing,
    );
    let (everything, commits) = (all(&hub), hub.subscribe(Interest::Commits, First::Nothing));
    hub.publish(touched("todos", &["a", "b"]));
    let mut own = touched("todos", &["b", "c"]);
    own.origins = crate::Origins {
        own: true,
        ..Default::default()
    };
    hub.publish(own);
    hub.publish(touched("lists", &["x"]));

    let changes = todos.take().unwrap().changes;
    assert_eq!(changes.tables.len(), 1);
    assert_eq!(named(&changes, "todos"), ["a", "b", "c"]);
    assert!(changes.origins.own && changes.origins.synced && !changes.origins.elsewhere);
    assert!(todos.take().is_none());
    assert_eq!(everything.take().unwrap().changes.tables.len(), 2);
    let commits = commits.take().unwrap().changes;
    assert_eq!(commits.tables[&table("todos")], ChangedRows::Many);

    hub.publish(touched("lists", &["y"]));
    assert!(todos.take().is_none(), "a table nobody asked about");
}

#[test]
fn what_waits_for_a_reader_who_never_reads_is_bounded() {
    let hub = Hub::default();
    let inbox = all(&hub);
    for number in 0..3_000 {
        hub.publish(touched("todos", &[&format!("row-{number}")]));
    }
    let changes = inbox.take().unwrap().changes;
    assert_eq!(changes.tables[&table("todos")], ChangedRows::Many);
}

#[test]
fn a_commit_without_rows_wakes_no_driver_and_an_edit_without_rows_only_those_who_ask_for_commits() {
    let hub = Hub::default();
    let (tables, commits) = (all(&hub), hub.subscribe(Interest::Commits, First::Nothing));
    hub.publish(touched("todos", &[]));
    assert_eq!(hub.signal().generation(), 0);
    assert!(commits.take().is_none());

    let mut own = Touched::default();
    own.origins.own = true;
    hub.publish(own);
    assert_eq!(hub.signal().generation(), 0);
    assert!(commits.take().is_some());
    assert!(tables.take().is_none());

    hub.publish(touched("todos", &["a"]));
    assert_eq!(hub.signal().generation(), 1);
    hub.publish_outbox();
    assert_eq!(hub.signal().generation(), 2);
}

#[test]
fn a_callback_that_publishes_is_called_again_and_never_within_itself() {
    let hub = Arc::new(Hub::default());
    let inbox = all(&hub);
    let (inside, calls) = (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
    let (again, counted) = (Arc::clone(&hub), Arc::clone(&calls));
    hub.call(
        &inbox,
        Box::new(move |_| {
            assert!(!inside.swap(true, Ordering::SeqCst), "nested");
            if counted.fetch_add(1, Ordering::SeqCst) < 50 {
                again.publish(touched("todos", &["b"]));
            }
            inside.store(false, Ordering::SeqCst);
        }),
    );
    hub.publish(touched("todos", &["a"]));
    assert_eq!(calls.load(Ordering::SeqCst), 51);
}

#[test]
fn a_callback_that_panics_ends_nothing_but_its_call() {
    let hub = Hub::default();
    let (bad, good) = (all(&hub), all(&hub));
    let calls = Arc::new(AtomicUsize::new(0));
    let (bad_calls, good_calls) = (Arc::clone(&calls), Arc::clone(&calls));
    hub.call(
        &bad,
        Box::new(move |_| {
            bad_calls.fetch_add(100, Ordering::SeqCst);
            panic!("a bug of the application");
        }),
    );
    hub.call(
        &good,
        Box::new(move |_| {
            good_calls.fetch_add(1, Ordering::SeqCst);
        }),
    );
    hub.publish(touched("todos", &["a"]));
    assert_eq!(calls.load(Ordering::SeqCst), 101);
    hub.publish(touched("todos", &["b"]));
    assert_eq!(calls.load(Ordering::SeqCst), 202);
}

#[test]
fn many_publishers_at_once_lose_nothing_and_overlap_never() {
    let hub = Arc::new(Hub::default());
    let inbox = all(&hub);
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let (inside, ear) = (AtomicBool::new(false), Arc::clone(&heard));
    let callback: Callback = Box::new(move |mail| {
        assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
        ear.lock().unwrap().extend(named(&mail.changes, "todos"));
        inside.store(false, Ordering::SeqCst);
    });
    hub.call(&inbox, callback);
    // Fewer rows in all than are named one by one, however long a delivery takes.
    let publishers: Vec<_> = (0..4)
        .map(|thread| {
            let hub = Arc::clone(&hub);
            std::thread::spawn(move || {
                for number in 0..200 {
                    hub.publish(touched("todos", &[&format!("{thread}-{number}")]));
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert_eq!(heard.lock().unwrap().len(), 800);
}

#[test]
fn a_subscription_that_was_dropped_is_called_no_more() {
    let hub = Arc::new(Hub::default());
    let calls = Arc::new(AtomicUsize::new(0));
    let inbox = all(&hub);
    let counted = Arc::clone(&calls);
    hub.call(
        &inbox,
        Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
    );
    hub.publish(touched("todos", &["a"]));
    inbox.stop_calling();
    hub.publish(touched("todos", &["b"]));
    drop(inbox);
    hub.publish(touched("todos", &["c"]));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&calls), 1, "the callback is gone");
}

#[test]
fn a_status_is_told_when_it_differs() {
    let hub = Hub::default();
    let (inbox, tables) = (hub.subscribe(Interest::Status, First::Ready), all(&hub));
    assert!(inbox.take().is_some(), "the first");
    hub.publish_status(&Status::default());
    assert!(inbox.take().is_none());
    let live = Status {
        phase: Phase::Live,
        ..Status::default()
    };
    hub.publish_status(&live);
    assert!(inbox.take().is_some() && tables.take().is_none());
    assert_eq!(hub.status(), live);
}
