//! The gateway where a naive one would lose, repeat or skip a delta.

use std::sync::Arc;
use std::time::Duration;

use lakesync::Lake;
use lakesync_gateway::{Components, Error, Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, ErrorCode, GatewayId, Hlc, ManualClock, Op,
    Outcome, Push, RowDelta, RowId, Seq, TableName, Value, WallClock,
};
use tempfile::TempDir;

const NOW_MS: u64 = 1_700_000_000_000;
const TABLE: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;

struct World {
    folder: TempDir,
    clock: Arc<ManualClock>,
    config: GatewayConfig,
}

impl World {
    fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            config: GatewayConfig::default(),
        }
    }

    async fn open(&self) -> Lake {
        let clock = Arc::clone(&self.clock) as Arc<dyn WallClock>;
        let lake = Lake::builder(self.folder.path())
            .with_clock(clock)
            .with_config(self.config.clone());
        let lake = lake.open().await.unwrap();
        lake.create_table(TABLE).await.unwrap();
        lake
    }
}

fn gateway(lake: &Lake) -> &Arc<Gateway> {
    lake.gateway("public").unwrap()
}

fn delta(client: &str, row: &str, wall_ms: u64, value: i64) -> RowDelta {
    delta_of("t", client, row, wall_ms, value)
}

fn delta_of(table: &str, client: &str, row: &str, wall_ms: u64, value: i64) -> RowDelta {
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

fn push(deltas: Vec<RowDelta>) -> Push {
    Push {
        client_id: deltas[0].client_id.clone(),
        deltas,
        last_seen: Seq::ZERO,
    }
}

fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}

async fn pulled(gateway: &Gateway, limit: usize) -> Vec<u64> {
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

async fn count(lake: &Lake, from: &str) -> i64 {
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

fn refusal(error: Error) -> (ErrorCode, Option<usize>) {
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
        let gateway = Arc::clone(gateway(&lake));
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
        pulled(gateway(&lake), 50).await,
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
        pulled(gateway(&lake), 2).await,
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
            pulled(gateway(&lake), limit).await,
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
    assert_eq!(pulled(gateway(&lake), 1).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_begins_a_new_epoch_above_the_lake_and_knows_what_was_flushed() {
    let world = World::new();
    let flushed = push(
        (0..4)
            .map(|n| delta("ana", &format!("r{n}"), NOW_MS, 1))
            .collect(),
    );
    let lost = push(vec![delta("ana", "r9", NOW_MS + 1, 1)]);
    let lake = world.open().await;
    gateway(&lake).push(flushed.clone()).await.unwrap();
    gateway(&lake).flush(None).await.unwrap();
    gateway(&lake).push(lost.clone()).await.unwrap();
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    for entry in std::fs::read_dir(world.folder.path().join("gateways")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let lake = world.open().await;
    assert_ne!(*gateway(&lake).epoch(), epoch, "clients must start over");
    assert_eq!(pulled(gateway(&lake), 3).await, [1, 2, 3, 4]);
    // A client that sees the new epoch sends everything again.
    let again = gateway(&lake).push(flushed).await.unwrap();
    assert!(
        again
            .outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Duplicate(_))),
        "{again:?}"
    );
    let again = gateway(&lake).push(lost).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Accepted(seq(5))]);
    assert_eq!(count(&lake, "t").await, 5);
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    assert_eq!(
        *gateway(&world.open().await).epoch(),
        epoch,
        "an ordinary restart keeps the epoch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_an_old_copy_begins_a_new_epoch() {
    let world = World::new();
    let database = world.folder.path().join("gateways/public.db");
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    let copy = std::fs::read(&database).unwrap();
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r2", NOW_MS, 1)]))
        .await
        .unwrap();
    gateway(&lake).flush(None).await.unwrap();
    assert_eq!(*gateway(&lake).epoch(), epoch);
    drop(lake);
    std::fs::write(&database, copy).unwrap();
    let lake = world.open().await;
    assert_ne!(*gateway(&lake).epoch(), epoch);
    gateway(&lake)
        .push(push(vec![delta("ana", "r3", NOW_MS, 1)]))
        .await
        .unwrap();
    for limit in [1, 100] {
        let seqs = pulled(gateway(&lake), limit).await;
        assert_eq!(
            seqs,
            [1, 2, 3],
            "the gap in the copy is filled from the lake, by pages of {limit}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_that_was_written_on_keeps_its_gap_filled_and_knows_what_the_lake_has() {
    let world = World::new();
    let database = world.folder.path().join("gateways/public.db");
    let one = |row: &str| push(vec![delta("ana", row, NOW_MS, 1)]);
    let lake = world.open().await;
    gateway(&lake).push(one("r1")).await.unwrap();
    drop(lake);
    let copy = std::fs::read(&database).unwrap();
    let lake = world.open().await;
    gateway(&lake).push(one("r2")).await.unwrap();
    gateway(&lake).push(one("r3")).await.unwrap();
    gateway(&lake).flush(None).await.unwrap();
    drop(lake);
    std::fs::write(&database, copy).unwrap();
    let lake = world.open().await;
    gateway(&lake).push(one("r4")).await.unwrap();
    let again = gateway(&lake).push(one("r2")).await.unwrap();
    assert_eq!(
        again.outcomes,
        [Outcome::Duplicate(seq(2))],
        "the lake has it, the copy does not"
    );
    drop(lake);
    // The gap is in the middle now: 1, then 4.
    let lake = world.open().await;
    let again = gateway(&lake).push(one("r3")).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Duplicate(seq(3))]);
    for limit in [1, 2, 100] {
        assert_eq!(
            pulled(gateway(&lake), limit).await,
            [1, 2, 3, 4],
            "limit {limit}"
        );
    }
    assert_eq!(count(&lake, "\"t$deltas\"").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_before_the_last_flush_is_told_by_its_fence_and_stale_cursors_start_over() {
    let world = World::new();
    let database = world.folder.path().join("gateways/public.db");
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    let epoch = gateway(&lake).epoch().clone();
    // A copy of the files while the server runs, as a backup makes it.
    let files =
        ["public.db", "public.db-wal", "public.db-shm"].map(|name| database.with_file_name(name));
    let copies = files.clone().map(|file| std::fs::read(file).unwrap());
    for row in ["r2", "r3"] {
        gateway(&lake)
            .push(push(vec![delta("ana", row, NOW_MS, 1)]))
            .await
            .unwrap();
        gateway(&lake).flush(None).await.unwrap();
    }
    gateway(&lake)
        .push(push(vec![delta("ana", "r4", NOW_MS, 1)]))
        .await
        .unwrap();
    drop(lake);
    for (file, copy) in files.iter().zip(copies) {
        std::fs::write(file, copy).unwrap();
    }
    let lake = world.open().await;
    assert_ne!(*gateway(&lake).epoch(), epoch);
    assert_eq!(
        pulled(gateway(&lake), 10).await,
        [1, 2, 3],
        "r4 was lost with the disk"
    );
    let error = gateway(&lake).pull(seq(4), 10).await.unwrap_err();
    assert_eq!(refusal(error).0, ErrorCode::CursorExpired);
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
        let gateway = Arc::clone(gateway(&lake));
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
    let sql = "insert into big (v) select repeat('x', 4000000) from generate_series(1, 20)";
    let error = lake
        .sql(sql)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Payload too large"), "{error}");
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    assert_eq!(count(&lake, "big").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_that_was_taken_over_cannot_flush() {
    let world = World::new();
    let lake = world.open().await;
    let first = Arc::clone(gateway(&lake));
    first
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    let components = Components {
        warehouse: first.live().warehouse().clone(),
        database: world.folder.path().join("other.db"),
        clock: Arc::clone(&world.clock) as Arc<dyn WallClock>,
        lock: None,
    };
    let id = GatewayId::parse("public").unwrap();
    let second = Gateway::open(id, components, GatewayConfig::default())
        .await
        .unwrap();
    let error = first.flush(None).await.unwrap_err();
    assert!(matches!(error, Error::Commit(_)), "{error}");
    let late = push(vec![delta("ana", "r9", NOW_MS, 1)]);
    let error = first.push(late).await.unwrap_err();
    assert!(
        matches!(error, Error::Poisoned { .. }),
        "nothing is acknowledged that nobody will flush: {error}"
    );
    second
        .push(push(vec![delta("bo", "r2", NOW_MS, 1)]))
        .await
        .unwrap();
    assert_eq!(second.flush(None).await.unwrap().len(), 1);
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
        pulled(gateway(&lake), 10).await,
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
