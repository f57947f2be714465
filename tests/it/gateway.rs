//! The gateway where a naive one would lose, repeat or skip a delta.

use std::sync::Arc;
use std::time::Duration;

use lakesync::Lake;
use lakesync_gateway::{Error, Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, ErrorCode, Hlc, ManualClock, Op, Outcome, Push,
    RowDelta, RowId, Seq, TableName, Value, WallClock,
};
use tempfile::TempDir;

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
const TABLE: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: GatewayConfig,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            config: GatewayConfig::default(),
        }
    }

    pub(crate) async fn open(&self) -> Lake {
        let clock = Arc::clone(&self.clock) as Arc<dyn WallClock>;
        let lake = Lake::builder(self.folder.path())
            .with_clock(clock)
            .with_config(self.config.clone());
        let lake = lake.open().await.unwrap();
        lake.create_table(TABLE).await.unwrap();
        lake
    }
}

pub(crate) fn gateway(lake: &Lake) -> Arc<Gateway> {
    lake.gateway("public").unwrap()
}

pub(crate) fn delta(client: &str, row: &str, wall_ms: u64, value: i64) -> RowDelta {
    delta_of("t", client, row, wall_ms, value)
}

pub(crate) fn delta_of(table: &str, client: &str, row: &str, wall_ms: u64, value: i64) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse(table).unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse(client).unwrap(),
        hlc: Hlc::new(wall_ms, 0).unwrap(),
    };
    let column = ColumnName::parse("v").unwrap();
    let change = ColumnChange {
        column,
        value: Value::Long(value),
    };
    RowDelta::new(Op::Insert, key, vec![change])
}

pub(crate) fn push(deltas: Vec<RowDelta>) -> Push {
    Push {
        client_id: deltas[0].client_id.clone(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}

pub(crate) async fn pulled(gateway: &Gateway, limit: usize) -> Vec<u64> {
    let mut since = Seq::ZERO;
    let mut seqs = Vec::new();
    loop {
        let page = gateway.pull(since, limit).await.unwrap();
        seqs.extend(page.deltas.iter().map(|delta| delta.seq.as_u64()));
        since = page.cursor;
        if !page.has_more {
            return seqs;
        }
    }
}

pub(crate) async fn count(lake: &Lake, from: &str) -> i64 {
    use arrow::array::AsArray as _;
    let batches = lake
        .sql(&format!("select count(*) from {from}"))
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    batches[0]
        .column(0)
        .as_primitive::<arrow::datatypes::Int64Type>()
        .value(0)
}

pub(crate) fn refusal(error: Error) -> (ErrorCode, Option<usize>) {
    match error {
        Error::Refused(refusal) => (refusal.code, refusal.index),
        other => panic!("refused as {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pushes_get_dense_seqs_and_each_answer_is_its_own() {
    let world = World::new();
    let lake = world.open().await;
    let pushing = (0..40_u64).map(|n| {
        let gateway = gateway(&lake);
        tokio::spawn(async move {
            let deltas = (0..3)
                .map(|i| delta(&format!("c{n}"), &format!("r{n}-{i}"), NOW_MS, 1))
                .collect();
            gateway.push(push(deltas)).await.unwrap()
        })
    });
    let mut seqs = Vec::new();
    for ack in pushing.collect::<Vec<_>>() {
        let own: Vec<u64> = ack
            .await
            .unwrap()
            .outcomes
            .iter()
            .map(|outcome| outcome.seq().as_u64())
            .collect();
        assert_eq!(
            own,
            [own[0], own[0] + 1, own[0] + 2],
            "a push is contiguous"
        );
        seqs.extend(own);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=120).collect::<Vec<_>>());
    assert_eq!(
        pulled(&gateway(&lake), 50).await,
        (1..=120).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_is_a_duplicate_even_after_flush_trim_and_restart() {
    let mut world = World::new();
    world.config.pull_window = Duration::ZERO;
    let sent = push(
        (0..5)
            .map(|n| delta("ana", &format!("r{n}"), NOW_MS, 1))
            .collect(),
    );
    let lake = world.open().await;
    gateway(&lake).push(sent.clone()).await.unwrap();
    world.clock.advance(1);
    gateway(&lake).flush(None).await.unwrap();
    let known = |n: u64| Outcome::Duplicate(seq(n));
    let again = gateway(&lake).push(sent.clone()).await.unwrap();
    assert_eq!(again.outcomes, (1..=5).map(known).collect::<Vec<_>>());
    drop(lake);
    let lake = world.open().await;
    let again = gateway(&lake).push(sent).await.unwrap();
    assert_eq!(again.outcomes, (1..=5).map(known).collect::<Vec<_>>());
    assert_eq!(count(&lake, "\"t$deltas\"").await, 5);
    assert_eq!(
        pulled(&gateway(&lake), 2).await,
        [1, 2, 3, 4, 5],
        "trimmed deltas come from the flushed log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_cross_flush_and_trim_without_a_gap() {
    let mut world = World::new();
    world.config.pull_window = Duration::ZERO;
    world.config.feed_bytes_max = 2_000;
    let lake = world.open().await;
    for n in 0..30_u64 {
        gateway(&lake)
            .push(push(vec![delta("ana", &format!("r{n}"), NOW_MS + n, 1)]))
            .await
            .unwrap();
        world.clock.advance(10);
        if n == 9 || n == 19 {
            gateway(&lake).flush(None).await.unwrap();
        }
    }
    for limit in [1, 3, 7, 100] {
        assert_eq!(
            pulled(&gateway(&lake), limit).await,
            (1..=30).collect::<Vec<_>>(),
            "limit {limit}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trimming_waits_for_every_table_of_a_push() {
    let mut world = World::new();
    world.config.pull_window = Duration::ZERO;
    let lake = world.open().await;
    lake.create_table(&TABLE.replace("\"t\"", "\"u\""))
        .await
        .unwrap();
    let both = vec![
        delta("ana", "r1", NOW_MS, 1),
        delta_of("u", "ana", "r1", NOW_MS, 1),
    ];
    gateway(&lake).push(push(both)).await.unwrap();
    world.clock.advance(1);
    gateway(&lake).flush(Some("t")).await.unwrap();
    drop(lake);
    let lake = world.open().await;
    assert_eq!((count(&lake, "t").await, count(&lake, "u").await), (1, 1));
    gateway(&lake).flush(Some("u")).await.unwrap();
    drop(lake);
    let lake = world.open().await;
    assert_eq!((count(&lake, "t").await, count(&lake, "u").await), (1, 1));
    assert_eq!(pulled(&gateway(&lake), 1).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_inserts_of_one_key_at_once_are_one_row_and_one_error() {
    let world = World::new();
    let lake = world.open().await;
    lake.create_table(
        r#"{"table": "k", "primaryKey": ["id"], "columns": [{"name": "id", "type": "long"}]}"#,
    )
    .await
    .unwrap();
    for id in 0..20 {
        let insert = || {
            let lake = lake.clone();
            tokio::spawn(async move {
                let frame = lake
                    .sql(&format!("insert into k (id) values ({id})"))
                    .await
                    .unwrap();
                frame.collect().await.is_ok()
            })
        };
        let (one, other) = (insert(), insert());
        assert!(
            one.await.unwrap() ^ other.await.unwrap(),
            "exactly one of two INSERTs of {id}"
        );
    }
    assert_eq!(count(&lake, "\"k$deltas\"").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_never_says_there_is_more_and_moves_nowhere() {
    let world = World::new();
    let lake = world.open().await;
    let pushing = {
        let gateway = gateway(&lake);
        tokio::spawn(async move {
            for n in 0..300_u64 {
                gateway
                    .push(push(vec![delta("ana", &format!("r{n}"), NOW_MS, 1)]))
                    .await
                    .unwrap();
            }
        })
    };
    let mut since = Seq::ZERO;
    while since < seq(300) {
        let page = gateway(&lake).pull(since, 100).await.unwrap();
        assert!(
            !page.has_more || page.cursor > since,
            "more, but the cursor stays at {since}"
        );
        since = page.cursor;
        tokio::task::yield_now().await;
    }
    pushing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_insert_is_refused_and_the_gateway_takes_the_next_push() {
    let world = World::new();
    let lake = world.open().await;
    lake.create_table(r#"{"table": "big", "columns": [{"name": "v", "type": "string"}]}"#)
        .await
        .unwrap();
    // Six parts: one alone would be more than a function may make at once.
    let part = "select repeat('x', 4000000 + value % 2) from generate_series(1, 12)";
    let sql = format!("insert into big (v) {}", [part; 6].join(" union all "));
    let error = lake
        .sql(&sql)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("may write 268435456 bytes"), "{error}");
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    assert_eq!(count(&lake, "big").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_floor_new_deltas_are_refused_by_name_and_known_ones_acknowledged() {
    let world = World::new();
    let lake = world.open().await;
    let old = push(vec![delta("ana", "r1", NOW_MS, 1)]);
    gateway(&lake).push(old.clone()).await.unwrap();
    gateway(&lake)
        .raise_floor(Hlc::new(NOW_MS + 1_000, 0).unwrap())
        .await
        .unwrap();
    drop(lake);
    let lake = world.open().await;
    let mixed = push(vec![
        delta("ana", "r2", NOW_MS + 2_000, 1),
        delta("ana", "r3", NOW_MS + 999, 1),
    ]);
    let error = gateway(&lake).push(mixed).await.unwrap_err();
    assert_eq!(refusal(error), (ErrorCode::LateDelta, Some(1)));
    assert_eq!(
        gateway(&lake).push(old).await.unwrap().outcomes,
        [Outcome::Duplicate(seq(1))]
    );
    assert_eq!(
        pulled(&gateway(&lake), 10).await,
        [1],
        "nothing of the refused batch is stored"
    );
    let lower = gateway(&lake)
        .raise_floor(Hlc::new(NOW_MS, 0).unwrap())
        .await
        .unwrap();
    assert_eq!(lower.wall_ms(), NOW_MS + 1_000, "the floor never sinks");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_of_a_push_skips_no_delta_of_another_client() {
    let world = World::new();
    let lake = world.open().await;
    let one = |client: &str, row: &str, last_seen: u64| Push {
        last_seen: seq(last_seen),
        ..push(vec![delta(client, row, NOW_MS, 1)])
    };
    let gateway = gateway(&lake);
    assert_eq!(
        gateway.push(one("ana", "a1", 0)).await.unwrap().cursor,
        seq(1)
    );
    assert_eq!(
        gateway.push(one("bo", "b1", 0)).await.unwrap().cursor,
        seq(0),
        "ana's first is unseen"
    );
    assert_eq!(
        gateway.push(one("bo", "b2", 1)).await.unwrap().cursor,
        seq(3)
    );
    assert_eq!(
        gateway.push(one("ana", "a2", 1)).await.unwrap().cursor,
        seq(1),
        "bo's are unseen"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_client_hung_up_is_known_when_it_comes_again_after_a_trim() {
    let mut world = World::new();
    world.config.pull_window = Duration::ZERO;
    let lake = world.open().await;
    let sent = push(vec![delta("ana", "r1", NOW_MS, 1)]);
    let hung_up = gateway(&lake);
    let mut pushing = Box::pin(hung_up.push(sent.clone()));
    // It is in the writer's queue now; whoever asked for it goes away.
    let _: std::task::Poll<_> = futures::poll!(&mut pushing);
    drop(pushing);
    while pulled(&gateway(&lake), 1).await.is_empty() {
        tokio::task::yield_now().await;
    }
    world.clock.advance(1);
    gateway(&lake).flush(None).await.unwrap();
    let again = gateway(&lake).push(sent).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Duplicate(seq(1))]);
    assert_eq!(count(&lake, "\"t$deltas\"").await, 1);
}
