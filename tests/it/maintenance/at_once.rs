//! Two of a kind at once: compactions of one table, gateways of one lake, and compactions under pushes at full rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lakesync::Lake;
use lakesync_compactor::{CompactionConfig, compact};
use lakesync_gateway::{Components, Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, GatewayId, Hlc, ManualClock, Op, Push, RowDelta,
    RowId, Seq, TableName, Value, WallClock,
};
use lakesync_providers::lake::CommitErrorKind;
use lakesync_tests::history::{History, Shape, Step};
use lakesync_tests::world::World;

const START_MS: u64 = 1_700_000_000_000;
const TABLE: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}, {"name": "note", "type": "string"}]}"#;

/// Whether an error says that the table moved, so that the job must be planned again.
fn is_conflict(error: &lakesync_compactor::Error) -> bool {
    matches!(error, lakesync_compactor::Error::Commit(error) if error.kind() == CommitErrorKind::Conflict)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_folds_at_once_one_takes_effect_and_no_row_is_lost_or_revived() {
    let (mut both, mut lost) = (0, 0);
    for seed in 0..4 {
        let history = History::generate(seed, Shape::default());
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        for step in &history.steps {
            world.step(step).await;
            if !matches!(step, Step::Flush) {
                continue;
            }
            for schema in &world.schemas {
                let gateway = world.gateway();
                let fold = || async {
                    let fence = gateway.fence();
                    let config = CompactionConfig::default();
                    compact(gateway.live(), schema.table.as_str(), Some(&fence), &config).await
                };
                // Not under the gateway's lock, as two processes would.
                for done in <[_; 2]>::from(tokio::join!(fold(), fold())) {
                    match done {
                        Ok(_) => both += 1,
                        Err(error) if is_conflict(&error) => lost += 1,
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
            }
            world.check_now("after two folds at once").await;
        }
        world.check_now("at the end").await;
        world.check_past().await;
    }
    assert!(
        both > lost,
        "{both} folds were well, {lost} must be planned again"
    );
}

fn clock() -> Arc<dyn WallClock> {
    Arc::new(ManualClock::new(START_MS))
}

async fn open(folder: &std::path::Path) -> Lake {
    let lake = Lake::builder(folder).with_clock(clock()).open().await;
    let lake = lake.unwrap();
    lake.create_table(TABLE).await.unwrap();
    lake
}

fn delta(client: &ClientId, row: u64, wall_ms: u64, value: u64) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(&format!("row {row}")).unwrap(),
        client_id: client.clone(),
        hlc: Hlc::new(wall_ms, 0).unwrap(),
    };
    let change = ColumnChange {
        column: ColumnName::parse("v").unwrap(),
        value: Value::Long(value.cast_signed()),
    };
    RowDelta::new(Op::Update, key, vec![change])
}

fn push(client: &str, deltas: impl Fn(&ClientId) -> Vec<RowDelta>) -> Push {
    let client_id = ClientId::parse(client).unwrap();
    Push {
        deltas: deltas(&client_id),
        client_id,
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

async fn rows(lake: &Lake) -> BTreeMap<String, i64> {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;
    let frame = lake.sql("select row_id, v from t").await.unwrap();
    let mut rows = BTreeMap::new();
    for batch in frame.collect().await.unwrap() {
        let ids = batch.column(0).as_string::<i32>();
        let values = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let twice = rows.insert(ids.value(row).to_owned(), values.value(row));
            assert_eq!(twice, None, "{} is there twice", ids.value(row));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_another_took_over_folds_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let first = lake.gateway("public").unwrap();
    let config = CompactionConfig::default();
    first
        .push(push("ana", |id| vec![delta(id, 1, START_MS, 1)]))
        .await
        .unwrap();
    first.flush(None).await.unwrap();
    let components = Components {
        warehouse: first.live().warehouse().clone(),
        database: folder.path().join("other.db"),
        clock: clock(),
        lock: None,
    };
    let id = GatewayId::parse("public").unwrap();
    let second = Gateway::open(id, components, GatewayConfig::default());
    let second = second.await.unwrap();
    let error = compact(first.live(), "t", Some(&first.fence()), &config).await;
    assert!(
        error.unwrap_err().is_fenced(),
        "the holder of the fence is the leader"
    );
    assert_eq!(second.live().view("t").unwrap().base.snapshot_id, None);
    let done = compact(second.live(), "t", Some(&second.fence()), &config).await;
    assert_eq!(
        done.unwrap().base_seq,
        second.live().view("t").unwrap().log.max_seq
    );
    let error = compact(first.live(), "t", Some(&first.fence()), &config).await;
    // It has read the new base by now, and there is nothing to fold; or it is told again that it may not.
    assert!(error.is_ok_and(|done| done.base_seq == done.from_seq));
}

/// How many clients push, and how many rows each writes over and over.
const CLIENTS: u64 = 4;
const ROWS: u64 = 200;
const FOLDS: u64 = 12;

/// Pushes until told to stop; what it was acknowledged last for each row, and how long each push took.
async fn push_on(
    gateway: Arc<Gateway>,
    client: u64,
    stop: Arc<AtomicBool>,
    pushed: Arc<AtomicU64>,
) -> (BTreeMap<u64, u64>, Vec<Duration>) {
    let (mut known, mut waits) = (BTreeMap::new(), Vec::new());
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        round += 1;
        let rows: Vec<u64> = (0..20).map(|n| (round * 7 + n * 11) % ROWS).collect();
        let push = push(&format!("client-{client}"), |id| {
            let rows = rows.iter().map(|row| client * ROWS + row);
            rows.map(|row| delta(id, row, START_MS - 1_000_000 + round, round))
                .collect()
        });
        let begun = Instant::now();
        gateway.push(push).await.unwrap();
        waits.push(begun.elapsed());
        pushed.fetch_add(1, Ordering::AcqRel);
        known.extend(rows.iter().map(|row| (client * ROWS + row, round)));
    }
    (known, waits)
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_under_pushes_at_full_rate_lose_nothing_and_are_read_through() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let gateway = lake.gateway("public").unwrap();
    let (stop, pushed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let pushing: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (stop, pushed) = (Arc::clone(&stop), Arc::clone(&pushed));
            tokio::spawn(push_on(Arc::clone(&gateway), client, stop, pushed))
        })
        .collect();
    let mut least = BTreeMap::new();
    for fold in 0..FOLDS {
        // Every fold has something to do.
        while pushed.load(Ordering::Acquire) < (fold + 1) * CLIENTS {
            tokio::task::yield_now().await;
        }
        for call in ["call system.flush('t')", "call system.compact('t')"] {
            lake.sql(call).await.unwrap().collect().await.unwrap();
        }
        let now = rows(&lake).await;
        for (row, value) in &least {
            assert!(
                now[row] >= *value,
                "{row} went back from {value} to {}",
                now[row]
            );
        }
        least = now;
    }
    stop.store(true, Ordering::Release);
    let (mut expected, mut waits) = (BTreeMap::new(), Vec::new());
    for client in pushing {
        let (known, took) = client.await.unwrap();
        expected.extend(
            known
                .iter()
                .map(|(row, value)| (format!("row {row}"), value.cast_signed())),
        );
        waits.extend(took);
    }
    assert_eq!(rows(&lake).await, expected);
    for call in ["call system.flush('t')", "call system.compact('t')"] {
        lake.sql(call).await.unwrap().collect().await.unwrap();
    }
    assert_eq!(rows(&lake).await, expected);
    let view = gateway.live().view("t").unwrap();
    assert_eq!(
        view.base.base_seq,
        gateway.live().seq(),
        "everything is folded"
    );
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    eprintln!("{} pushes under {FOLDS} folds, p99 {p99:?}", waits.len());
}
