//! Plain SQL, statement by statement.

use super::{check, check_refused, db, shown};
use crate::ClientError;

const MILK: &str = "INSERT INTO todos (row_id, title, n) VALUES ('r', 'milk', 1)";
const STOCKED: &str = "INSERT INTO stock VALUES ('x', 7, 'old'), ('y', 8, NULL)";

#[test]
fn inserts_carry_what_is_not_null() {
    check("", MILK, &[r#"INSERT todos r title="milk" n=1"#]);
    check(
        "",
        "INSERT INTO todos (row_id) VALUES ('r')",
        &["INSERT todos r"],
    );
    check(
        "",
        STOCKED,
        &[
            r#"INSERT stock x code="x" count=7 note="old""#,
            r#"INSERT stock y code="y" count=8"#,
        ],
    );
    check(
        STOCKED,
        "INSERT INTO todos (row_id, n) SELECT code || 1, count FROM stock ORDER BY code",
        &["INSERT todos x1 n=7", "INSERT todos y1 n=8"],
    );
    check(
        "",
        "INSERT INTO places VALUES (-5, 'sea', TRUE)",
        &[r#"INSERT places [-5,true] x=-5 what="sea" y=true"#],
    );
}

#[test]
fn updates_carry_what_differs() {
    check(
        MILK,
        "UPDATE todos SET title = 'tea', n = 1",
        &[r#"UPDATE todos r title="tea""#],
    );
    check(
        MILK,
        "UPDATE todos SET n = NULL, done = 0",
        &["UPDATE todos r done=false n=null"],
    );
    check(
        MILK,
        "UPDATE todos SET title = 'milk', n = 1, done = NULL",
        &[],
    );
    check(MILK, "UPDATE todos SET n = 5 WHERE title = 'tea'", &[]);
    check(
        STOCKED,
        "UPDATE stock SET count = count + 1; UPDATE stock SET note = code || '!' WHERE note IS NULL",
        &[
            "UPDATE stock x count=8",
            "UPDATE stock y count=9",
            r#"UPDATE stock y note="y!""#,
        ],
    );
    check(
        "INSERT INTO places VALUES (1, NULL, 0)",
        "UPDATE places SET x = 1, what = 'land', y = 0",
        &[r#"UPDATE places [1,false] what="land""#],
    );
}

#[test]
fn a_key_never_changes_a_row_goes_and_another_comes() {
    check(
        STOCKED,
        "UPDATE stock SET code = 'z' WHERE code = 'x'",
        &[
            "DELETE stock x",
            r#"INSERT stock z code="z" count=7 note="old""#,
        ],
    );
    check(
        MILK,
        "UPDATE todos SET row_id = 's', n = 2",
        &["DELETE todos r", r#"INSERT todos s title="milk" n=2"#],
    );
    check(
        "INSERT INTO places VALUES (1, 'land', 0)",
        "UPDATE places SET y = 1",
        &[
            "DELETE places [1,false]",
            r#"INSERT places [1,true] x=1 what="land" y=true"#,
        ],
    );
    check(
        STOCKED,
        "UPDATE OR REPLACE stock SET code = 'y' WHERE code = 'x'",
        &[
            "DELETE stock y",
            "DELETE stock x",
            r#"INSERT stock y code="y" count=7 note="old""#,
        ],
    );
}

#[test]
fn deletes_name_the_row() {
    check(
        STOCKED,
        "DELETE FROM stock",
        &["DELETE stock x", "DELETE stock y"],
    );
    check(MILK, "DELETE FROM todos WHERE n = 2", &[]);
    check(
        MILK,
        "DELETE FROM todos; INSERT INTO todos (row_id) VALUES ('r')",
        &["DELETE todos r", "INSERT todos r"],
    );
}

#[test]
fn conflicts_are_captured_as_what_became_of_them() {
    check(
        STOCKED,
        "INSERT INTO stock VALUES ('x', 1, NULL), ('new', 2, NULL) ON CONFLICT DO UPDATE SET count = count + excluded.count",
        &[
            "UPDATE stock x count=8",
            r#"INSERT stock new code="new" count=2"#,
        ],
    );
    check(
        STOCKED,
        "INSERT INTO stock VALUES ('x', 7, 'old') ON CONFLICT DO UPDATE SET count = excluded.count",
        &[],
    );
    check(
        STOCKED,
        "INSERT OR IGNORE INTO stock VALUES ('x', 1, NULL), ('new', 2, NULL)",
        &[r#"INSERT stock new code="new" count=2"#],
    );
    check(
        STOCKED,
        "REPLACE INTO stock VALUES ('x', 1, NULL)",
        &["DELETE stock x", r#"INSERT stock x code="x" count=1"#],
    );
    check(
        "CREATE UNIQUE INDEX one_count ON stock (count); INSERT INTO stock VALUES ('x', 7, 'old'), ('y', 8, NULL)",
        "INSERT OR REPLACE INTO stock VALUES ('z', 7, NULL)",
        &["DELETE stock x", r#"INSERT stock z code="z" count=7"#],
    );
}

#[test]
fn a_statement_that_fails_halfway_captures_nothing() {
    let duplicate = |db: &crate::LocalDb| {
        db.execute(
            "INSERT INTO stock VALUES ('a', 1, NULL), ('there', 1, NULL)",
            [],
        )
        .map(drop)
    };
    check_refused(duplicate, "UNIQUE constraint failed: stock.code");
    let second = |db: &crate::LocalDb| {
        db.execute_batch(
            "INSERT INTO stock VALUES ('a', 1, NULL); UPDATE stock SET no_such_column = 1",
        )
    };
    check_refused(second, "no_such_column");
    let closure = |db: &crate::LocalDb| {
        db.transaction(|edit| {
            edit.execute("DELETE FROM stock", [])?;
            Err(ClientError::ReadOnly)
        })
    };
    check_refused(closure, "ReadOnly");
}

#[test]
fn or_fail_keeps_what_came_before_the_failure() {
    let db = db();
    db.execute("INSERT INTO stock VALUES ('b', 1, NULL)", [])
        .unwrap();
    db.transaction(|edit| {
        let failed = edit.execute(
            "INSERT OR FAIL INTO stock VALUES ('a', 1, NULL), ('b', 2, NULL), ('c', 3, NULL)",
            [],
        );
        assert!(failed.is_err());
        Ok::<(), ClientError>(())
    })
    .unwrap();
    assert_eq!(shown(&db)[1..], [r#"INSERT stock a code="a" count=1"#]);
}

#[test]
fn savepoints_take_back_what_they_captured() {
    check(
        MILK,
        "SAVEPOINT one; UPDATE todos SET n = 2; SAVEPOINT two; UPDATE todos SET n = 3; ROLLBACK TO two;
         RELEASE one; UPDATE todos SET title = 'tea'",
        &["UPDATE todos r n=2", r#"UPDATE todos r title="tea""#],
    );
}

#[test]
fn what_is_not_tracked_is_not_captured() {
    check(
        "CREATE TABLE mine (a); CREATE VIEW milk AS SELECT * FROM todos WHERE title = 'milk'",
        "INSERT INTO mine VALUES (1); UPDATE mine SET a = 2; DELETE FROM mine",
        &[],
    );
}

#[test]
fn full_text_search_over_a_tracked_table_goes_along() {
    let db = db();
    db.migrate(&[
        "CREATE VIRTUAL TABLE words USING fts5 (title, content = 'todos');
         CREATE TRIGGER words_in AFTER INSERT ON todos BEGIN
             INSERT INTO words (rowid, title) VALUES (NEW.rowid, NEW.title); END;
         CREATE TRIGGER words_out AFTER DELETE ON todos BEGIN
             INSERT INTO words (words, rowid, title) VALUES ('delete', OLD.rowid, OLD.title); END;
         CREATE TRIGGER words_on AFTER UPDATE OF title ON todos BEGIN
             INSERT INTO words (words, rowid, title) VALUES ('delete', OLD.rowid, OLD.title);
             INSERT INTO words (rowid, title) VALUES (NEW.rowid, NEW.title); END;",
    ])
    .unwrap();
    db.execute_batch("INSERT INTO todos (row_id, title) VALUES ('r', 'buy milk'), ('s', 'buy tea'); UPDATE todos SET title = 'drink tea' WHERE row_id = 's'")
        .unwrap();
    let found = db
        .query("SELECT todos.row_id FROM words JOIN todos ON todos.rowid = words.rowid WHERE words MATCH 'buy'", [])
        .unwrap();
    assert_eq!(found.rows, [[crate::SqlValue::Text("r".to_owned())]]);
    assert_eq!(shown(&db).len(), 3);
}

#[test]
fn a_query_reads_and_nothing_else() {
    let db = db();
    db.execute_batch(MILK).unwrap();
    for sql in [
        "DELETE FROM todos",
        "BEGIN",
        "DELETE FROM todos RETURNING n",
        "CREATE TABLE x (a)",
        "",
    ] {
        assert!(db.query(sql, []).is_err(), "{sql}");
    }
    let rows = db
        .query("SELECT row_id, n + ?1 AS m FROM todos", [41])
        .unwrap();
    assert_eq!(rows.columns, ["row_id", "m"]);
    assert_eq!(
        rows.rows,
        [[
            crate::SqlValue::Text("r".to_owned()),
            crate::SqlValue::Integer(42)
        ]]
    );
}

#[test]
fn returning_is_allowed_where_nobody_reads_it() {
    check(
        "",
        "INSERT INTO todos (row_id) VALUES ('r') RETURNING row_id",
        &["INSERT todos r"],
    );
    let db = db();
    assert_eq!(
        db.execute("INSERT INTO todos (n) VALUES (1), (2) RETURNING n", [])
            .unwrap(),
        2
    );
    assert_eq!(shown(&db).len(), 2);
}

#[test]
fn many_changes_in_one_transaction_stay_in_order() {
    let db = db();
    db.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
         INSERT INTO todos (row_id, n) SELECT printf('%05d', n), n FROM n",
        [],
    )
    .unwrap();
    let ids: Vec<String> = super::sealed(&db, 0)
        .iter()
        .map(|(_, delta)| delta.row_id.to_string())
        .collect();
    assert_eq!(ids.len(), 3_000);
    assert!(ids.is_sorted());
}
