//! Watching tables, through the database.
//!
//! Invariant: every way to change a row is told, once it has committed, with whose doing it was.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::{apply, database, named, table};
use crate::{ChangedRows, ClientError, Phase, Status};

#[test]
fn typed_writes_sql_and_pages_are_told_and_what_was_rolled_back_is_not() {
    let db = database(":memory:");
    let (todos, lists) = (db.watch(&["todos"]).unwrap(), db.watch(&["lists"]).unwrap());
    let row = db.insert("todos", &[("title", "Buy milk".into())]).unwrap();
    let changes = todos.try_next().unwrap();
    assert_eq!(named(&changes, "todos"), [row.as_str()]);
    assert!(changes.origins.own && !changes.origins.synced);

    db.execute("UPDATE todos SET title = 'Buy bread'", [])
        .unwrap();
    assert_eq!(named(&todos.try_next().unwrap(), "todos"), [row.as_str()]);

    apply(&db, &[("other", "From afar")]);
    let changes = todos.try_next().unwrap();
    assert_eq!(named(&changes, "todos"), ["other"]);
    assert!(changes.origins.synced && !changes.origins.own);

    let failed: Result<(), ClientError> = db.transaction(|tx| {
        tx.execute("DELETE FROM todos", [])?;
        Err(ClientError::ReadOnly)
    });
    assert!(failed.is_err());
    assert_eq!(todos.try_next(), None);
    db.execute("DELETE FROM todos WHERE row_id = 'other'", [])
        .unwrap();
    assert_eq!(named(&todos.try_next().unwrap(), "todos"), ["other"]);
    assert_eq!(lists.try_next(), None);
}

#[test]
fn a_table_that_the_applications_own_trigger_writes_is_told_too() {
    let db = database(":memory:");
    db.migrate(&[
        "CREATE TABLE log (title TEXT);
         CREATE TRIGGER logs AFTER INSERT ON Todos BEGIN INSERT INTO log VALUES (NEW.title); END;
         CREATE TRIGGER counts AFTER INSERT ON log BEGIN
             INSERT INTO LISTS (row_id, name) VALUES ('logged', NEW.title) ON CONFLICT DO UPDATE SET name = NEW.title;
         END;",
    ])
    .unwrap();
    let lists = db.watch(&["lists"]).unwrap();
    apply(&db, &[("a", "From afar")]);
    let changes = lists.try_next().unwrap();
    assert_eq!(changes.tables[&table("lists")], ChangedRows::Many);
    assert!(changes.origins.synced);

    db.insert("todos", &[("title", "Own".into())]).unwrap();
    assert_eq!(named(&lists.try_next().unwrap(), "lists"), ["logged"]);
}

#[test]
fn another_process_is_found_by_polling_and_own_commits_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("todos.db");
    let db = database(&path);
    let todos = db.watch(&["todos"]).unwrap();
    db.insert("todos", &[("title", "Own".into())]).unwrap();
    assert!(!db.poll().unwrap());
    assert!(todos.try_next().unwrap().origins.own);

    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign
        .execute("INSERT INTO todos (title) VALUES ('Foreign')", [])
        .unwrap();
    assert_eq!(todos.try_next(), None, "nobody has told it");
    let generation = db.hub().signal().generation();
    assert!(db.poll().unwrap());
    assert!(
        db.hub().signal().generation() > generation,
        "there is something to push"
    );
    let changes = todos.try_next().unwrap();
    assert_eq!(changes.tables[&table("todos")], ChangedRows::Many);
    assert!(changes.origins.elsewhere && !changes.origins.own);
    assert!(!db.poll().unwrap());
    assert_eq!(todos.try_next(), None);
}

#[test]
fn who_comes_later_takes_nothing_from_who_watched_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("todos.db");
    let db = database(&path);
    let first = db.watch(&["todos"]).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign
        .execute("INSERT INTO todos (title) VALUES ('Foreign')", [])
        .unwrap();
    let second = db.watch(&["todos"]).unwrap();
    let query = db.watch_query("SELECT count(*) FROM todos", &[]).unwrap();
    assert!(db.poll().unwrap());
    assert!(first.try_next().is_some() && second.try_next().is_some());
    assert!(query.try_next().unwrap().is_some());
}

#[test]
fn all_tables_are_watched_when_none_is_named_and_wrong_names_are_refused() {
    let db = database(":memory:");
    let all = db.watch(&[]).unwrap();
    db.insert("todos", &[("title", "Buy milk".into())]).unwrap();
    db.insert("lists", &[("name", "Shopping".into())]).unwrap();
    assert_eq!(all.try_next().unwrap().tables.len(), 2);
    assert!(matches!(db.watch(&["no name"]), Err(ClientError::Name(_))));
}

#[test]
fn watches_go_to_other_threads() {
    fn goes<T: Send + Sync + 'static>() {}
    goes::<crate::Watch>();
    goes::<crate::QueryWatch>();
    goes::<crate::StatusWatch>();
    goes::<crate::Subscription>();
    let db = database(":memory:");
    let watch = db.watch(&[]).unwrap();
    let _: Box<dyn Future<Output = crate::Changes> + Send> =
        Box::new(async move { watch.changed().await });
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_is_woken_by_what_it_watches_and_loses_nothing_when_it_is_dropped() {
    let db = database(":memory:");
    let todos = db.watch(&["todos"]).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    {
        let mut changed = pin!(todos.changed());
        assert!(changed.as_mut().poll(&mut context).is_pending());
        db.insert("lists", &[("name", "Shopping".into())]).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        db.insert("todos", &[("title", "Buy milk".into())]).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
    let Poll::Ready(changes) = pin!(todos.changed()).poll(&mut context) else {
        panic!("lost");
    };
    assert_eq!(named(&changes, "todos").len(), 1);
}

#[test]
fn the_status_counts_the_outbox_and_tells_only_what_differs() {
    let db = database(":memory:");
    let watch = db.watch_status();
    assert_eq!(watch.try_next(), Some(Status::default()));
    db.insert("todos", &[("title", "Buy milk".into())]).unwrap();
    assert_eq!(watch.try_next().unwrap().counts.pending, 1);
    db.execute("UPDATE todos SET title = title", []).unwrap();
    assert_eq!(watch.try_next(), None);
    let live = Status {
        phase: Phase::Live,
        ..db.status()
    };
    db.hub().publish_status(&live);
    assert_eq!(watch.try_next(), Some(live.clone()));
    db.hub().publish_status(&live);
    assert_eq!(watch.try_next(), None);
}

#[cfg(feature = "http")]
#[test]
fn a_thread_waits_for_changes_and_gives_up_when_its_time_is_over() {
    use std::time::Duration;

    let db = database(":memory:");
    let todos = db.watch(&["todos"]).unwrap();
    let query = db.watch_query("SELECT title FROM todos", &[]).unwrap();
    query.try_next().unwrap().unwrap();
    assert_eq!(todos.wait(Duration::from_millis(1)), None);
    assert_eq!(query.wait(Duration::from_millis(1)).unwrap(), None);
    let writer = db.clone();
    let writes = std::thread::spawn(move || {
        writer
            .insert("lists", &[("name", "Shopping".into())])
            .unwrap();
        writer
            .insert("todos", &[("title", "Buy milk".into())])
            .unwrap();
    });
    let long = Duration::from_secs(60);
    assert_eq!(named(&todos.wait(long).unwrap(), "todos").len(), 1);
    assert_eq!(query.wait(long).unwrap().unwrap().rows.len(), 1);
    writes.join().unwrap();
}
