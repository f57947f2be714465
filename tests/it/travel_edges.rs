//! Past moments that a random history does not reach: tags, what has been expired, a wall clock that steps back, and
//! sessions that are not ours.

use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use iceberg::{TableIdent, TableUpdate};
use lakesync::Lake;
use lakesync_proto::{ManualClock, WallClock};
use lakesync_providers::{LakeCatalog, PastTable, Pinned, TravelLimits, register};

const TABLE: &str =
    r#"{"table": "t", "primaryKey": ["id"], "columns": [{"name": "id", "type": "long"}]}"#;
/// 2100-01-01T00:00:00Z.
const NOW_MS: u64 = 4_102_444_800_000;

/// A lake whose clock is ours.
struct Clocked {
    lake: Lake,
    clock: Arc<ManualClock>,
}

impl Clocked {
    async fn open(folder: &Path) -> Clocked {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let shared = Arc::clone(&clock) as Arc<dyn WallClock>;
        let lake = Lake::builder(folder)
            .with_clock(shared)
            .open()
            .await
            .unwrap();
        lake.create_table(TABLE).await.unwrap();
        Clocked { lake, clock }
    }

    async fn run(&self, sql: &str) -> Result<i64, String> {
        let said = |error: lakesync::Error| error.to_string();
        let frame = self.lake.sql(sql).await.map_err(said)?;
        let batches = frame.collect().await;
        let batches = batches.map_err(|error| said(lakesync::Error::from(error)))?;
        let numbers = batches.iter().filter(|batch| batch.num_rows() > 0);
        let mut numbers =
            numbers.filter_map(|batch| batch.column(0).as_primitive_opt::<Int64Type>());
        Ok(numbers.next().map_or(0, |numbers| numbers.value(0)))
    }

    /// Adds a row when the clock shows so many milliseconds more than at the beginning.
    async fn insert(&self, id: u32, after_ms: u64) {
        self.clock.set(NOW_MS + after_ms);
        let sql = format!("insert into t (id) values ({id})");
        self.run(&sql).await.unwrap();
    }

    /// How many rows there are as of a clause.
    async fn rows(&self, clause: &str) -> Result<i64, String> {
        self.run(&format!("select count(*) from t {clause}")).await
    }

    async fn fold(&self) {
        self.run("call system.flush('t')").await.unwrap();
        self.run("call system.compact('t')").await.unwrap();
    }

    /// What another program does to the base or to the log.
    async fn change(&self, table: &str, update: TableUpdate) {
        let gateway = self.lake.gateway("public").unwrap();
        let ident = TableIdent::from_strs(["public", table]).unwrap();
        let catalog = gateway.live().warehouse().catalog();
        let updates = vec![update];
        catalog
            .commit(&ident, Vec::new(), updates, None)
            .await
            .unwrap();
    }

    fn snapshots(&self) -> (i64, i64) {
        let view = self
            .lake
            .gateway("public")
            .unwrap()
            .live()
            .view("t")
            .unwrap();
        (
            view.base.snapshot_id.unwrap(),
            view.log.snapshot_id.unwrap(),
        )
    }
}

fn tag(name: &str, snapshot: i64) -> TableUpdate {
    let retention = SnapshotRetention::Tag {
        max_ref_age_ms: None,
    };
    TableUpdate::SetSnapshotRef {
        ref_name: name.to_owned(),
        reference: SnapshotReference::new(snapshot, retention),
    }
}

fn branch(name: &str, snapshot: i64) -> TableUpdate {
    TableUpdate::SetSnapshotRef {
        ref_name: name.to_owned(),
        reference: SnapshotReference::new(snapshot, SnapshotRetention::branch(None, None, None)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_branches_that_another_program_made_name_what_their_snapshots_cover() {
    let folder = tempfile::tempdir().unwrap();
    let world = Clocked::open(folder.path()).await;
    world.insert(1, 0).await;
    world.fold().await;
    let (base, log) = world.snapshots();
    world.insert(2, 1).await;
    world.run("call system.flush('t')").await.unwrap();
    let (_, later_log) = world.snapshots();
    world.insert(3, 2).await;

    world.change("t", tag("audit", base)).await;
    world.change("t", branch("it's@work", base)).await;
    world.change("t__deltas", tag("flushed", later_log)).await;
    world.change("t", tag("same", base)).await;
    world.change("t__deltas", tag("same", log)).await;
    world.change("t", tag("other", base)).await;
    world.change("t__deltas", tag("other", later_log)).await;
    for (clause, rows) in [
        ("version as of 'audit'", 1),
        ("for version as of 'it''s@work'", 1),
        ("version as of 'flushed'", 2),
        ("at (version => 'same')", 1),
        ("", 3),
    ] {
        assert_eq!(world.rows(clause).await, Ok(rows), "{clause}");
    }
    let error = world.rows("version as of 'other'").await.unwrap_err();
    let said = "`other` names two states of `t`: seq 1 in its base, seq 2 in its log";
    assert!(error.contains(said), "{error}");
    let error = world.rows("version as of 'nobody'").await.unwrap_err();
    assert!(error.contains("has no tag or branch `nobody`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_expired_is_refused_by_the_horizon_and_what_is_kept_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = Clocked::open(folder.path()).await;
    world.insert(1, 0).await;
    world.fold().await;
    let (first, _) = world.snapshots();
    world.insert(2, 1_000).await;
    world.clock.set(NOW_MS + 2_000);
    world.fold().await;
    world.insert(3, 3_000).await;
    world.fold().await;
    world.insert(4, 4_000).await;
    assert_eq!(world.rows("at (seq => 1)").await, Ok(1));

    let snapshot_ids = vec![first];
    let expire = TableUpdate::RemoveSnapshots { snapshot_ids };
    world.change("t", expire).await;
    drop(world);
    world = Clocked::open(folder.path()).await;
    world.clock.set(NOW_MS + 5_000);
    for (clause, rows) in [
        ("at (seq => 2)", 2),
        ("at (seq => 3)", 3),
        ("timestamp as of '2100-01-01T00:00:02Z'", 2),
        ("timestamp as of '2100-01-01T00:00:03Z'", 3),
        ("at (hlc => '2100-01-01T00:00:02Z')", 2),
    ] {
        assert_eq!(world.rows(clause).await, Ok(rows), "{clause}");
    }
    for clause in [
        "at (seq => 1)",
        "at (seq => 0)",
        // The rows of seq 2 are known to have been there when they were folded, not before.
        "timestamp as of '2100-01-01T00:00:01.999Z'",
        "timestamp as of '1999-01-01'",
        "at (hlc => '2100-01-01T00:00:00.500Z')",
        "at (seq => 3, hlc => 7)",
    ] {
        let error = world.rows(clause).await.unwrap_err();
        let kept = "its history is kept from seq 2, HLC 268857822478336";
        assert!(error.contains(kept), "{clause}: {error}");
        assert!(error.contains("2100-01-01T00:00:02Z"), "{clause}: {error}");
    }
    let error = world.rows(&format!("version as of {first}")).await;
    assert!(error.unwrap_err().contains("has no snapshot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_cut_before_the_first_delta_that_arrived_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = Clocked::open(folder.path()).await;
    // The wall clock steps back between the first and the second.
    world.insert(1, 2_000).await;
    world.insert(2, 1_000).await;
    world.insert(3, 3_000).await;
    for folded in ["hot", "flushed", "opened again", "folded"] {
        for (time, rows) in [
            ("2100-01-01T00:00:00.999", 0),
            ("2100-01-01T00:00:01.500", 0),
            ("2100-01-01T00:00:02", 2),
            ("2100-01-01T00:00:02.999", 2),
            ("2100-01-01T00:00:03", 3),
        ] {
            let clause = format!("timestamp as of '{time}Z'");
            assert_eq!(world.rows(&clause).await, Ok(rows), "{folded}: {time}");
        }
        match folded {
            "hot" => {
                world.run("call system.flush('t')").await.unwrap();
            }
            "flushed" => {
                drop(world);
                world = Clocked::open(folder.path()).await;
                world.clock.set(NOW_MS + 3_000);
            }
            _ => world.fold().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_anybodys_reads_the_past_by_name_and_by_function() {
    let folder = tempfile::tempdir().unwrap();
    let world = Clocked::open(folder.path()).await;
    world.insert(1, 0).await;
    world.insert(2, 1).await;
    let views = world.lake.gateway("public").unwrap().live().views();
    let catalog = LakeCatalog::default().with_gateway(views.clone(), None);
    let ctx = SessionContext::new();
    register(&ctx, "sea", &Arc::new(catalog)).unwrap();
    let run = async |sql: &str| -> Result<i64, String> {
        let frame = ctx.sql(sql).await.map_err(|error| error.to_string())?;
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        let first = batches.first();
        Ok(first.map_or(0, |batch| {
            batch.column(0).as_primitive::<Int64Type>().value(0)
        }))
    };
    run("create view v as select * from sea.public.\"t@seq:1\"")
        .await
        .unwrap();
    for (from, rows) in [
        ("sea.public.t", 2),
        ("v", 1),
        ("sea.public.\"t@timestamp:2020-01-01 00:00:00\"", 0),
        ("sea.public.\"t@seq:2@hlc:7\"", 0),
        ("lake_at('public.t', 'seq', 1)", 1),
        ("lake_at('sea.public.t', 'seq', 2, 'hlc', 7)", 0),
    ] {
        let counted = run(&format!("select count(*) from {from}")).await;
        assert_eq!(counted, Ok(rows), "{from}");
    }
    let ahead = run("select * from sea.public.\"t@timestamp:2100-01-01\"").await;
    assert!(ahead.unwrap_err().contains("yet: it is"));
    let named = run("select count(*) from lake_at('public.t', 'seq', 1, hlc => 7)").await;
    assert!(named.unwrap_err().contains("by position"));
    run("set datafusion.sql_parser.dialect = 'Databricks'")
        .await
        .unwrap();
    let clause = run("select count(*) from sea.public.t version as of 7").await;
    assert!(clause.unwrap_err().contains("cannot be read here"));

    let pinned = Pinned::parse("t@seq:1").unwrap();
    let limits = TravelLimits {
        overlay_deltas_max: 0,
        ..TravelLimits::default()
    };
    let table = PastTable::new(&views, pinned).unwrap();
    let frame = ctx.read_table(Arc::new(table.with_limits(limits))).unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let shown = datafusion::physical_plan::displayable(plan.as_ref());
    let shown = shown.indent(false).to_string();
    let said = "fold=spill, view_seq=1, base_seq=0, deltas=1, parts=1";
    assert!(shown.contains(said), "{shown}");
}
