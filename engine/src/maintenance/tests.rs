//! The scheduler on a lake with a clock that stands still.

use std::sync::Arc;

use lakesync_compactor::strategy::{FoldPolicy, JobKind, MaintenancePolicy, Reason};
use lakesync_proto::{GatewayId, ManualClock, TableName};
use tokio::sync::watch;

use super::*;
use crate::lake::Lake;

const NOW_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 60 * 60 * 1_000;
const TABLE: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;

/// Only folds, from the third row on.
fn folding() -> MaintenanceSettings {
    let mut policy = MaintenancePolicy {
        fold: FoldPolicy {
            when_rows: 3,
            ..FoldPolicy::default()
        },
        expire_every: None,
        orphans_every: None,
        compact_log_every: None,
        ..MaintenancePolicy::default()
    };
    policy.rewrite.every = None;
    MaintenanceSettings {
        policy,
        ..MaintenanceSettings::default()
    }
}

struct World {
    lake: Lake,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn with(settings: MaintenanceSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let lake = Lake::builder(folder.path()).with_clock(Arc::clone(&clock) as _);
        let lake = lake.with_maintenance(settings).open().await.unwrap();
        lake.create_table(TABLE).await.unwrap();
        Self {
            lake,
            clock,
            _folder: folder,
        }
    }

    async fn sql(&self, sql: &str) -> usize {
        let rows = self
            .lake
            .sql(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = rows.collect().await.unwrap();
        rows.iter().map(|batch| batch.num_rows()).sum()
    }

    async fn flushed(&self, from: i64, to: i64) {
        let values: Vec<String> = (from..to).map(|n| format!("({n})")).collect();
        self.sql(&format!("insert into t (v) values {}", values.join(", ")))
            .await;
        self.sql("call system.flush('t')").await;
    }

    fn counts(&self, kind: JobKind) -> (u64, u64) {
        let gateway = self.lake.gateway("public").unwrap();
        let kinds = gateway.maintenance_stats().snapshot().kinds;
        kinds
            .get(kind.as_str())
            .map_or((0, 0), |counts| (counts.runs, counts.failures))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_rows_are_folded_when_enough_wait() {
    let world = World::with(folding()).await;
    let mut work = Maintenance::new(world.lake.clone());
    world.sql("insert into t (v) values (1), (2)").await;
    assert!(work.next().await.is_none(), "nothing is flushed");
    world.sql("call system.flush('t')").await;
    assert!(work.next().await.is_none(), "two rows are not enough");
    world.flushed(3, 4).await;
    let due = work.next().await.unwrap();
    assert_eq!(
        (due.place.table.as_ref(), due.job.reason()),
        ("t", Reason::Rows)
    );
    work.perform(due).await;
    assert!(work.next().await.is_none(), "it is folded");
    let gateway = world.lake.gateway("public").unwrap();
    let tables = gateway.live().tables();
    assert_eq!(
        (tables[0].hot.deltas, tables[0].base),
        (0, tables[0].flushed)
    );
    assert_eq!(world.sql("select * from t").await, 3);
    assert_eq!(world.counts(JobKind::Fold), (1, 0));
    let size = gateway.maintenance_stats().snapshot().size();
    assert_eq!((size.base_files, size.log_files), (1, 2));

    world.flushed(4, 5).await;
    assert!(work.next().await.is_none(), "one row waits");
    world.clock.advance(HOUR_MS);
    let due = work.next().await.unwrap();
    assert_eq!(due.job.reason(), Reason::Age);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_waits_for_its_retry_and_keeps_no_other_table_waiting() {
    let world = World::with(folding()).await;
    world
        .lake
        .create_table(&TABLE.replace("\"t\"", "\"u\""))
        .await
        .unwrap();
    world.flushed(1, 9).await;
    let mut work = Maintenance::new(world.lake.clone());
    let mut due = work.next().await.unwrap();
    // The table is not there when its turn comes.
    due.place.table = TableName::parse("gone").unwrap();
    work.perform(due).await;
    assert_eq!(world.counts(JobKind::Fold), (0, 1));
    let due = work.next().await.unwrap();
    assert_eq!(
        due.place.table.as_ref(),
        "t",
        "another table is not kept from its turn"
    );
    work.perform(due).await;
    assert_eq!(world.counts(JobKind::Fold), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_table_is_left_alone_until_it_is_resumed_also_after_a_restart() {
    let world = World::with(folding()).await;
    world.flushed(1, 9).await;
    world.sql("call system.pause_maintenance('t')").await;
    assert!(Maintenance::new(world.lake.clone()).next().await.is_none());
    let World {
        lake,
        clock,
        _folder,
    } = world;
    drop(lake);
    let lake = Lake::builder(_folder.path()).with_clock(Arc::clone(&clock) as _);
    let lake = lake.with_maintenance(folding()).open().await.unwrap();
    let world = World {
        lake,
        clock,
        _folder,
    };
    let mut work = Maintenance::new(world.lake.clone());
    assert!(work.next().await.is_none(), "the catalog has the pause");
    assert_eq!(
        world.sql("call system.compact('t')").await,
        1,
        "a person is not stopped"
    );
    world.flushed(9, 19).await;
    assert!(work.next().await.is_none());
    world.sql("call system.resume_maintenance()").await;
    world.clock.advance(10_000);
    assert!(work.next().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_holds_the_fence_maintains() {
    let world = World::with(folding()).await;
    world.flushed(1, 9).await;
    let gateway = world.lake.gateway("public").unwrap();
    let (warehouse, id) = (gateway.live().warehouse(), gateway.id().clone());
    let held = gateway.fence().token;
    let key = lakesync_providers::lake::FENCE;
    let mut work = Maintenance::new(world.lake.clone());
    assert!(work.next().await.is_some(), "it holds the fence");

    let mut follower = Maintenance::new(world.lake.clone());
    let expected = [(key, Some(held.as_str()))];
    warehouse
        .set_namespace_properties(&id, &expected, &[(key, Some("another"))])
        .await
        .unwrap();
    assert!(follower.next().await.is_none(), "another process holds it");
    // One that believed so until now finds out when it commits, and does nothing more.
    let due = work.next().await.unwrap();
    work.perform(due).await;
    assert_eq!(world.counts(JobKind::Fold), (0, 1));
    assert!(gateway.live().view("t").unwrap().base.snapshot_id.is_none());
    world.clock.advance(HOUR_MS);
    assert!(work.next().await.is_none());
    let error = world
        .lake
        .sql("insert into t (v) values (1)")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("took it over"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_goes_on_while_flushes_renew_the_fence() {
    let world = World::with(folding()).await;
    world.flushed(1, 9).await;
    let gateway = world.lake.gateway("public").unwrap();
    let old = gateway.fence();
    world.flushed(9, 12).await;
    assert_ne!(gateway.fence(), old, "a flush gives it another turn");
    let config = lakesync_compactor::CompactionConfig::default();
    let report = lakesync_compactor::compact(gateway.live(), "t", Some(&old), &config)
        .await
        .unwrap();
    assert_eq!(report.base_seq.as_u64(), 11);
    assert!(gateway.leads().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_made_later_is_looked_after_and_the_task_ends_when_told() {
    let world = World::with(folding()).await;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(Maintenance::new(world.lake.clone()).run(stopped));
    let id = GatewayId::parse("later").unwrap();
    let later = world.lake.registry().create(id).await.unwrap();
    let table = serde_json::from_str(TABLE).unwrap();
    later.put_schema(&table).await.unwrap();
    world
        .sql("insert into later.t (v) values (1), (2), (3), (4)")
        .await;
    world.sql("call system.flush('later.t')").await;
    let view = || later.live().view("t").unwrap();
    let folded = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        while view().base.snapshot_id.is_none() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), folded)
        .await
        .expect("it is folded");
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(world.sql("select * from later.t").await, 4);
}
