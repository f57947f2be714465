//! Values that SQL can write and no delta can carry, or not in that form.

use super::{START_MS, all_rows, check_refused, db, schema, shown};
use crate::{LocalDb, SqlValue};

const NOTES: &str = r#"{"table": "notes", "columns": [
    {"name": "body", "type": "json"}, {"name": "title", "type": "string"}, {"name": "due", "type": "timestamp"}]}"#;

fn notes() -> LocalDb {
    let db = db();
    db.register(&schema(NOTES)).unwrap();
    db
}

fn one(db: &LocalDb, sql: &str) -> SqlValue {
    db.query(sql, []).unwrap().rows[0][0].clone()
}

#[test]
fn a_constraint_says_which_column_takes_what() {
    check_refused(
        |db| {
            db.execute("UPDATE places SET y = 2", [])
                .map(drop)
                .and_then(|()| {
                    db.execute("INSERT INTO places VALUES (1, 'x', 2)", [])
                        .map(drop)
                })
        },
        "column y of places takes 0 or 1",
    );
    let db = notes();
    let error = db
        .execute("INSERT INTO notes (due) VALUES ('tomorrow')", [])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "column due of notes takes RFC 3339 in UTC with microseconds, like 2026-01-31T09:30:00.000000Z"
    );
    let error = db
        .execute("INSERT INTO todos (n) VALUES ('one')", [])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "column n of todos takes INTEGER, not TEXT"
    );
}

#[test]
fn json_is_put_into_its_normal_form() {
    let db = notes();
    db.execute_batch(
        r#"INSERT INTO notes (row_id, body) VALUES ('r', '{"b": 1.0, "a" : [ ]}'), ('s', ' null '), ('t', '[1, 2]');
           UPDATE notes SET body = '[1,2,3]' WHERE row_id = 't'"#,
    )
    .unwrap();
    assert_eq!(
        shown(&db),
        [
            r#"INSERT notes r body={"a":[],"b":1}"#,
            "INSERT notes s body=null",
            "INSERT notes t body=[1,2]",
            "UPDATE notes t body=[1,2,3]",
        ]
    );
    assert_eq!(
        one(&db, "SELECT body FROM notes WHERE row_id = 'r'"),
        SqlValue::Text(r#"{"a":[],"b":1}"#.to_owned())
    );
    assert_eq!(
        one(&db, "SELECT body FROM notes WHERE row_id = 's'"),
        SqlValue::Null
    );
    assert_eq!(
        one(&db, "SELECT body FROM notes WHERE row_id = 't'"),
        SqlValue::Text("[1,2,3]".to_owned())
    );
    let again = shown(&db).len();
    db.execute("UPDATE notes SET body = body", []).unwrap();
    assert_eq!(shown(&db).len(), again, "the normal form is not an edit");
}

#[test]
fn a_value_that_nobody_can_read_is_a_dead_letter_and_the_row_falls_back() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (column, value) in [
        ("title", "CAST(x'ff41' AS TEXT)".to_owned()),
        ("title", "printf('%4194305s', 'x')".to_owned()),
        ("body", format!("'{deep}'")),
        ("body", "'1e999'".to_owned()),
    ] {
        let db = notes();
        db.execute_batch("INSERT INTO notes (row_id, title, body) VALUES ('r', 'fine', '[1]')")
            .unwrap();
        let known = shown(&db);
        db.execute(
            &format!("UPDATE notes SET {column} = {value}, due = '2026-01-31T09:30:00.000000Z'"),
            [],
        )
        .unwrap();
        db.execute(
            &format!("INSERT INTO notes (row_id, {column}) VALUES ('new', {value})"),
            [],
        )
        .unwrap();
        db.execute(
            "INSERT INTO notes (row_id, title) VALUES ('next', 'fine')",
            [],
        )
        .unwrap();
        assert_eq!(
            shown(&db)[known.len()..],
            [r#"INSERT notes next title="fine""#],
            "{column}"
        );
        let rows = db
            .query(
                "SELECT row_id, title, body, due FROM notes ORDER BY row_id",
                [],
            )
            .unwrap()
            .rows;
        let text = |text: &str| SqlValue::Text(text.to_owned());
        assert_eq!(
            rows,
            [
                [text("next"), text("fine"), SqlValue::Null, SqlValue::Null],
                [text("r"), text("fine"), text("[1]"), SqlValue::Null],
            ],
            "{column}"
        );
        let dead = db.dead_letters(10).unwrap();
        assert_eq!(dead.len(), 2);
        assert_eq!(
            (dead[0].row_id.as_str(), dead[1].row_id.as_str()),
            ("r", "new")
        );
        assert!(
            dead[0].reason.message.contains(&format!("column {column}")),
            "{dead:?}"
        );
        assert!(dead[0].captured.as_ref().unwrap().len() < 4_000);
        assert_eq!(dead[0].reason.at_ms, START_MS);
    }
}

#[test]
fn a_row_that_can_have_no_row_id_is_a_dead_letter() {
    let db = db();
    let wide = r#"{"table": "wide", "primaryKey": ["a", "b"], "columns": [
        {"name": "a", "type": "string"}, {"name": "b", "type": "string"}, {"name": "v", "type": "long"}]}"#;
    db.register(&schema(wide)).unwrap();
    db.execute_batch(
        "INSERT INTO wide VALUES (printf('%600s', 'x'), printf('%600s', 'y'), 1), ('x', 'y', 2);
         UPDATE wide SET v = v + 1;
         INSERT INTO stock (code) VALUES (CAST(x'ff' AS TEXT)), ('fine');",
    )
    .unwrap();
    assert_eq!(
        shown(&db),
        [
            r#"INSERT wide ["x","y"] a="x" b="y" v=2"#,
            r#"UPDATE wide ["x","y"] v=3"#,
            r#"INSERT stock fine code="fine""#
        ]
    );
    assert_eq!(one(&db, "SELECT count(*) FROM wide"), SqlValue::Integer(1));
    assert_eq!(one(&db, "SELECT count(*) FROM stock"), SqlValue::Integer(1));
    assert_eq!(db.dead_letters(10).unwrap().len(), 3);
    // Away from a key, and back to one.
    db.execute("UPDATE stock SET code = CAST(x'ff' AS TEXT)", [])
        .unwrap();
    assert_eq!(shown(&db).len(), 3);
    assert_eq!(
        one(&db, "SELECT code FROM stock"),
        SqlValue::Text("fine".to_owned())
    );
    db.execute_batch(
        "UPDATE stock SET code = CAST(x'ff' AS TEXT); UPDATE stock SET code = 'good', count = 5",
    )
    .unwrap();
    assert_eq!(
        shown(&db)[3..],
        [r#"INSERT stock good code="good" count=5"#]
    );
    assert_eq!(all_rows(&db)[1].rows.len(), 2);
}
