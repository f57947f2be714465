//! What rules must not get wrong, one history each.
//!
//! **Invariant checked:** a row is shown to whom the rules show it, after whatever happened to log and database.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakesync_proto::{
    ClientId, Cursor, DeltaId, DeltaKey, ErrorCode, Op, Outcome, Push, RowDelta, Seq,
    TableDefinition, TableName,
};
use rusqlite::Connection;

use super::scene::{
    MINE, Place, client, delta, gone, heard, pull, push, refusal, set, start, table, who,
};
use crate::auth::Role;
use crate::config::DeltaIds;
use crate::filter::{Asking, Form};
use crate::pull::{Pull, Since};

#[tokio::test(flavor = "multi_thread")]
async fn write_rules_look_at_the_row_as_it_was_and_as_it_would_be() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let (ana, bo) = (client("ana"), client("bo"));
    let own = vec![delta("ana", ("r", 0), Some("ana"), 1)];
    push(&gateway, &ana, own).await.unwrap();
    // Not a row of hers after; not a row of his before; in one push, behind deltas that are fine.
    let away = vec![delta("ana", ("r", 1), Some("bo"), 2)];
    let error = refusal(push(&gateway, &ana, away).await);
    assert_eq!((error.code, error.index), (ErrorCode::Forbidden, Some(0)));
    let mixed = vec![
        delta("bo", ("q", 1), Some("bo"), 1),
        delta("bo", ("r", 1), Some("bo"), 2),
    ];
    let error = refusal(push(&gateway, &bo, mixed).await);
    assert_eq!((error.code, error.index), (ErrorCode::Forbidden, Some(1)));
    let error = refusal(push(&gateway, &bo, vec![gone("bo", "r", 1)]).await);
    assert_eq!(error.code, ErrorCode::Forbidden);
    // Nothing of a refused push is left behind, in the ledger either: the row is free.
    let free = vec![delta("ana", ("q", 2), Some("ana"), 1)];
    push(&gateway, &ana, free).await.unwrap();
    push(&gateway, &ana, vec![gone("ana", "r", 2)])
        .await
        .unwrap();
    let admin = who("root", Role::Admin);
    let any = vec![delta("bo", ("q", 3), Some("bo"), 2)];
    push(&gateway, &admin, any).await.unwrap();
    let none = vec![delta("bo", ("q", 4), None, 2)];
    assert!(
        push(&gateway, &ana, none.clone()).await.is_err(),
        "another's client id"
    );
    push(&gateway, &bo, none).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_there_is_deleted_by_those_who_could_delete_it_last() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let (ana, bo) = (client("ana"), client("bo"));
    let forbidden = |result| {
        let error = refusal(result);
        assert_eq!((error.code, error.index), (ErrorCode::Forbidden, Some(0)));
    };
    // Stamped a little ahead, it would hide the row that ana is about to make.
    forbidden(push(&gateway, &bo, vec![gone("bo", "r", 900)]).await);
    let steps = vec![
        delta("ana", ("r", 0), Some("ana"), 1),
        gone("ana", "r", 1),
        gone("ana", "r", 2),
    ];
    push(&gateway, &ana, steps).await.unwrap();
    // A write below the DELETE is no row of his.
    let hidden = vec![delta("bo", ("r", 0), Some("bo"), 1)];
    push(&gateway, &bo, hidden).await.unwrap();
    forbidden(push(&gateway, &bo, vec![gone("bo", "r", 900)]).await);
    drop(gateway);
    let gateway = place.open().await;
    forbidden(push(&gateway, &bo, vec![gone("bo", "r", 900)]).await);
    push(&gateway, &ana, vec![gone("ana", "r", 3)])
        .await
        .unwrap();
    push(&gateway, &ana, vec![delta("ana", ("r", 4), Some("ana"), 2)])
        .await
        .unwrap();
    let admin = who("root", Role::Admin);
    push(&gateway, &admin, vec![gone("x", "never", 4)])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_of_one_push_and_of_one_group_see_each_other() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let ana = client("ana");
    let steps = vec![
        delta("ana", ("r", 0), Some("ana"), 1),
        delta("ana", ("r", 1), None, 2),
        gone("ana", "r", 2),
        delta("ana", ("r", 3), Some("ana"), 3),
    ];
    push(&gateway, &ana, steps).await.unwrap();
    let pushing = (0..20_u64).map(|n| {
        let (gateway, ana) = (Arc::clone(&gateway), ana.clone());
        let update = delta("ana", ("r", 10 + n), None, 4);
        tokio::spawn(async move { push(&gateway, &ana, vec![update]).await.map(drop) })
    });
    for pushed in pushing.collect::<Vec<_>>() {
        pushed.await.unwrap().unwrap();
    }
    let page = pull(&gateway, &ana, Since::Cursor(None)).await.unwrap();
    let seqs: BTreeSet<Seq> = page.deltas.iter().map(|delta| delta.seq).collect();
    assert_eq!(seqs.len(), 24, "none of them was without the row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_leaves_comes_back_whole_and_a_late_delta_moves_it_as_an_early_one() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let (ana, admin) = (client("ana"), who("root", Role::Admin));
    let rows = vec![
        delta("x", ("r", 0), Some("ana"), 1),
        delta("x", ("r", 5), Some("bo"), 2),
    ];
    push(&gateway, &admin, rows).await.unwrap();
    let page = pull(&gateway, &ana, Since::Cursor(None)).await.unwrap();
    assert_eq!(heard(&page), ["+r", "-r"]);
    assert_eq!(
        page.removed.len(),
        1,
        "a native client drops it without a tombstone"
    );
    let cursor = Since::Cursor(page.notes.next);
    let legacy = start(&gateway);
    // Stamped before the row left: it changes nothing that she sees.
    push(&gateway, &admin, vec![delta("x", ("r", 3), Some("ana"), 3)])
        .await
        .unwrap();
    let page = pull(&gateway, &ana, cursor.clone()).await.unwrap();
    assert_eq!(heard(&page), [""; 0]);
    push(&gateway, &admin, vec![delta("x", ("r", 6), Some("ana"), 4)])
        .await
        .unwrap();
    let page = pull(&gateway, &ana, cursor).await.unwrap();
    assert_eq!(heard(&page), ["+r"]);
    assert_eq!(page.deltas[0].delta.columns.len(), 2, "the row comes whole");
    let page = pull(&gateway, &ana, legacy).await.unwrap();
    assert_eq!(page.deltas.last().unwrap().delta.op, Op::Insert);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_has_its_rules_again_and_shows_nothing_before() {
    let place = Place::new();
    let admin = who("root", Role::Admin);
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let rows = vec![
        delta("x", ("a", 0), Some("ana"), 1),
        delta("x", ("b", 0), Some("bo"), 1),
    ];
    push(&gateway, &admin, rows).await.unwrap();
    gateway.flush(None).await.unwrap();
    let old = pull(&gateway, &client("ana"), Since::Cursor(None))
        .await
        .unwrap();
    drop(gateway);
    for suffix in ["", "-wal", "-shm"] {
        let mut name = place.database().into_os_string();
        name.push(suffix);
        drop(std::fs::remove_file(Path::new(&name)));
    }
    let gateway = place.open().await;
    assert_eq!(gateway.rules().version(), 1);
    let ana = client("ana");
    let error = refusal(pull(&gateway, &ana, Since::Cursor(old.notes.next)).await);
    assert_eq!(error.code, ErrorCode::CursorExpired);
    assert_eq!(error.details["checkpoint"], "/v1/sync/g/checkpoint");
    let page = pull(&gateway, &ana, Since::Seq(Seq::ZERO)).await.unwrap();
    assert_eq!(heard(&page), ["+a"]);
    let legacy = start(&gateway);
    push(&gateway, &admin, vec![delta("x", ("b", 1), None, 2)])
        .await
        .unwrap();
    let page = pull(&gateway, &ana, legacy.clone()).await.unwrap();
    assert_eq!(
        heard(&page),
        [""; 0],
        "the row of before is known to be another's"
    );
    let page = pull(&gateway, &client("bo"), legacy).await.unwrap();
    assert_eq!(heard(&page), ["+b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_claims_reload_the_tables_that_ask_for_them_and_nothing_else() {
    let place = Place::new();
    let gateway = place.open().await;
    table(&gateway, "u").await;
    let both = r#"{"version": 4, "buckets": [{"name": "mine", "tables": ["t"],
        "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}]}, {"name": "all", "tables": ["u"]}]}"#;
    assert_eq!(set(&gateway, both).await.unwrap(), 4);
    assert_eq!(
        set(&gateway, both).await.unwrap(),
        4,
        "the same rules are no change"
    );
    let page = pull(&gateway, &client("ana"), Since::Cursor(None))
        .await
        .unwrap();
    let cursor = page.notes.next.unwrap();
    let mut other = client("bo");
    other.subject = Some(ClientId::parse("ana").unwrap());
    let error = refusal(pull(&gateway, &other, Since::Cursor(Some(cursor.clone()))).await);
    assert_eq!(error.details["tables"], serde_json::json!(["t"]));
    let next: Cursor = error.details["cursor"].as_str().unwrap().parse().unwrap();
    assert_eq!((next.seq, &next.epoch), (cursor.seq, &cursor.epoch));
    pull(&gateway, &other, Since::Cursor(Some(next)))
        .await
        .unwrap();
    assert_eq!(
        set(&gateway, MINE).await.unwrap(),
        5,
        "a version is never used again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_began_before_there_were_rules_is_not_served_by_none() {
    let place = Place::new();
    let gateway = place.open().await;
    let (ana, admin) = (client("ana"), who("root", Role::Admin));
    let secret = vec![delta("x", ("b", 0), Some("bo"), 1)];
    push(&gateway, &admin, secret).await.unwrap();
    let before = gateway.audience(&ana);
    assert!(before.is_everything() && !before.is_free());
    set(&gateway, MINE).await.unwrap();
    let ask = |since| Pull {
        since,
        limit: 100,
        schemas: None,
    };
    for since in [Since::Seq(Seq::ZERO), Since::Cursor(None)] {
        let error = refusal(gateway.pull_as(&ask(since), &before).await);
        assert_eq!(error.code, ErrorCode::BackpressureError);
    }
    let error = refusal(gateway.sight(&before));
    assert_eq!(error.code, ErrorCode::BackpressureError);
    let late = Push {
        client_id: ClientId::parse("ana").unwrap(),
        deltas: vec![delta("ana", ("b", 1), None, 2)],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    let error = refusal(gateway.push_as(late, &before).await);
    assert_eq!(error.code, ErrorCode::BackpressureError);
    // Those whom no rule ever binds go on.
    let free = gateway.audience(&admin);
    let page = gateway.pull_as(&ask(Since::Seq(Seq::ZERO)), &free).await;
    assert_eq!(heard(&page.unwrap()), ["+b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stretch_of_others_rows_moves_the_cursor_on() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let admin = who("root", Role::Admin);
    let others = (0..50_u64).map(|n| delta("x", ("r", n), Some("bo"), 1));
    push(&gateway, &admin, others.collect()).await.unwrap();
    push(
        &gateway,
        &admin,
        vec![delta("x", ("mine", 0), Some("ana"), 1)],
    )
    .await
    .unwrap();
    let audience = gateway.audience(&client("ana"));
    let asking = Asking {
        audience: &audience,
        ruling: gateway.ruling(),
        form: Form::Native,
        client: None,
        scan_deltas_max: 20,
    };
    let mut since = Seq::ZERO;
    for looked_at in [20, 40] {
        let page = gateway.filtered(&asking, since, 10).await.unwrap();
        assert!(page.deltas.is_empty() && page.complete_to < page.visible);
        assert_eq!(page.complete_to.as_u64(), looked_at);
        since = page.complete_to;
    }
    let page = gateway.filtered(&asking, since, 10).await.unwrap();
    assert_eq!(page.deltas.len(), 1);
    assert_eq!(page.complete_to, page.visible);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_push_skips_what_its_client_does_not_see() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let (ana, bo) = (client("ana"), client("bo"));
    let of = |sub: &str, row: &str, at| delta(sub, (row, at), Some(sub), 1);
    push(&gateway, &bo, vec![of("bo", "b", 0)]).await.unwrap();
    let ack = push(&gateway, &ana, vec![of("ana", "a", 0)]).await.unwrap();
    assert_eq!(ack.cursor.as_u64(), 2, "neither hers nor another's is news");
    assert_eq!(ack.notes.next, None);
    let admin = who("root", Role::Admin);
    push(&gateway, &admin, vec![delta("x", ("b", 1), Some("ana"), 2)])
        .await
        .unwrap();
    let ack = push(&gateway, &ana, vec![of("ana", "c", 1)]).await.unwrap();
    assert_eq!(ack.cursor.as_u64(), 2, "a row came into her sight");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_that_a_row_of_its_own_making_is_not_for_it() {
    let place = Place::new();
    let gateway = place.open().await;
    let hidden =
        r#"{"version": 1, "buckets": [{"name": "approved", "tables": ["t"], "where": "v > 10"}]}"#;
    set(&gateway, hidden).await.unwrap();
    let ana = client("ana");
    push(&gateway, &ana, vec![delta("ana", ("r", 0), None, 1)])
        .await
        .unwrap();
    let page = pull(&gateway, &ana, Since::Cursor(None)).await.unwrap();
    assert_eq!(heard(&page), ["-r"]);
    let page = pull(&gateway, &client("bo"), Since::Cursor(None))
        .await
        .unwrap();
    assert_eq!(heard(&page), [""; 0], "nobody else is told of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_decides_cannot_be_dropped_and_a_new_table_is_ruled() {
    let place = Place::new();
    let gateway = place.open().await;
    let all = r#"{"version": 1, "buckets": [{"name": "mine",
        "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}]}]}"#;
    set(&gateway, all).await.unwrap();
    let dropped = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;
    let without: TableDefinition = serde_json::from_str(dropped).unwrap();
    let error = refusal(gateway.put_schema(&without).await);
    assert_eq!(error.code, ErrorCode::SchemaConflict);
    table(&gateway, "later").await;
    let of_later = |owner: &str, row: &str| {
        let made = delta("x", (row, 0), Some(owner), 1);
        let table = TableName::parse("later").unwrap();
        RowDelta::new(
            Op::Insert,
            DeltaKey {
                table,
                ..made.key()
            },
            made.columns,
        )
    };
    let admin = who("root", Role::Admin);
    let rows = vec![of_later("ana", "a"), of_later("bo", "b")];
    push(&gateway, &admin, rows).await.unwrap();
    let page = pull(&gateway, &client("ana"), Since::Cursor(None))
        .await
        .unwrap();
    assert_eq!(heard(&page), ["+a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_ids_name_one_content_wherever_the_first_one_is() {
    let mut place = Place::new();
    place.config.delta_ids = DeltaIds::Accept;
    place.config.pull_window = Duration::ZERO;
    let gateway = place.open().await;
    let ana = client("ana");
    let named = |mut delta: RowDelta| {
        delta.delta_id = DeltaId::from_bytes([7; 32]);
        delta
    };
    let (first, other) = (
        named(delta("ana", ("r", 0), None, 1)),
        named(delta("ana", ("r", 0), None, 2)),
    );
    let reused = |result| {
        let error = refusal(result);
        assert_eq!(error.code, ErrorCode::DeltaIdReused);
    };
    reused(push(&gateway, &ana, vec![first.clone(), other.clone()]).await);
    push(&gateway, &ana, vec![first.clone()]).await.unwrap();
    reused(push(&gateway, &ana, vec![other.clone()]).await);
    place.clock.advance(1);
    gateway.flush(None).await.unwrap();
    reused(push(&gateway, &ana, vec![other]).await);
    let again = push(&gateway, &ana, vec![first]).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Duplicate(Seq::ZERO.next())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_from_the_future_tells_the_skew_and_one_from_long_ago_is_late() {
    let place = Place::new();
    let gateway = place.open().await;
    let ana = client("ana");
    let error = refusal(push(&gateway, &ana, vec![delta("ana", ("r", 60_000), None, 1)]).await);
    assert_eq!(
        (error.code, &error.details["skewMs"]),
        (ErrorCode::ClockDrift, &60_000.into())
    );
    let old = delta("ana", ("r", 0), None, 1);
    push(&gateway, &ana, vec![old.clone()]).await.unwrap();
    place.clock.advance(31 * 24 * 60 * 60 * 1000);
    let again = push(&gateway, &ana, vec![old]).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Duplicate(Seq::ZERO.next())]);
    let late = refusal(push(&gateway, &ana, vec![delta("ana", ("r", 1), None, 1)]).await);
    assert_eq!(late.code, ErrorCode::LateDelta);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_format_1_is_brought_up_with_all_it_holds() {
    let place = Place::new();
    let gateway = place.open().await;
    let ana = client("ana");
    push(&gateway, &ana, vec![delta("ana", ("r", 0), Some("ana"), 1)])
        .await
        .unwrap();
    drop(gateway);
    let db = Connection::open(place.database()).unwrap();
    db.execute_batch(
        "alter table pushes drop column members; drop table rule_rows; pragma user_version = 1;",
    )
    .unwrap();
    drop(db);
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let page = pull(&gateway, &ana, Since::Seq(Seq::ZERO)).await.unwrap();
    assert_eq!(heard(&page), ["+r"]);
    let error = refusal(pull(&gateway, &ana, Since::Cursor(None)).await);
    assert_eq!(
        error.code,
        ErrorCode::CursorExpired,
        "the rules are younger than the log"
    );
}
