//! What a gateway does by itself: automatic flushes, plain files, backpressure, and openings that read only what is
//! not flushed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakesync::Lake;
use lakesync_gateway::{
    FlushFormat, Gateway, GatewayConfig, GatewayFolder, Gateways, PressureLimits,
};
use lakesync_proto::{ErrorCode, GatewayId, Op, Outcome, Push, RowDelta, Seq, WallClock};
use tokio::sync::watch;

use crate::gateway::{NOW_MS, World, count, delta, delta_of, gateway, pulled, push, refusal, seq};

fn rows(client: &str, from: u64, to: u64) -> Push {
    let deltas = (from..to).map(|n| delta(client, &format!("r{n}"), NOW_MS + n, 1));
    push(deltas.collect())
}

/// Runs the gateway's own flushes while `work` goes on.
async fn while_flushing<F: Future<Output = ()>>(gateway: &Arc<Gateway>, work: F) {
    let (stop, stopped) = watch::channel(false);
    let flushes = tokio::spawn(Arc::clone(gateway).run_flushes(stopped, 7));
    work.await;
    stop.send(true).unwrap();
    flushes.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_flushes_by_rows_and_tells_who_waits_for_it() {
    let mut world = World::new();
    world.config.flush.rows = 10;
    let lake = world.open().await;
    let gateway = &gateway(&lake);
    let mut flushed = gateway.on_flushed();
    while_flushing(gateway, async {
        gateway.push(rows("ana", 0, 9)).await.unwrap();
        gateway.push(rows("ana", 9, 10)).await.unwrap();
        flushed.changed().await.unwrap();
    })
    .await;
    let metrics = gateway.metrics();
    assert_eq!(metrics.hot.unflushed_deltas, 0, "{metrics:?}");
    assert_eq!(metrics.tables[0].flushed, seq(10));
    assert_eq!(metrics.stats.flushed_deltas, 10);
    assert_eq!(metrics.stats.group_deltas.count(), 2, "two commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_that_has_waited_long_enough_is_flushed_although_it_is_alone() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = &gateway(&lake);
    let mut flushed = gateway.on_flushed();
    gateway.push(rows("ana", 0, 1)).await.unwrap();
    world.clock.advance(60_000);
    while_flushing(gateway, async {
        flushed.changed().await.unwrap();
    })
    .await;
    assert_eq!(gateway.metrics().hot.unflushed_since_ms, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_is_told_and_tried_again_until_it_succeeds() {
    let mut world = World::new();
    let files = world.folder.path().join("plain");
    world.config.flush_format = FlushFormat::Ndjson {
        folder: files.clone(),
    };
    world.config.flush.rows = 1;
    world.config.flush.retry_first = Duration::from_millis(1);
    world.config.flush.retry_max = Duration::from_millis(1);
    let lake = world.open().await;
    let gateway = &gateway(&lake);
    // A file stands where the folder has to be.
    std::fs::write(&files, "in the way").unwrap();
    gateway.push(rows("ana", 0, 3)).await.unwrap();
    let error = gateway.flush(None).await.unwrap_err().to_string();
    assert!(error.contains("NDJSON files"), "{error}");
    let last = gateway.metrics().stats.flush_error.unwrap();
    assert_eq!((last.at_ms, last.text), (NOW_MS, error));
    assert_eq!(count(&lake, "t").await, 3, "nothing is lost meanwhile");
    std::fs::remove_file(&files).unwrap();
    let mut flushed = gateway.on_flushed();
    while_flushing(gateway, async {
        flushed.changed().await.unwrap();
    })
    .await;
    let stats = gateway.metrics().stats;
    assert_eq!((stats.flush_error, stats.flush_failures), (None, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_nothing_that_only_this_machine_has() {
    let world = World::new();
    let lake = world.open().await;
    gateway(&lake).push(rows("ana", 0, 5)).await.unwrap();
    assert_eq!(gateway(&lake).drain().await.unwrap().len(), 1);
    assert_eq!(gateway(&lake).metrics().hot.unflushed_deltas, 0);
    assert_eq!(gateway(&lake).drain().await.unwrap(), []);
}

/// Every line of every file below `folder`.
fn lines(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(lines(&path)),
            false => found.extend(
                std::fs::read_to_string(&path)
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            ),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_files_hold_every_flushed_delta_once_as_the_wire_has_it() {
    let mut world = World::new();
    let folder = world.folder.path().join("ndjson");
    world.config.flush_format = FlushFormat::Ndjson {
        folder: folder.clone(),
    };
    let lake = world.open().await;
    let (first, second) = (rows("ana", 0, 1_200), rows("bo", 1_200, 1_300));
    for push in [first.clone(), second.clone()] {
        gateway(&lake).push(push).await.unwrap();
        gateway(&lake).flush(None).await.unwrap();
        world.clock.advance(24 * 60 * 60 * 1_000);
    }
    assert!(folder.join("public/t/2023-11-14/1-1200.ndjson").is_file());
    assert!(
        folder
            .join("public/t/2023-11-15/1201-1300.ndjson")
            .is_file()
    );
    let mut found: Vec<(u64, String)> = lines(&folder)
        .iter()
        .map(|line| {
            let delta: serde_json::Value = serde_json::from_str(line).unwrap();
            let seq = delta["seq"].as_str().unwrap().parse().unwrap();
            (seq, delta["deltaId"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    let sent = first.deltas.iter().chain(&second.deltas);
    let sent = sent.map(|delta| delta.delta_id.to_string());
    assert_eq!(found, (1..).zip(sent).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_hard_limit_pushes_wait_until_compaction_has_made_room() {
    let mut world = World::new();
    world.config.pressure.hot_bytes_hard = 20_000;
    world.config.pressure.hot_bytes_soft = 5_000;
    let lake = world.open().await;
    let gateway = &gateway(&lake);
    gateway.push(rows("ana", 0, 30)).await.unwrap();
    assert!(gateway.is_pressed());
    let mut refused = None;
    for n in 1..100 {
        match gateway.push(rows("ana", n * 30, n * 30 + 30)).await {
            Ok(_) => {}
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let lakesync_gateway::Error::Refused(refused) = refused.expect("memory is bounded") else {
        panic!("it is told to come back");
    };
    assert_eq!(refused.code, ErrorCode::BackpressureError);
    assert_eq!(refused.details["retryAfterMs"], 2_000);
    assert!(gateway.pull(Seq::ZERO, 10).await.is_ok(), "reads go on");
    gateway.flush(None).await.unwrap();
    lake.sql("call system.compact('t')").await.unwrap();
    assert_eq!(gateway.metrics().hot.bytes, 0);
    gateway.push(rows("bo", 4_000, 4_010)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_on_the_disk_pushes_are_refused_and_reads_go_on() {
    let mut world = World::new();
    drop(world.open().await);
    world.config.pressure.disk_reserve_bytes = u64::MAX;
    let lake = world.open().await;
    let error = gateway(&lake).push(rows("ana", 0, 1)).await.unwrap_err();
    assert_eq!(refusal(error).0, ErrorCode::StorageFull);
    assert_eq!(count(&lake, "t").await, 0);
}

fn folder_of(lake: &Lake, world: &World, config: GatewayConfig) -> GatewayFolder {
    let folder = world.folder.path().join("more");
    std::fs::create_dir_all(&folder).unwrap();
    GatewayFolder {
        warehouse: gateway(lake).live().warehouse().clone(),
        folder,
        clock: Arc::clone(&world.clock) as Arc<dyn WallClock>,
        lock: None,
        config,
        overrides: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_made_while_others_serve_and_once_however_often_it_is_asked_for() {
    let world = World::new();
    let lake = world.open().await;
    let folder = folder_of(&lake, &world, GatewayConfig::default());
    let gateways = Gateways::in_folder(folder, PressureLimits::of_process());
    let name = GatewayId::parse("tenant").unwrap();
    let error = gateways.find("tenant").unwrap_err();
    assert_eq!(refusal(error).0, ErrorCode::NotFound);
    let mut count = gateways.count();
    let (one, two) = tokio::join!(gateways.create(name.clone()), gateways.create(name.clone()));
    assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    assert!(count.has_changed().unwrap() && *count.borrow_and_update() == 1);
    let clone = gateways.clone();
    assert!(Arc::ptr_eq(
        &clone.find("tenant").unwrap(),
        &gateways.get("tenant").unwrap()
    ));
    let tenant = gateways.get("tenant").unwrap();
    let table = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;
    tenant
        .put_schema(&serde_json::from_str(table).unwrap())
        .await
        .unwrap();
    tenant.push(rows("ana", 0, 1)).await.unwrap();
    tenant.push(rows("ana", 1, 2)).await.unwrap();
    assert!(gateways.load().hot_bytes() > 0, "it counts for the process");
    let fixed = Gateways::new([gateway(&lake)]);
    let error = fixed.create(name).await.unwrap_err();
    assert_eq!(refusal(error).0, ErrorCode::NotSupported);
}

fn duplicates(from: u64, to: u64) -> Vec<Outcome> {
    (from..=to).map(|n| Outcome::Duplicate(seq(n))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_above_the_mark_answers_as_one_that_reads_everything() {
    let world = World::new();
    let lake = world.open().await;
    let table = r#"{"table": "u", "columns": [{"name": "v", "type": "long"}]}"#;
    lake.create_table(table).await.unwrap();
    // A push of both tables, of which one is flushed: the mark lies inside of it.
    let mixed = |from: u64| -> Vec<RowDelta> {
        let deltas = (from..from + 4).map(|n| {
            let table = if n % 2 == 0 { "t" } else { "u" };
            delta_of(table, "ana", &format!("r{n}"), NOW_MS + n, 1)
        });
        deltas.collect()
    };
    let (first, second) = (push(mixed(0)), push(mixed(4)));
    gateway(&lake).push(first.clone()).await.unwrap();
    gateway(&lake).flush(None).await.unwrap();
    gateway(&lake).push(second.clone()).await.unwrap();
    gateway(&lake).flush(Some("t")).await.unwrap();
    gateway(&lake).push(rows("bo", 100, 103)).await.unwrap();
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    for round in 0..2 {
        let lake = world.open().await;
        let gateway = &gateway(&lake);
        assert_eq!(*gateway.epoch(), epoch);
        let late = delta("ana", &format!("late{round}"), NOW_MS, 1);
        let fresh = gateway.push(push(vec![late])).await.unwrap();
        assert_eq!(fresh.outcomes, [Outcome::Accepted(seq(12 + round))]);
        for (sent, seqs) in [(&first, (1, 4)), (&second, (5, 8))] {
            let again = gateway.push(sent.clone()).await.unwrap();
            assert_eq!(again.outcomes, duplicates(seqs.0, seqs.1));
        }
        let mut reused = first.deltas[0].clone();
        reused.op = Op::Update;
        let error = gateway.push(push(vec![reused])).await.unwrap_err();
        assert_eq!(refusal(error).0, ErrorCode::DeltaIdReused);
        for limit in [1, 3, 100] {
            let expected: Vec<u64> = (1..=12 + round).collect();
            assert_eq!(pulled(gateway, limit).await, expected, "limit {limit}");
        }
        let counts = (count(&lake, "t").await, count(&lake, "u").await);
        assert_eq!(counts, (8 + i64::try_from(round).unwrap(), 4));
    }
}
