//! Watching queries, through the database.
//!
//! Invariant: an answer comes when it is another one, and only then.

use super::{apply, database};
use crate::{ClientError, LocalDb, QueryWatch, SqlValue};

/// The one text that the query answers now; none when the answer stayed the same.
fn news(watch: &QueryWatch) -> Option<String> {
    let rows = watch.try_next().unwrap()?;
    match &rows.rows[..] {
        [row] => match &row[..] {
            [SqlValue::Text(text)] => Some(text.clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn titles(db: &LocalDb, from: &str) -> QueryWatch {
    db.watch_query(
        &format!("SELECT coalesce(group_concat(title), '') FROM {from}"),
        &[],
    )
    .unwrap()
}

#[test]
fn an_answer_comes_only_when_it_differs() {
    let db = database(":memory:");
    let milk = db
        .watch_query(
            "SELECT coalesce(group_concat(title), '') FROM todos WHERE title LIKE ?1",
            &[&"%milk%"],
        )
        .unwrap();
    assert_eq!(news(&milk).as_deref(), Some(""));
    db.execute("INSERT INTO todos (title) VALUES ('Buy bread')", [])
        .unwrap();
    db.insert("lists", &[("name", "Oat milk".into())]).unwrap();
    assert_eq!(news(&milk), None);
    apply(&db, &[("a", "Oat milk")]);
    assert_eq!(news(&milk).as_deref(), Some("Oat milk"));
    db.execute("UPDATE todos SET title = 'Soy milk' WHERE row_id = 'a'", [])
        .unwrap();
    apply(&db, &[("a", "Oat milk")]);
    assert_eq!(news(&milk), None, "there and back between two looks");
}

#[test]
fn views_expressions_and_subqueries_follow_the_tables_under_them() {
    let db = database(":memory:");
    db.migrate(&["CREATE VIEW open_todos AS SELECT * FROM todos WHERE list IS NULL"])
        .unwrap();
    let watches = [
        titles(&db, "open_todos"),
        titles(&db, "(SELECT * FROM todos ORDER BY title)"),
        titles(&db, "(WITH t AS (SELECT * FROM todos) SELECT * FROM t)"),
        titles(&db, "todos WHERE EXISTS (SELECT 1 FROM todos)"),
        db.watch_query(
            "SELECT upper(coalesce((SELECT max(title) FROM todos), ''))",
            &[],
        )
        .unwrap(),
        db.watch_query("SELECT CAST(count(*) AS TEXT) FROM TODOS", &[])
            .unwrap(),
    ];
    for watch in &watches {
        assert!(news(watch).is_some());
    }
    db.insert("lists", &[("name", "Shopping".into())]).unwrap();
    for watch in &watches {
        assert_eq!(news(watch), None);
    }
    apply(&db, &[("a", "Milk")]);
    for watch in &watches {
        assert!(news(watch).is_some());
    }
}

#[test]
fn a_view_that_is_made_anew_is_asked_anew() {
    let db = database(":memory:");
    db.insert("lists", &[("name", "Shopping".into())]).unwrap();
    db.migrate(&["CREATE VIEW shown AS SELECT title FROM todos"])
        .unwrap();
    let watch = titles(&db, "shown");
    assert_eq!(news(&watch).as_deref(), Some(""));
    db.migrate(&[
        "CREATE VIEW shown AS SELECT title FROM todos",
        "DROP VIEW shown; CREATE VIEW shown AS SELECT name AS title FROM lists",
    ])
    .unwrap();
    assert_eq!(news(&watch).as_deref(), Some("Shopping"));
    db.execute("UPDATE lists SET name = 'Garden'", []).unwrap();
    assert_eq!(news(&watch).as_deref(), Some("Garden"));
}

#[test]
fn tables_of_the_application_and_its_search_index_are_watched_too() {
    let db = database(":memory:");
    db.migrate(&[
        "CREATE TABLE settings (title TEXT);
         CREATE VIRTUAL TABLE words USING fts5(title);
         CREATE TRIGGER indexed AFTER INSERT ON todos BEGIN INSERT INTO words VALUES (NEW.title); END;",
    ])
    .unwrap();
    let (settings, words) = (
        titles(&db, "settings"),
        titles(&db, "words WHERE words MATCH 'milk'"),
    );
    assert_eq!(
        (news(&settings), news(&words)),
        (Some(String::new()), Some(String::new()))
    );
    db.execute("INSERT INTO settings VALUES ('dark')", [])
        .unwrap();
    assert_eq!(
        (news(&settings).as_deref(), news(&words)),
        (Some("dark"), None)
    );
    apply(&db, &[("a", "Oat milk")]);
    assert_eq!(
        (news(&settings), news(&words).as_deref()),
        (None, Some("Oat milk"))
    );
}

#[test]
fn a_query_that_fails_says_so_and_answers_again_later() {
    let db = database(":memory:");
    db.migrate(&["CREATE VIEW shown AS SELECT title FROM todos"])
        .unwrap();
    let watch = titles(&db, "shown");
    assert!(news(&watch).is_some());
    db.execute_batch("DROP VIEW shown").unwrap();
    assert!(matches!(watch.try_next(), Err(ClientError::Database(_))));
    assert_eq!(watch.try_next().unwrap(), None, "told once");
    db.execute_batch("CREATE VIEW shown AS SELECT title FROM todos")
        .unwrap();
    assert_eq!(
        news(&watch).as_deref(),
        Some(""),
        "the same as before the failure, and yet news"
    );
}

#[test]
fn what_is_no_query_is_refused_at_once() {
    let db = database(":memory:");
    let refused = db.watch_query("DELETE FROM todos RETURNING title", &[]);
    assert!(matches!(refused, Err(ClientError::ReadOnly)));
    let refused = db.watch_query("SELECT nothing FROM todos", &[]);
    assert!(matches!(refused, Err(ClientError::Database(_))));
}

#[test]
fn another_process_is_heard_after_a_poll() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("todos.db");
    let db = database(&path);
    let watch = titles(&db, "todos");
    assert!(news(&watch).is_some());
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign
        .execute("INSERT INTO todos (title) VALUES ('Foreign')", [])
        .unwrap();
    assert_eq!(news(&watch), None);
    db.poll().unwrap();
    assert_eq!(news(&watch).as_deref(), Some("Foreign"));
}
