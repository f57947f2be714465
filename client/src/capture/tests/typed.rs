//! The typed writes, and how they differ from plain SQL.

use lakesync_proto::{Decimal, Value};

use super::{START_MS, STOCK, all_rows, check_refused, db, opened, schema, shown, text};
use crate::{ClientError, LocalDb};

/// The rows as `row: column=value, …`, columns that were never written left out.
fn rows(db: &LocalDb, table: &str) -> Vec<String> {
    let rows = db.rows(table).unwrap();
    rows.iter()
        .map(|(row_id, values)| {
            let values: Vec<String> = values
                .iter()
                .map(|(column, value)| format!("{column}={}", value.to_json()))
                .collect();
            format!("{row_id}: {}", values.join(", "))
        })
        .collect()
}

#[test]
fn typed_writes_are_captured_like_sql() {
    let db = db();
    let row = db
        .insert("stock", &[("code", text("x")), ("count", Value::Long(1))])
        .unwrap();
    assert_eq!(row, "x");
    db.update(
        "stock",
        "x",
        &[
            ("note", text("new")),
            ("count", Value::Long(1)),
            ("code", text("x")),
        ],
    )
    .unwrap();
    db.update("stock", "x", &[("count", Value::Long(1))])
        .unwrap();
    db.update("stock", "x", &[]).unwrap();
    db.delete("stock", "x").unwrap();
    let two = db
        .insert(
            "places",
            &[("y", Value::Boolean(false)), ("x", Value::Long(7))],
        )
        .unwrap();
    assert_eq!(two, "[7,false]");
    assert_eq!(
        shown(&db),
        [
            r#"INSERT stock x code="x" count=1"#,
            r#"UPDATE stock x note="new""#,
            "DELETE stock x",
            "INSERT places [7,false] x=7 y=false",
        ]
    );
}

#[test]
fn an_explicit_null_is_kept() {
    let db = db();
    let row = db
        .insert("todos", &[("title", Value::Null), ("n", Value::Long(1))])
        .unwrap();
    db.update(
        "todos",
        row.as_str(),
        &[("done", Value::Null), ("n", Value::Null)],
    )
    .unwrap();
    db.insert("stock", &[("code", text("x")), ("note", Value::Null)])
        .unwrap();
    db.update("stock", "x", &[("count", Value::Null)]).unwrap();
    assert_eq!(
        shown(&db),
        [
            format!("INSERT todos {row} title=null n=1"),
            format!("UPDATE todos {row} done=null"),
            format!("UPDATE todos {row} n=null"),
            r#"INSERT stock x code="x" note=null"#.to_owned(),
            "UPDATE stock x count=null".to_owned(),
        ]
    );
    assert_eq!(
        rows(&db, "todos"),
        [format!("{row}: done=null, n=null, title=null")]
    );
    assert_eq!(
        rows(&db, "stock"),
        [r#"x: code="x", count=null, note=null"#]
    );
    db.execute("INSERT INTO stock (code) VALUES ('y')", [])
        .unwrap();
    assert_eq!(rows(&db, "stock")[1..], [r#"y: code="y""#]);
}

#[test]
fn new_rows_without_a_key_get_different_uuids_of_version_7() {
    let db = db();
    let mut ids: Vec<String> = (0..4)
        .map(|_| db.insert("todos", &[]).unwrap().to_string())
        .collect();
    db.transaction(|edit| {
        ids.push(edit.insert("todos", &[])?.to_string());
        ids.push(edit.insert("todos", &[])?.to_string());
        Ok::<(), ClientError>(())
    })
    .unwrap();
    for id in &ids {
        assert_eq!(
            (id.len(), &id[..13], &id[14..15]),
            (36, "018bcfe5-6800", "7"),
            "{id}"
        );
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[test]
fn stamps_rise_whatever_the_wall_clock_does() {
    let clock = std::sync::Arc::new(lakesync_proto::ManualClock::new(START_MS));
    let db = opened(":memory:", &clock);
    for now_ms in [
        START_MS,
        START_MS,
        START_MS - 60_000,
        0,
        u64::MAX,
        START_MS + 1,
    ] {
        clock.set(now_ms);
        db.execute("INSERT INTO todos (n) VALUES (1), (2)", [])
            .unwrap();
        db.insert("todos", &[]).unwrap();
    }
    let deltas = super::sealed(&db, 0);
    assert_eq!(deltas.len(), 18);
    assert!(
        deltas.windows(2).all(|pair| pair[0].1.hlc < pair[1].1.hlc),
        "{deltas:?}"
    );
    assert_eq!(deltas[0].1.hlc.wall_ms(), START_MS);
    assert_eq!(deltas[17].1.hlc.wall_ms(), START_MS + 1);
}

#[test]
fn an_edit_is_stamped_with_its_own_time_and_the_gateways_clock() {
    let clock = std::sync::Arc::new(lakesync_proto::ManualClock::new(START_MS));
    let db = opened(":memory:", &clock);
    db.execute("INSERT INTO todos (n) VALUES (1)", []).unwrap();
    clock.advance(5_000);
    db.execute("INSERT INTO todos (n) VALUES (2)", []).unwrap();
    clock.advance(60_000);
    db.keep(|work| crate::state::set_skew_ms(work.tx, -3_600_000))
        .unwrap();
    let walls: Vec<u64> = super::sealed(&db, 0)
        .iter()
        .map(|(_, delta)| delta.hlc.wall_ms())
        .collect();
    assert_eq!(
        walls,
        [START_MS, START_MS + 5_000],
        "they were sealed before the skew was known"
    );
    db.keep(|work| crate::state::set_clock(work.tx, lakesync_proto::Hlc::ZERO))
        .unwrap();
    db.execute("INSERT INTO todos (n) VALUES (3)", []).unwrap();
    let walls: Vec<u64> = super::sealed(&db, 2)
        .iter()
        .map(|(_, delta)| delta.hlc.wall_ms())
        .collect();
    assert_eq!(walls, [START_MS + 65_000 - 3_600_000]);
}

#[test]
fn a_refused_typed_write_leaves_nothing_behind() {
    let insert = |table: &'static str, values: &'static [(&'static str, i64)]| {
        move |db: &LocalDb| {
            let values: Vec<_> = values
                .iter()
                .map(|(name, n)| (*name, Value::Long(*n)))
                .collect();
            db.insert(table, &values).map(drop)
        }
    };
    check_refused(insert("nowhere", &[]), "UnknownTable");
    check_refused(insert("no table", &[]), "Name(");
    check_refused(insert("todos", &[("titel", 1)]), "UnknownColumn");
    check_refused(insert("todos", &[("title", 1)]), "WrongType");
    check_refused(insert("todos", &[("n", 1), ("n", 2)]), "DuplicateColumn");
    check_refused(insert("stock", &[("count", 1)]), "Key");
    check_refused(insert("places", &[("x", 1)]), "Key");
    check_refused(
        |db| db.insert("stock", &[("code", text("there"))]).map(drop),
        "RowExists",
    );
    check_refused(
        |db| db.insert("stock", &[("code", Value::Null)]).map(drop),
        "Key",
    );
    check_refused(|db| db.update("stock", "gone", &[]), "RowMissing");
    check_refused(|db| db.delete("stock", "gone"), "RowMissing");
    check_refused(
        |db| db.update("stock", "there", &[("code", text("other"))]),
        "KeyDisagrees",
    );
    check_refused(|db| db.update("places", "no key", &[]), "NotAKey");
    check_refused(
        |db| {
            db.insert("todos", &[("title", text(&"x".repeat(4 << 20 | 1)))])
                .map(drop)
        },
        "TooLarge",
    );
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let db = db();
    let body = r#"{"table": "t", "columns": [
        {"name": "s", "type": "string"}, {"name": "n", "type": "number"}, {"name": "l", "type": "long"},
        {"name": "b", "type": "boolean"}, {"name": "j", "type": "json"}, {"name": "c", "type": "decimal(10,2)"},
        {"name": "d", "type": "date"}, {"name": "t", "type": "timestamp"}, {"name": "x", "type": "binary"}]}"#;
    db.register(&schema(body)).unwrap();
    let decimal = |unscaled| Value::Decimal(Decimal { unscaled, scale: 2 });
    let rows = [
        vec![
            ("s", text("0042\u{1}é😀\"")),
            ("n", Value::Number(1.0)),
            ("l", Value::Long(i64::MIN)),
            ("b", Value::Boolean(false)),
            ("j", Value::Json("{\"a\":[1,null]}".to_owned())),
            ("c", decimal(-1)),
            ("d", Value::Date(-1)),
            ("t", Value::Timestamp(-1)),
            ("x", Value::Binary(vec![0, 255])),
        ],
        vec![
            ("n", Value::Number(5e-324)),
            ("j", Value::Json("12".to_owned())),
            ("x", Value::Binary(vec![])),
        ],
        vec![
            ("s", text("")),
            ("n", Value::Number(-0.0)),
            ("c", decimal(9_999_999_999)),
            ("b", Value::Boolean(true)),
        ],
        vec![
            ("n", Value::Number(f64::MAX)),
            ("d", Value::Date(2_932_896)),
            ("s", text("a\0b")),
        ],
    ];
    for row in rows {
        let row_id = db.insert("t", &row).unwrap();
        let found = &db.rows("t").unwrap()[&row_id];
        assert_eq!(found.len(), row.len());
        for (name, value) in &row {
            assert_eq!(found.get(*name), Some(value), "{name}");
        }
    }
}

#[test]
fn registering_again_and_migrating_again_change_nothing() {
    let db = db();
    let scripts = [
        "CREATE INDEX counts ON stock (count)",
        "INSERT INTO stock (code) VALUES ('first')",
    ];
    db.migrate(&scripts[..1]).unwrap();
    db.migrate(&scripts).unwrap();
    db.migrate(&scripts).unwrap();
    db.register(&schema(STOCK)).unwrap();
    assert_eq!(shown(&db), [r#"INSERT stock first code="first""#]);
    let error = db.migrate(&scripts[..1]).unwrap_err();
    assert!(
        matches!(error, ClientError::Migrations { run: 2, known: 1 }),
        "{error}"
    );
    let before = all_rows(&db);
    let three = [scripts[0], scripts[1], "DELETE FROM stock; CREATE NONSENSE"];
    db.migrate(&three).unwrap_err();
    assert_eq!(all_rows(&db), before);
    db.migrate(&scripts).unwrap();
}

#[test]
fn what_a_transaction_touches_is_told() {
    let db = db();
    let touched = |sql: &str| {
        let (_, news) = db
            .local()
            .edit(|work| work.tx.execute_batch(sql).map_err(ClientError::from))
            .unwrap();
        format!("{:?}", news.touched.tables)
    };
    assert_eq!(
        touched(
            "INSERT INTO stock VALUES ('a', 1, NULL), ('b', 2, NULL); UPDATE stock SET code = 'c' WHERE code = 'b'; DELETE FROM todos"
        ),
        r#"{TableName("stock"): Some({RowId("a"), RowId("b"), RowId("c")})}"#
    );
    assert_eq!(
        touched(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 200) INSERT INTO todos (n) SELECT n FROM n"
        ),
        r#"{TableName("todos"): Many}"#
    );
    assert_eq!(touched("SELECT 1"), "{}");
}
