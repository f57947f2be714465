//! Cleaning the lake: the log's files, manifests, orphans, and the durable log. Nothing that was answered changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::util::pretty::pretty_format_batches;
use lakesync::Lake;
use lakesync_compactor::{
    Act, CompactionConfig, Effort, Error, LogRewriteOptions, OrphanOptions, compact,
    log_rewrite_due, manifests_due, remove_orphan_files, rewrite_log, rewrite_manifests,
};
use lakesync_gateway::Gateway;
use lakesync_proto::{ErrorCode, Outcome, Seq};
use lakesync_providers::ParquetTable;
use lakesync_providers::lake::{Commit, WriteOptions, live_files, log_files, write_data_files};

use crate::gateway::{NOW_MS, World, delta, gateway, pulled, push};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const HOUR_MS: u64 = 60 * 60 * 1_000;

async fn shown(lake: &Lake, sql: &str) -> String {
    let rows = lake.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&rows).unwrap().to_string()
}

/// What anybody can ask of the table, now and in the past.
async fn answers(lake: &Lake, gateway: &Gateway) -> Vec<String> {
    let last = gateway.live().seq().as_u64();
    let mut answers = vec![
        shown(lake, "select * from t order by row_id").await,
        shown(lake, "select * from \"t$deltas\" order by _seq").await,
        shown(
            lake,
            &format!("select * from changes('t', 0, {last}) order by 1, 2, 3"),
        )
        .await,
        format!("{:?}", pulled(gateway, 7).await),
    ];
    for seq in [1, last / 3, last / 2, last] {
        let sql = format!("select * from t at (seq => {seq}) order by row_id");
        answers.push(shown(lake, &sql).await);
    }
    let hlc = format!(
        "select * from t at (hlc => '{}') order by row_id",
        lakesync_proto::Hlc::new(NOW_MS + 30, 0).unwrap()
    );
    answers.push(shown(lake, &hlc).await);
    answers
}

/// `flushes` flushes of three deltas each; every third brings a delta of an hour ago.
async fn flush_often(gateway: &Arc<Gateway>, from: u64, flushes: u64) {
    flush_on(gateway, 0, from, flushes).await;
}

/// The same so many days later.
async fn flush_on(gateway: &Arc<Gateway>, day: u64, from: u64, flushes: u64) {
    for n in from..from + flushes {
        let now = NOW_MS + day * DAY_MS + n;
        let mut deltas = vec![
            delta(
                "ana",
                &format!("r{}", n % 11),
                now,
                i64::try_from(n).unwrap(),
            ),
            delta("ana", &format!("new{n}"), now, 1),
        ];
        if n % 3 == 2 {
            deltas.push(delta("ana", &format!("r{}", n % 7), now - HOUR_MS, -1));
        }
        gateway.push(push(deltas)).await.unwrap();
        gateway.flush(None).await.unwrap();
    }
}

fn thorough() -> LogRewriteOptions {
    LogRewriteOptions {
        effort: Effort::Thorough,
        ..LogRewriteOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_log_answers_as_before_in_fewer_files() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = gateway(&lake);
    let live = gateway.live();
    flush_often(&gateway, 0, 12).await;
    let fence = gateway.fence();
    compact(live, "t", Some(&fence), &CompactionConfig::default())
        .await
        .unwrap();
    world.clock.advance(DAY_MS);
    flush_on(&gateway, 1, 12, 8).await;
    let before = answers(&lake, &gateway).await;

    let due = log_rewrite_due(live, "t", &thorough()).await.unwrap();
    let report = rewrite_log(live, "t", Some(&gateway.fence()), &thorough())
        .await
        .unwrap();
    // Of two days, one folded and one not, the prompt deltas and the late ones.
    assert_eq!((due.len(), report.files_added), (4, 4));
    assert_eq!((report.files_removed, report.rows), (26, 46));
    assert_eq!(answers(&lake, &gateway).await, before);

    let view = live.view("t").unwrap();
    let files = log_files(&view.log.table, view.log.snapshot_id)
        .await
        .unwrap();
    assert_eq!(files.len(), 4);
    let mut days: Vec<_> = files
        .iter()
        .map(|file| (file.day, file.info.rows))
        .collect();
    days.sort_unstable();
    let day = i32::try_from(NOW_MS / DAY_MS).unwrap();
    assert_eq!(
        days,
        [
            (Some(day), 4),
            (Some(day), 24),
            (Some(day + 1), 2),
            (Some(day + 1), 16)
        ]
    );
    assert_eq!(view.log.max_seq, Seq::from_u64(46).unwrap());
    let again = rewrite_log(live, "t", Some(&gateway.fence()), &thorough())
        .await
        .unwrap();
    assert_eq!(again.files_removed, 0, "there is nothing left to do");

    // What follows goes on from the rewritten log: flush, fold, and opening again.
    flush_on(&gateway, 1, 20, 3).await;
    let before = answers(&lake, &gateway).await;
    compact(
        live,
        "t",
        Some(&gateway.fence()),
        &CompactionConfig::default(),
    )
    .await
    .unwrap();
    rewrite_log(live, "t", Some(&gateway.fence()), &thorough())
        .await
        .unwrap();
    assert_eq!(answers(&lake, &gateway).await, before);
    drop((view, gateway, lake));
    let lake = world.open().await;
    assert_eq!(
        answers(&lake, &crate::gateway::gateway(&lake)).await,
        before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_rewrite_waits_until_it_is_worth_it_and_flushes_go_on() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = gateway(&lake);
    let live = gateway.live();
    let thrifty = LogRewriteOptions::default();
    flush_often(&gateway, 0, 4).await;
    assert!(
        log_rewrite_due(live, "t", &thrifty)
            .await
            .unwrap()
            .is_empty()
    );
    flush_often(&gateway, 4, 1).await;
    let before = answers(&lake, &gateway).await;
    let rewriting = rewrite_log(live, "t", None, &thrifty);
    let flushing = flush_often(&gateway, 5, 1);
    let (report, ()) = tokio::join!(rewriting, flushing);
    assert_eq!(
        report.unwrap().files_removed,
        5,
        "the prompt files of five flushes"
    );
    let view = live.view("t").unwrap();
    assert_eq!(
        view.log.max_seq,
        live.seq(),
        "the flush beside it is published"
    );
    let shown = answers(&lake, &gateway).await;
    assert_ne!(shown, before);
    drop((view, gateway, lake));
    let lake = world.open().await;
    assert_eq!(answers(&lake, &crate::gateway::gateway(&lake)).await, shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_manifests_change_no_answer() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = gateway(&lake);
    let live = gateway.live();
    for round in 0..3 {
        flush_often(&gateway, round * 4, 4).await;
        compact(
            live,
            "t",
            Some(&gateway.fence()),
            &CompactionConfig::default(),
        )
        .await
        .unwrap();
    }
    flush_often(&gateway, 12, 2).await;
    let before = answers(&lake, &gateway).await;
    let due = manifests_due(live, "t").await.unwrap();
    assert!(due >= 14, "{due}");
    let report = rewrite_manifests(live, "t", Some(&gateway.fence()))
        .await
        .unwrap();
    assert!(report.rewritten >= due && report.added <= 2, "{report:?}");
    assert_eq!(manifests_due(live, "t").await.unwrap(), 0);
    assert_eq!(answers(&lake, &gateway).await, before);
    flush_often(&gateway, 14, 2).await;
    compact(
        live,
        "t",
        Some(&gateway.fence()),
        &CompactionConfig::default(),
    )
    .await
    .unwrap();
    let now = answers(&lake, &gateway).await;
    drop((gateway, lake));
    let lake = world.open().await;
    assert_eq!(answers(&lake, &crate::gateway::gateway(&lake)).await, now);
}

fn machine_ms() -> u64 {
    let since = UNIX_EPOCH.elapsed();
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap()
}

/// Every file of the warehouse.
fn on_disk(world: &World) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![world.folder.path().join("warehouse")], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn age(file: &Path, ms: u64) {
    let modified: SystemTime = UNIX_EPOCH + Duration::from_millis(machine_ms() - ms);
    let file = fs::File::options().append(true).open(file).unwrap();
    file.set_modified(modified).unwrap();
}

/// Puts a file there that was written so long ago.
fn stray(world: &World, name: &str, age_ms: u64) -> PathBuf {
    let path = world.folder.path().join("warehouse/public").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "x").unwrap();
    age(&path, age_ms);
    path
}

async fn removed(gateway: &Gateway, options: &OrphanOptions) -> Vec<String> {
    let report = remove_orphan_files(gateway.live(), "t", options, async {}).await;
    let report = report.unwrap();
    report
        .locations
        .iter()
        .map(|uri| uri.rsplit_once("/public/").unwrap().1.to_owned())
        .collect()
}

fn dry() -> OrphanOptions {
    OrphanOptions {
        act: Act::Tell,
        ..OrphanOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_old_files_of_this_table_that_no_snapshot_has() {
    let world = World::new();
    let lake = world.open().await;
    lake.create_table(r#"{"table": "u", "columns": [{"name": "v", "type": "long"}]}"#)
        .await
        .unwrap();
    let gateway = gateway(&lake);
    flush_often(&gateway, 0, 3).await;
    compact(gateway.live(), "t", None, &CompactionConfig::default())
        .await
        .unwrap();
    flush_often(&gateway, 3, 3).await;
    compact(gateway.live(), "t", None, &CompactionConfig::default())
        .await
        .unwrap();
    rewrite_log(gateway.live(), "t", None, &thorough())
        .await
        .unwrap();
    let before = answers(&lake, &gateway).await;
    world.clock.set(machine_ms());
    let own = on_disk(&world);
    own.iter().for_each(|file| age(file, 30 * DAY_MS));
    assert!(
        removed(&gateway, &dry()).await.is_empty(),
        "all of it is reached, the past too"
    );

    let old = 4 * DAY_MS;
    let orphans = [
        "t/data/base-00000-w.parquet#1",
        "t/data/base-00000-x.parquet",
        "t/data/base-00000-x.parquet.keys",
        "t/metadata/snap-1-x.avro",
        "t__deltas/data/_arrived_day=2023-11-14/log-x.parquet",
        "t__deltas/metadata/00001-x.metadata.json",
    ];
    let strays = orphans.map(|name| stray(&world, name, old));
    let kept = [
        stray(&world, "t/data/young.parquet", 2 * DAY_MS),
        stray(&world, "t/data/_temporary/x.parquet", old),
        stray(&world, "t/metadata/version-hint.text", old),
        stray(&world, "u/data/orphan-of-u.parquet", old),
        stray(&world, "t2/data/x.parquet", old),
    ];
    assert_eq!(removed(&gateway, &dry()).await, orphans);
    assert!(
        strays.iter().all(|file| file.exists()),
        "a dry run removes nothing"
    );
    let data = OrphanOptions {
        location: Some(format!(
            "file://{}/warehouse/public/t/data",
            world.folder.path().canonicalize().unwrap().display()
        )),
        ..OrphanOptions::default()
    };
    assert_eq!(removed(&gateway, &data).await, orphans[..3]);
    assert_eq!(
        removed(&gateway, &OrphanOptions::default()).await,
        orphans[3..]
    );
    assert!(strays.iter().all(|file| !file.exists()));
    assert!(own.iter().chain(&kept).all(|file| file.exists()));
    let young = OrphanOptions {
        older_than_ms: Some(machine_ms() - DAY_MS - HOUR_MS),
        ..OrphanOptions::default()
    };
    assert_eq!(removed(&gateway, &young).await, ["t/data/young.parquet"]);
    assert_eq!(answers(&lake, &gateway).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn orphan_removal_refuses_what_would_be_dangerous() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = gateway(&lake);
    world.clock.set(machine_ms());
    let run = async |options: OrphanOptions| match remove_orphan_files(
        gateway.live(),
        "t",
        &options,
        async {},
    )
    .await
    {
        Err(Error::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let young = OrphanOptions {
        older_than_ms: Some(machine_ms() - HOUR_MS),
        ..OrphanOptions::default()
    };
    assert!(run(young.clone()).await.contains("less than 24 hours ago"));
    let told = OrphanOptions {
        act: Act::Tell,
        ..young
    };
    assert!(removed(&gateway, &told).await.is_empty());
    let root = world.folder.path().canonicalize().unwrap();
    let folder = format!("file://{}/warehouse/public", root.display());
    for outside in [
        folder.clone(),
        format!("{folder}/u"),
        format!("{folder}/t/../u"),
    ] {
        let options = OrphanOptions {
            location: Some(outside),
            ..OrphanOptions::default()
        };
        assert!(run(options).await.contains("is outside table `t`"));
    }
}

/// A job that began before the listing and commits after it: its files are listed and not reached yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_committed_while_orphans_are_looked_for_stays() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = gateway(&lake);
    flush_often(&gateway, 0, 2).await;
    let view = gateway.live().view("t").unwrap();
    let log = view.log.table.clone();
    let ctx = lakesync_providers::session(&view.warehouse);
    let files = live_files(&log, view.log.snapshot_id).await.unwrap();
    let rows = ParquetTable::open(&view.warehouse, &log, files.into()).unwrap();
    let rows = ctx
        .read_table(Arc::new(rows))
        .unwrap()
        .collect()
        .await
        .unwrap();
    let files = write_data_files(&log, rows, &WriteOptions::new("late"))
        .await
        .unwrap();
    world.clock.set(machine_ms());
    on_disk(&world)
        .iter()
        .for_each(|file| age(file, 30 * DAY_MS));
    let paths: Vec<String> = files
        .iter()
        .map(|file| file.file_path().to_owned())
        .collect();
    let warehouse = view.warehouse.clone();
    let settled = async {
        let commit = Commit::append(files);
        commit.run(&warehouse, log.identifier()).await.unwrap();
    };
    let options = OrphanOptions::default();
    let report = remove_orphan_files(gateway.live(), "t", &options, settled)
        .await
        .unwrap();
    assert_eq!(report.locations, [""; 0]);
    let pair = view
        .warehouse
        .load(gateway.live().gateway(), view.table())
        .await
        .unwrap();
    let live = live_files(&pair.log, None).await.unwrap();
    for path in paths {
        assert!(live.iter().any(|file| file.path == path));
        assert!(Path::new(path.strip_prefix("file://").unwrap()).exists());
    }
}

/// The outcomes of `deltas`, or the code that they are refused with.
async fn sent(
    gateway: &Gateway,
    deltas: Vec<lakesync_proto::RowDelta>,
) -> Result<Vec<Outcome>, ErrorCode> {
    match gateway.push(push(deltas)).await {
        Ok(ack) => Ok(ack.outcomes),
        Err(error) => Err(crate::gateway::refusal(error).0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_durable_log_answers_as_before_and_knows_what_it_was_sent() {
    let world = World::new();
    let lake = world.open().await;
    let here = gateway(&lake);
    flush_often(&here, 0, 12).await;
    let unflushed = delta("bo", "hot", NOW_MS + 50, 9);
    here.push(push(vec![unflushed.clone()])).await.unwrap();
    let before = answers(&lake, &here).await;
    let nothing = here.compact_log().await.unwrap();
    assert_eq!(
        (nothing.pushes, nothing.clients),
        (0, 0),
        "the pull window holds all"
    );

    world.clock.advance(8 * DAY_MS);
    let done = here.compact_log().await.unwrap();
    assert_eq!(
        (done.pushes, done.clients),
        (12, 0),
        "what is not flushed stays"
    );
    assert_eq!(answers(&lake, &here).await, before);
    drop((here, lake));
    let lake = world.open().await;
    let here = gateway(&lake);
    assert_eq!(
        answers(&lake, &here).await,
        before,
        "pulls read the flushed log now"
    );
    let first = delta("ana", "r0", NOW_MS, 0);
    let known = vec![Outcome::Duplicate(Seq::from_u64(1).unwrap())];
    assert_eq!(sent(&here, vec![first.clone()]).await, Ok(known.clone()));

    // Long after: the clients' marks become one, and it still tells what was sent from what is late.
    here.flush(None).await.unwrap();
    world.clock.advance(100 * DAY_MS);
    let done = here.compact_log().await.unwrap();
    assert_eq!(
        (done.pushes, done.clients),
        (0, 2),
        "the flush let the push go"
    );
    assert_eq!(here.compact_log().await.unwrap().clients, 0);
    let late = delta("ana", "r0", NOW_MS + 1, 77);
    for _ in 0..2 {
        let here = gateway(&lake);
        assert_eq!(sent(&here, vec![first.clone()]).await, Ok(known.clone()));
        assert_eq!(
            sent(&here, vec![unflushed.clone()]).await,
            Ok(vec![Outcome::Duplicate(Seq::from_u64(29).unwrap())])
        );
        assert_eq!(
            sent(&here, vec![late.clone()]).await,
            Err(ErrorCode::LateDelta)
        );
    }
    drop((here, lake));
    let lake = world.open().await;
    let here = gateway(&lake);
    assert_eq!(answers(&lake, &here).await, before);
    assert_eq!(sent(&here, vec![first]).await, Ok(known));
    assert_eq!(
        sent(&here, vec![unflushed]).await,
        Ok(vec![Outcome::Duplicate(Seq::from_u64(29).unwrap())])
    );
    assert_eq!(sent(&here, vec![late]).await, Err(ErrorCode::LateDelta));
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_go_on_between_the_steps_of_a_long_trim() {
    let world = World::new();
    let lake = world.open().await;
    let gateway = gateway(&lake);
    for n in 0..1_000 {
        let delta = delta("ana", &format!("r{}", n % 50), NOW_MS, n);
        gateway.push(push(vec![delta])).await.unwrap();
    }
    gateway.flush(None).await.unwrap();
    world.clock.advance(8 * DAY_MS);
    let trimming = async { gateway.compact_log().await.unwrap() };
    let pushing = async {
        for n in 0..20 {
            let now = NOW_MS + 8 * DAY_MS + n;
            gateway
                .push(push(vec![delta("bo", &format!("b{n}"), now, 1)]))
                .await
                .unwrap();
        }
    };
    let (done, ()) = tokio::join!(trimming, pushing);
    assert_eq!(done.pushes, 1_000);
    let expected: Vec<u64> = (1..=1_020).collect();
    assert_eq!(pulled(&gateway, 100).await, expected);
    drop((gateway, lake));
    let lake = world.open().await;
    assert_eq!(pulled(&crate::gateway::gateway(&lake), 100).await, expected);
}
