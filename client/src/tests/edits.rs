//! Local edits: what they leave behind, and what a refused one leaves untouched.

use lakesync_proto::{Decimal, Op, RowDelta, Value};

use super::{START_MS, client, plain, schema, shown, text};
use crate::{Client, ClientError, SqlValue};

#[test]
fn an_edit_shows_at_once_and_waits_in_the_outbox() {
    let (mut client, _) = client("a");
    let inserted = client
        .insert("todos", &[("title", text("milk")), ("n", Value::Long(1))])
        .unwrap();
    let row = inserted.row_id.as_str();
    let updated = client
        .update(
            "todos",
            row,
            &[("n", Value::Null), ("done", Value::Boolean(true))],
        )
        .unwrap();
    assert_eq!(
        shown(&client, "todos"),
        format!("{row}: done=true, n=null, title=\"milk\"")
    );
    assert_eq!(client.outbox().unwrap(), [inserted, updated]);
    let found = client.query("SELECT title, done, n FROM todos").unwrap();
    assert_eq!(
        found.rows,
        [[
            SqlValue::Text("milk".to_owned()),
            SqlValue::Integer(1),
            SqlValue::Null
        ]]
    );
}

#[test]
fn a_delete_removes_the_row_and_a_new_insert_starts_empty() {
    let (mut client, _) = client("a");
    client
        .insert(
            "stock",
            &[
                ("code", text("x")),
                ("count", Value::Long(1)),
                ("note", text("old")),
            ],
        )
        .unwrap();
    client.delete("stock", "x").unwrap();
    assert_eq!(shown(&client, "stock"), "");
    client.insert("stock", &[("code", text("x"))]).unwrap();
    assert_eq!(shown(&client, "stock"), "x: code=\"x\"");
    let ops: Vec<Op> = client
        .outbox()
        .unwrap()
        .iter()
        .map(|delta| delta.op)
        .collect();
    assert_eq!(ops, [Op::Insert, Op::Delete, Op::Insert]);
}

#[test]
fn stamps_rise_whatever_the_wall_clock_does() {
    let (mut client, clock) = client("a");
    let mut deltas: Vec<RowDelta> = Vec::new();
    for now_ms in [START_MS, START_MS, START_MS - 60_000, 0, START_MS + 1] {
        clock.set(now_ms);
        deltas.push(client.insert("todos", &[]).unwrap());
    }
    assert!(
        deltas.windows(2).all(|pair| pair[0].hlc < pair[1].hlc),
        "{deltas:?}"
    );
}

#[test]
fn new_rows_without_a_key_get_different_uuids_of_version_7() {
    let (mut client, _) = client("a");
    let (mut other, _) = super::client("b");
    let mut ids = Vec::new();
    for client in [&mut client, &mut other] {
        ids.push(client.insert("todos", &[]).unwrap().row_id.to_string());
        ids.push(client.insert("todos", &[]).unwrap().row_id.to_string());
    }
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
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_key_names_the_row() {
    let (mut client, _) = client("a");
    let two_keys = r#"{"table": "two", "primaryKey": ["a", "b"], "columns": [
        {"name": "a", "type": "string"}, {"name": "b", "type": "long"}]}"#;
    client.register(&schema(two_keys)).unwrap();
    let delta = client
        .insert("two", &[("b", Value::Long(7)), ("a", text("x"))])
        .unwrap();
    assert_eq!(delta.row_id.as_str(), r#"["x",7]"#);
}

/// The edit fails by that error and leaves neither a row nor an outbox entry.
fn check_refused(
    edit: impl Fn(&mut Client) -> Result<RowDelta, ClientError>,
    is_expected: impl Fn(&ClientError) -> bool,
) {
    let (mut client, _) = client("a");
    client
        .insert(
            "stock",
            &[("code", text("there")), ("count", Value::Long(1))],
        )
        .unwrap();
    let before = (
        plain(&client, "stock"),
        plain(&client, "todos"),
        client.pending().unwrap(),
    );
    let error = edit(&mut client).unwrap_err();
    assert!(is_expected(&error), "{error:?}");
    assert_eq!(
        (
            plain(&client, "stock"),
            plain(&client, "todos"),
            client.pending().unwrap()
        ),
        before
    );
}

#[test]
fn a_refused_edit_leaves_nothing_behind() {
    let is_check = |error: &ClientError| matches!(error, ClientError::Check { .. });
    check_refused(
        |c| c.insert("nowhere", &[]),
        |e| matches!(e, ClientError::UnknownTable { .. }),
    );
    check_refused(
        |c| c.insert("no table", &[]),
        |e| matches!(e, ClientError::Name(_)),
    );
    check_refused(
        |c| c.insert("stock", &[("code", text("there"))]),
        |e| matches!(e, ClientError::RowExists { .. }),
    );
    check_refused(
        |c| c.update("stock", "gone", &[]),
        |e| matches!(e, ClientError::RowMissing { .. }),
    );
    check_refused(
        |c| c.delete("stock", "gone"),
        |e| matches!(e, ClientError::RowMissing { .. }),
    );
    check_refused(|c| c.insert("todos", &[("titel", text("x"))]), is_check);
    check_refused(|c| c.insert("todos", &[("n", text("x"))]), is_check);
    check_refused(
        |c| c.insert("todos", &[("n", Value::Null), ("n", Value::Long(1))]),
        is_check,
    );
    check_refused(
        |c| c.update("stock", "there", &[("code", text("other"))]),
        is_check,
    );
    let no_key =
        |error: &ClientError| matches!(error, ClientError::Key { .. } | ClientError::Check { .. });
    check_refused(|c| c.insert("stock", &[("count", Value::Long(1))]), no_key);
    check_refused(|c| c.insert("stock", &[("code", Value::Null)]), no_key);
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let (mut client, _) = client("a");
    let body = r#"{"table": "t", "columns": [
        {"name": "s", "type": "string"}, {"name": "n", "type": "number"}, {"name": "l", "type": "long"},
        {"name": "b", "type": "boolean"}, {"name": "j", "type": "json"}, {"name": "c", "type": "decimal(10,2)"},
        {"name": "d", "type": "date"}, {"name": "t", "type": "timestamp"}, {"name": "x", "type": "binary"}]}"#;
    client.register(&schema(body)).unwrap();
    let rows = [
        vec![
            ("s", text("0042\u{1}é😀\"")),
            ("n", Value::Number(1.0)),
            ("l", Value::Long(i64::MIN)),
            ("b", Value::Boolean(false)),
            ("j", Value::Json("{\"a\":[1,null]}".to_owned())),
            (
                "c",
                Value::Decimal(Decimal {
                    unscaled: -1,
                    scale: 2,
                }),
            ),
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
            ("n", Value::Number(1e21)),
            ("c", Value::Null),
        ],
        vec![],
    ];
    for values in rows {
        let delta = client.insert("t", &values).unwrap();
        let mut stored: Vec<_> = client
            .rows("t")
            .unwrap()
            .remove(&delta.row_id)
            .unwrap()
            .into_iter()
            .collect();
        let mut wanted: Vec<_> = delta
            .columns
            .iter()
            .map(|c| (c.column.clone(), c.value.clone()))
            .collect();
        stored.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(stored, wanted);
        assert_eq!(
            client.outbox().unwrap().last(),
            Some(&delta),
            "the outbox keeps it as well"
        );
    }
}

#[test]
fn a_query_reads_and_does_nothing_else() {
    let (client, _) = client("a");
    for sql in [
        "DELETE FROM todos",
        "BEGIN",
        "CREATE TABLE t (x)",
        "ATTACH 'x' AS y",
        "PRAGMA user_version = 4",
    ] {
        assert!(
            matches!(client.query(sql), Err(ClientError::ReadOnly)),
            "{sql}"
        );
    }
    assert!(matches!(
        client.query("SELECT 1; DELETE FROM todos"),
        Err(ClientError::Database(_))
    ));
    assert!(matches!(
        client.query("SELECT nothing FROM todos"),
        Err(ClientError::Database(_))
    ));
    assert_eq!(
        client.query("SELECT * FROM todos").unwrap().columns,
        ["row_id", "title", "done", "n"]
    );
}
