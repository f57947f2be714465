//! What memory has forgotten answers like what it holds, and what an answer holds in memory is bounded.
//!
//! **Invariant checked:** a flush, a trim or a size changes where something is looked up, and never the answer.

use std::sync::Arc;
use std::time::Duration;

use lakesync_proto::{
    ColumnName, DeltaId, ErrorCode, Outcome, RowDelta, Seq, TableDefinition, TableName,
};

use super::scene::{Place, client, delta, push, refusal, set, table};
use crate::config::DeltaIds;
use crate::durable::{DurableLog, StoredPush};
use crate::filter::{Asking, Form, SCAN_DELTAS_MAX};
use crate::gateway::Gateway;
use crate::pull::PAGE_BYTES_MAX;

/// The size of a large value; 17 of them are more than a page.
const LARGE: usize = 1_000_000;
const LARGE_ROWS: u64 = 24;
const LARGE_ROWS_IN_A_PAGE: usize = 17;
const BIG: &str =
    r#"{"version": 1, "buckets": [{"name": "big", "tables": ["t"], "where": "v > 10"}]}"#;

fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}

/// Nothing stays in the feed, and nothing that is flushed stays in SQLite.
fn forgetful() -> Place {
    let mut place = Place::new();
    place.config.feed_bytes_max = 1;
    place.config.pull_window = Duration::ZERO;
    place
}

async fn flush(place: &Place, gateway: &Arc<Gateway>) {
    place.clock.advance(1);
    gateway.flush(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_with_an_accepted_id_is_known_by_its_content_whatever_the_log_made_of_it() {
    let mut place = forgetful();
    place.config.delta_ids = DeltaIds::Accept;
    let gateway = place.open().await;
    let ana = client("ana");
    let named = |mut delta: RowDelta| {
        delta.delta_id = DeltaId::from_bytes([7; 32]);
        delta
    };
    let first = named(delta("ana", ("r", 0), Some("ana"), 1));
    let mut turned = first.clone();
    turned.columns.reverse();
    let other = named(delta("ana", ("r", 0), Some("bo"), 1));
    let later = named(delta("ana", ("r", 1), Some("ana"), 1));
    let known = [Outcome::Duplicate(seq(1))];
    let is_known = async |sent: &RowDelta, when: &str| {
        let again = push(&gateway, &ana, vec![sent.clone()]).await;
        let again = again.unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(again.outcomes, known, "{when}");
    };
    let is_refused = async |sent: &RowDelta| {
        let error = refusal(push(&gateway, &ana, vec![sent.clone()]).await);
        assert_eq!(error.code, ErrorCode::DeltaIdReused);
    };
    push(&gateway, &ana, vec![first.clone()]).await.unwrap();
    is_known(&turned, "in another order").await;
    is_refused(&later).await;
    flush(&place, &gateway).await;
    is_known(&first, "from the flushed log").await;
    is_known(&turned, "in another order, from the flushed log").await;
    is_refused(&other).await;
    let without = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;
    let without: TableDefinition = serde_json::from_str(without).unwrap();
    gateway.put_schema(&without).await.unwrap();
    is_known(&first, "without the column that was dropped").await;
    is_refused(&named(delta("ana", ("r", 0), Some("ana"), 2))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_the_database_ends_at_the_visible_seq() {
    let place = forgetful();
    let gateway = place.open().await;
    let ana = client("ana");
    push(&gateway, &ana, vec![delta("ana", ("r1", 0), None, 1)])
        .await
        .unwrap();
    // Committed, and not yet published.
    let committed = StoredPush {
        arrived_ms: 0,
        deltas: vec![lakesync_proto::SeqDelta {
            seq: seq(2),
            delta: delta("ana", ("r2", 1), None, 1),
        }],
        moved: Vec::new(),
    };
    let mut log = DurableLog::open(&place.database()).unwrap();
    log.append(&[committed], &[].into(), &[]).unwrap();
    let page = gateway.pull(Seq::ZERO, 100).await.unwrap();
    let seqs: Vec<Seq> = page.deltas.iter().map(|delta| delta.seq).collect();
    assert_eq!(
        (seqs, page.cursor, page.has_more),
        (vec![seq(1)], seq(1), false)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn known_ids_are_bounded_by_what_is_not_flushed() {
    // Not forgetful: SQLite keeps everything for seven days.
    let place = Place::new();
    let gateway = place.open().await;
    let ana = client("ana");
    let known = || gateway.upkeep.stats.snapshot().known_ids;
    let deltas = |names: std::ops::Range<u64>| -> Vec<RowDelta> {
        names
            .map(|n| delta("ana", (&format!("r{n}"), n), None, 1))
            .collect()
    };
    for round in 0..3 {
        let sent = deltas(round * 50..round * 50 + 50);
        push(&gateway, &ana, sent.clone()).await.unwrap();
        assert_eq!(known(), 50, "round {round}");
        flush(&place, &gateway).await;
        assert_eq!(known(), 0, "round {round}");
        let again = push(&gateway, &ana, sent).await.unwrap();
        let is_known = |outcome: &Outcome| matches!(outcome, Outcome::Duplicate(_));
        assert!(again.outcomes.iter().all(is_known), "round {round}");
    }
    // One table is behind: what it waits with is known, and everything after it.
    table(&gateway, "u").await;
    let mut of_u = delta("ana", ("r", 1_000), None, 1);
    of_u.table = TableName::parse("u").unwrap();
    let of_u = RowDelta::new(of_u.op, of_u.key(), of_u.columns);
    push(&gateway, &ana, vec![of_u]).await.unwrap();
    push(&gateway, &ana, deltas(2_000..2_005)).await.unwrap();
    gateway.flush(Some("t")).await.unwrap();
    assert_eq!(known(), 6);
    flush(&place, &gateway).await;
    assert_eq!(known(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_durable_seq_does_not_sink_for_a_new_table() {
    let place = Place::new();
    let gateway = place.open().await;
    let ana = client("ana");
    push(&gateway, &ana, vec![delta("ana", ("r", 0), None, 1)])
        .await
        .unwrap();
    flush(&place, &gateway).await;
    assert_eq!(gateway.durable(), seq(1));
    table(&gateway, "u").await;
    let mut of_u = delta("ana", ("r", 1), None, 1);
    of_u.table = TableName::parse("u").unwrap();
    let of_u = RowDelta::new(of_u.op, of_u.key(), of_u.columns);
    push(&gateway, &ana, vec![of_u]).await.unwrap();
    assert_eq!(gateway.durable(), seq(1), "the lake has not forgotten it");
    push(&gateway, &ana, vec![delta("ana", ("r", 2), None, 1)])
        .await
        .unwrap();
    gateway.flush(Some("t")).await.unwrap();
    assert_eq!(gateway.durable(), seq(1), "u is behind");
    flush(&place, &gateway).await;
    assert_eq!(gateway.durable(), seq(3));
}

/// Pushes a large update of each row, `at` this millisecond.
async fn push_large(gateway: &Gateway, v: i64, row: impl Fn(u64) -> String) {
    let large = "x".repeat(LARGE);
    let bo = client("bo");
    for n in 0..LARGE_ROWS {
        let sent = delta("bo", (&row(n), n), Some(&large), v);
        push(gateway, &bo, vec![sent]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_flushed_log_is_bounded_by_bytes_too() {
    let place = forgetful();
    let gateway = place.open().await;
    push_large(&gateway, 1, |n| format!("r{}", LARGE_ROWS - n)).await;
    flush(&place, &gateway).await;
    let run = gateway.run(Seq::ZERO, 1_000).await.unwrap();
    assert_eq!(run.items.len(), LARGE_ROWS_IN_A_PAGE);
    assert_eq!(run.complete_to, seq(17));
    let rest = gateway.run(run.complete_to, 1_000).await.unwrap();
    let seqs: Vec<Seq> = rest.items.iter().map(|(delta, _)| delta.seq).collect();
    assert_eq!(seqs, (18..=LARGE_ROWS).map(seq).collect::<Vec<_>>());
    assert_eq!(rest.complete_to, seq(LARGE_ROWS));
    let two = gateway.run(Seq::ZERO, 2).await.unwrap();
    assert_eq!((two.items.len(), two.complete_to), (2, seq(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_page_holds_no_more_bytes_than_it_gives() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, BIG).await.unwrap();
    let ruling = gateway.ruling();
    let audience = gateway.audience(&client("ana"));
    let asking = Asking {
        audience: &audience,
        ruling,
        form: Form::Native,
        client: None,
        scan_deltas_max: SCAN_DELTAS_MAX,
    };
    // One row in sight, and many large writes of it.
    push(
        &gateway,
        &client("bo"),
        vec![delta("bo", ("r", 0), None, 20)],
    )
    .await
    .unwrap();
    push_large(&gateway, 20, |_| "r".to_owned()).await;
    let (sifted, _) = gateway.sift(&asking, seq(1), 10_000).await.unwrap();
    assert_eq!(sifted.heard.len(), LARGE_ROWS_IN_A_PAGE);
    // Many large rows out of sight come into it by small writes.
    push_large(&gateway, 1, |n| format!("q{n}")).await;
    let hidden = seq(1 + 2 * LARGE_ROWS);
    for n in 0..LARGE_ROWS {
        let shown = delta("bo", (&format!("q{n}"), 100 + n), None, 20);
        push(&gateway, &client("bo"), vec![shown]).await.unwrap();
    }
    let (sifted, _) = gateway.sift(&asking, hidden, 10_000).await.unwrap();
    assert_eq!(sifted.heard.len(), usize::try_from(LARGE_ROWS).unwrap());
    let sight = gateway.rows_in_sight(&asking, &sifted).await.unwrap();
    assert_eq!(sight.rows.len(), LARGE_ROWS_IN_A_PAGE);
    let (mut since, mut rows) = (hidden, Vec::new());
    loop {
        let content = gateway.filtered(&asking, since, 10_000).await.unwrap();
        let bytes: usize = content.deltas.iter().map(|d| d.delta.bytes()).sum();
        assert!(bytes < PAGE_BYTES_MAX + 2 * LARGE);
        assert!(content.complete_to > since);
        let whole = content.deltas.iter().filter(|delta| {
            let owner = ColumnName::parse("owner").unwrap();
            delta.delta.columns.iter().any(|c| c.column == owner)
        });
        rows.extend(whole.map(|delta| delta.delta.row_id.clone()));
        since = content.complete_to;
        if since == content.visible {
            break;
        }
    }
    let expected: Vec<String> = (0..LARGE_ROWS).map(|n| format!("q{n}")).collect();
    assert_eq!(
        rows.iter().map(ToString::to_string).collect::<Vec<_>>(),
        expected
    );
}
