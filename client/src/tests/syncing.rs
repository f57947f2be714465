//! Push, pull and sync, one scenario each; the first ones are named defects of an earlier implementation.

use std::collections::BTreeSet;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value,
};

use super::fake_gateway::{FakeGateway, Fault};
use super::{START_MS, STOCK, TODOS, client, client_id, schema, shown, text};
use crate::transport::{Refusal, Transport};
use crate::{Client, ClientError, ErrorKind, Synced};

fn note(value: &str) -> [(&'static str, Value); 1] {
    [("note", text(value))]
}

fn new_stock(client: &mut Client, code: &str) -> RowDelta {
    client
        .insert("stock", &[("code", text(code)), ("count", Value::Long(0))])
        .unwrap()
}

/// A delta of stock as any client might write it.
fn remote(
    client_id: &ClientId,
    op: Op,
    code: &str,
    hlc: Hlc,
    columns: &[(&str, Value)],
) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("stock").unwrap(),
        row_id: RowId::parse(code).unwrap(),
        client_id: client_id.clone(),
        hlc,
    };
    let change = |(name, value): &(&str, Value)| ColumnChange {
        column: ColumnName::parse(name).unwrap(),
        value: value.clone(),
    };
    RowDelta::new(op, key, columns.iter().map(change).collect())
}

fn arrive(gateway: &FakeGateway, delta: RowDelta) {
    let push = Push {
        client_id: delta.client_id.clone(),
        deltas: vec![delta],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    gateway.push(&push).unwrap();
}

#[test]
fn fifteen_hundred_deltas_behind_all_arrive() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    for n in 0..1_500 {
        new_stock(&mut a, &format!("{n:04}"));
    }
    a.sync(&gateway).unwrap();
    let synced = b.sync(&gateway).unwrap();
    assert_eq!(
        synced,
        Synced {
            acknowledged: 0,
            applied: 1_500
        }
    );
    assert_eq!(b.rows("stock").unwrap(), a.rows("stock").unwrap());
}

#[test]
fn what_others_push_between_a_pull_and_a_push_is_not_skipped() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    a.sync(&gateway).unwrap();
    new_stock(&mut b, "from b");
    b.push(&gateway).unwrap();
    new_stock(&mut a, "from a");
    let before = a.cursor().unwrap();
    a.push(&gateway).unwrap();
    assert_eq!(a.cursor().unwrap(), before, "a push answer moves no cursor");
    a.sync(&gateway).unwrap();
    assert_eq!(a.rows("stock").unwrap().len(), 2);
    assert_eq!(a.cursor().unwrap().as_u64(), 2);
}

#[test]
fn own_inserts_that_come_back_change_nothing() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    new_stock(&mut a, "x");
    a.push(&gateway).unwrap();
    a.update("stock", "x", &note("newer than the echo"))
        .unwrap();
    new_stock(&mut b, "y");
    b.sync(&gateway).unwrap();
    a.pull(&gateway).unwrap();
    assert_eq!(
        shown(&a, "stock"),
        r#"x: code="x", count=0, note="newer than the echo"; y: code="y", count=0"#
    );
    assert_eq!(
        a.pending().unwrap(),
        1,
        "the pending edit is still to be sent, and nothing is echoed"
    );
}

#[test]
fn an_update_of_a_row_that_is_not_here_makes_it() {
    let gateway = FakeGateway::default();
    let hlc = Hlc::new(START_MS, 0).unwrap();
    arrive(
        &gateway,
        remote(&client_id("b"), Op::Update, "x", hlc, &note("only this")),
    );
    let (mut a, _) = client("a");
    a.sync(&gateway).unwrap();
    assert_eq!(shown(&a, "stock"), r#"x: code="x", note="only this""#);
}

#[test]
fn a_lost_reply_is_answered_by_the_same_deltas_and_they_count_once() {
    let gateway = FakeGateway::default();
    let (mut a, _) = client("a");
    new_stock(&mut a, "x");
    for fault in [Fault::LostRequest, Fault::LostReply] {
        gateway.with_faults([fault]);
        let error = a.push(&gateway).unwrap_err();
        assert_eq!(
            (error.kind(), a.pending().unwrap()),
            (ErrorKind::Retryable, 1)
        );
    }
    assert_eq!(a.push(&gateway).unwrap().acknowledged, 1);
    assert_eq!((a.pending().unwrap(), gateway.log().len()), (0, 1));
}

#[test]
fn a_refused_push_keeps_its_edits_names_the_bad_one_and_lets_others_edits_in() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    new_stock(&mut b, "from b");
    b.sync(&gateway).unwrap();
    new_stock(&mut a, "good");
    let bad = new_stock(&mut a, "bad");
    let refusal = Refusal {
        status: 409,
        code: "CLOCK_DRIFT".to_owned(),
        message: "delta 1 is stamped 3600 s ahead".to_owned(),
        index: Some(1),
        request_id: None,
        retry_after: None,
    };
    gateway.refuse(Some(refusal.clone()));
    let error = a.sync(&gateway).unwrap_err();
    assert!(
        error.to_string().contains("bad") && error.to_string().contains("CLOCK_DRIFT"),
        "{error}"
    );
    let ClientError::PushRefused {
        refusal: said,
        refused: Some(refused),
    } = error
    else {
        panic!("another error");
    };
    assert_eq!((*said, refused.delta_id), (refusal, bad.delta_id));
    assert_eq!(a.pending().unwrap(), 2);
    assert!(shown(&a, "stock").contains("from b"));
    gateway.refuse(None);
    a.sync(&gateway).unwrap();
    assert_eq!((a.pending().unwrap(), gateway.log().len()), (0, 3));
}

#[test]
fn a_busy_gateway_is_asked_again() {
    let gateway = FakeGateway::default();
    let (mut a, _) = client("a");
    new_stock(&mut a, "x");
    gateway.refuse(Some(Refusal {
        status: 503,
        code: "BACKPRESSURE_ERROR".to_owned(),
        message: "busy".to_owned(),
        index: None,
        request_id: None,
        retry_after: None,
    }));
    assert!(a.sync(&gateway).unwrap_err().is_retryable());
    assert_eq!(a.pending().unwrap(), 1);
}

#[test]
fn a_replaced_log_is_read_from_its_start() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    for code in ["1", "2", "3"] {
        new_stock(&mut a, code);
        a.sync(&gateway).unwrap();
        b.sync(&gateway).unwrap();
    }
    new_stock(&mut a, "4");
    a.push(&gateway).unwrap();
    gateway.replace_log();
    // Behind the old cursor of 3 the new log has one delta, and it is an old one.
    let synced = b.sync(&gateway).unwrap();
    assert_eq!((synced.applied, b.rows("stock").unwrap().len()), (4, 4));
    new_stock(&mut a, "5");
    a.push(&gateway).unwrap();
    assert_eq!(
        a.cursor().unwrap(),
        Seq::ZERO,
        "a push answer tells of it as well"
    );
    a.sync(&gateway).unwrap();
    assert_eq!(a.cursor().unwrap().as_u64(), 5);
}

#[test]
fn an_edit_is_stamped_above_what_it_has_seen_within_the_drift_bound() {
    let gateway = FakeGateway::default();
    let near = Hlc::new(START_MS + 4_000, 7).unwrap();
    arrive(
        &gateway,
        remote(
            &client_id("b"),
            Op::Insert,
            "x",
            near,
            &[("code", text("x"))],
        ),
    );
    let (mut a, _) = client("a");
    a.sync(&gateway).unwrap();
    let edit = a.update("stock", "x", &note("mine")).unwrap();
    assert!(edit.hlc > near);
    assert!(shown(&a, "stock").contains("mine"));
}

#[test]
fn a_stamp_beyond_the_drift_bound_is_merged_and_teaches_nothing() {
    let gateway = FakeGateway::default();
    let far = Hlc::new(START_MS + 3_600_000, 0).unwrap();
    arrive(
        &gateway,
        remote(
            &client_id("b"),
            Op::Insert,
            "x",
            far,
            &[("code", text("x")), ("note", text("theirs"))],
        ),
    );
    let (mut a, _) = client("a");
    a.sync(&gateway).unwrap();
    let edit = a
        .update(
            "stock",
            "x",
            &[("note", text("mine")), ("count", Value::Long(1))],
        )
        .unwrap();
    assert!(edit.hlc.wall_ms() <= START_MS + 1, "{:?}", edit.hlc);
    assert_eq!(shown(&a, "stock"), r#"x: code="x", count=1, note="theirs""#);
}

#[test]
fn tables_and_columns_of_others_are_fetched_when_they_are_needed() {
    let gateway = FakeGateway::default();
    let (mut a, _) = client("a");
    let notes = schema(r#"{"table": "notes", "columns": [{"name": "body", "type": "string"}]}"#);
    a.register(&notes).unwrap();
    a.insert("notes", &[("body", text("hello"))]).unwrap();
    a.push(&gateway).unwrap();
    let (mut b, _) = client("b");
    let error = b.sync(&gateway).unwrap_err();
    assert!(matches!(error, ClientError::UnknownTable { .. }), "{error}");
    assert_eq!(b.cursor().unwrap(), Seq::ZERO);
    gateway.serve(&[schema(TODOS), schema(STOCK), notes]);
    b.sync(&gateway).unwrap();
    assert_eq!(b.rows("notes").unwrap(), a.rows("notes").unwrap());
}

#[test]
fn a_column_that_even_the_gateways_schema_lacks_is_not_lost_behind_the_cursor() {
    let gateway = FakeGateway::default();
    let hlc = Hlc::new(START_MS, 0).unwrap();
    arrive(
        &gateway,
        remote(
            &client_id("b"),
            Op::Update,
            "x",
            hlc,
            &[("colour", text("red"))],
        ),
    );
    gateway.serve(&[schema(STOCK)]);
    let (mut a, _) = client("a");
    let error = a.sync(&gateway).unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
    assert_eq!(a.cursor().unwrap(), Seq::ZERO);
    let more = STOCK.replace(
        r#""note", "type": "string"}"#,
        r#""note", "type": "string"}, {"name": "colour", "type": "string"}"#,
    );
    gateway.serve(&[schema(STOCK)
        .evolve(&serde_json::from_str(&more).unwrap())
        .unwrap()
        .schema]);
    a.sync(&gateway).unwrap();
    assert_eq!(shown(&a, "stock"), r#"x: code="x", colour="red""#);
}

#[test]
fn a_write_to_a_dropped_column_brings_the_rest_of_its_delta() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    a.insert(
        "stock",
        &[
            ("code", text("x")),
            ("note", text("gone")),
            ("count", Value::Long(3)),
        ],
    )
    .unwrap();
    a.push(&gateway).unwrap();
    let fewer = STOCK.replace(r#", {"name": "note", "type": "string"}"#, "");
    let definition = serde_json::from_str(&fewer).unwrap();
    b.register(&schema(STOCK).evolve(&definition).unwrap().schema)
        .unwrap();
    b.sync(&gateway).unwrap();
    b.update("stock", "x", &[("count", Value::Long(4))])
        .unwrap();
    assert_eq!(shown(&b, "stock"), r#"x: code="x", count=4"#);
}

#[test]
fn a_large_outbox_goes_in_several_pushes_with_what_was_seen() {
    let gateway = FakeGateway::default();
    let ((mut a, _), (mut b, _)) = (client("a"), client("b"));
    new_stock(&mut b, "from b");
    b.sync(&gateway).unwrap();
    a.sync(&gateway).unwrap();
    let large = "x".repeat(900_000);
    for n in 0..5 {
        a.insert(
            "stock",
            &[("code", text(&n.to_string())), ("note", text(&large))],
        )
        .unwrap();
    }
    assert_eq!(a.push(&gateway).unwrap().acknowledged, 5);
    let pushes: Vec<Push> = gateway
        .pushes()
        .into_iter()
        .filter(|push| push.client_id.as_str() == "a")
        .collect();
    assert!(pushes.len() > 1 && pushes.iter().all(|push| push.last_seen.as_u64() == 1));
    let sent: BTreeSet<_> = pushes
        .iter()
        .flat_map(|push| &push.deltas)
        .map(|delta| delta.delta_id)
        .collect();
    assert_eq!((sent.len(), a.pending().unwrap()), (5, 0));
}
