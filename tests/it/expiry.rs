//! Expiry, the floor, dropping from the log, rollback and tags, against the product: random histories with late writes,
//! folds and clocks that jump are read as of every kind of moment, and must be what the oracle says or be refused by the
//! horizon.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use lakesync::Lake;
use lakesync::expiry::{self, ExpireRequest};
use lakesync_compactor::expire::{DAILY, DryRun, ExpiryPolicy, RollbackTo, Side};
use lakesync_gateway::{Error, Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, ErrorCode, Hlc, ManualClock, Op, Outcome, Push,
    RowDelta, RowId, Seq, TableName, TableSchema, Value, WallClock,
};
use lakesync_tests::history::Rng;
use lakesync_tests::oracle::{AsOf, Oracle, OracleDelta, with_every_column};
use lakesync_tests::{cells, schemas};

/// 2100-01-01T00:00:00Z.
const START_MS: u64 = 4_102_444_800_000;
/// What the clock moves by, so that days pass: six hours.
const UNIT_MS: u64 = 6 * 60 * 60 * 1000;
/// The late window and the history window, in units.
const W: u64 = 40;
const H: u64 = 60;
const TABLE: &str = r#"{"table": "t", "columns": [{"name": "x", "type": "long"}, {"name": "y", "type": "long"}, {"name": "z", "type": "long"}]}"#;

fn policy() -> ExpiryPolicy {
    ExpiryPolicy {
        history: Duration::from_millis(H * UNIT_MS),
        ..ExpiryPolicy::default()
    }
}

/// A lake with a clock of its own and an oracle.
struct World {
    folder: PathBuf,
    clock: Arc<ManualClock>,
    lake: Option<Lake>,
    oracle: Oracle,
    schema: TableSchema,
    pushed: u16,
}

impl World {
    async fn open(folder: &Path) -> Self {
        let mut world = Self {
            folder: folder.join("lake"),
            clock: Arc::new(ManualClock::new(START_MS)),
            lake: None,
            oracle: Oracle::new(),
            schema: schemas::schema(TABLE),
            pushed: 0,
        };
        world.restart().await;
        world.lake().create_table(TABLE).await.unwrap();
        world
    }

    async fn restart(&mut self) {
        drop(self.lake.take());
        let clock = Arc::clone(&self.clock) as Arc<dyn WallClock>;
        let config = GatewayConfig {
            late_window: Some(Duration::from_millis(W * UNIT_MS)),
            // So that pulls come to the flushed log.
            pull_window: Duration::from_millis(UNIT_MS),
            ..GatewayConfig::default()
        };
        let lake = Lake::builder(&self.folder)
            .with_clock(clock)
            .with_config(config);
        self.lake = Some(lake.open().await.unwrap());
    }

    fn lake(&self) -> &Lake {
        self.lake.as_ref().unwrap()
    }

    fn gateway(&self) -> Arc<Gateway> {
        self.lake().gateway("public").unwrap()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A delta of a stamp of its own.
    fn delta(
        &mut self,
        (row, wall_ms): (u64, u64),
        op: Op,
        cells: &[(&str, Option<i64>)],
    ) -> RowDelta {
        self.pushed += 1;
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse(&format!("r{row}")).unwrap(),
            client_id: ClientId::parse(["ana", "bo"][usize::from(self.pushed % 2)]).unwrap(),
            hlc: Hlc::new(wall_ms, self.pushed).unwrap(),
        };
        let cells = cells.iter().map(|(name, value)| ColumnChange {
            column: ColumnName::parse(name).unwrap(),
            value: value.map_or(Value::Null, Value::Long),
        });
        RowDelta::new(op, key, cells.collect())
    }

    /// Pushes a delta; the oracle hears of it when it is accepted, and only what is too old is not.
    async fn push(&mut self, delta: RowDelta) -> bool {
        let push = Push {
            client_id: delta.client_id.clone(),
            deltas: vec![delta.clone()],
            last_seen: Seq::ZERO,
            schemas: None,
        };
        match self.gateway().push(push).await {
            Ok(ack) => {
                let seq = self.oracle.arrive(OracleDelta::from(&delta));
                assert_eq!(
                    ack.outcomes,
                    [Outcome::Accepted(Seq::from_u64(seq).unwrap())]
                );
                true
            }
            Err(Error::Refused(refusal)) => {
                assert_eq!(refusal.code, ErrorCode::LateDelta);
                let oldest = self.now_ms().saturating_sub(W * UNIT_MS);
                let floor = self.gateway().live().views().floor;
                assert!(delta.hlc.wall_ms() < oldest || delta.hlc < floor);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets `x` of a row now.
    async fn write(&mut self, row: u64, x: i64) {
        let delta = self.delta((row, self.now_ms()), Op::Update, &[("x", Some(x))]);
        assert!(self.push(delta).await);
    }

    async fn sql(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let frame = self
            .lake()
            .sql(sql)
            .await
            .map_err(|error| error.to_string())?;
        frame.collect().await.map_err(|error| error.to_string())
    }

    async fn flush(&self) {
        self.gateway().flush(None).await.unwrap();
    }

    async fn fold(&self) {
        self.flush().await;
        self.sql("call system.compact('t')").await.unwrap();
    }

    async fn expire(&self) -> u64 {
        let request = ExpireRequest::default();
        let done = expiry::expire_snapshots(&self.gateway(), "t", policy(), request).await;
        let reports = done.unwrap();
        reports
            .iter()
            .map(|report| u64::try_from(report.expired.len()).unwrap())
            .sum()
    }

    async fn drop_log(&self) -> u64 {
        let dropped = expiry::drop_log(&self.gateway(), None, DryRun::No)
            .await
            .unwrap();
        dropped.iter().map(|report| report.deltas).sum()
    }

    /// Reads the table as of a clause: what the oracle says, or none below the horizon.
    async fn check(&self, clause: &str, as_of: AsOf) -> Option<()> {
        let found = match self.sql(&format!("select * from t {clause}")).await {
            Ok(found) => found,
            Err(error) => {
                assert!(
                    error.contains("its history is kept from"),
                    "{clause}: {error}"
                );
                return None;
            }
        };
        let truth = with_every_column(&self.oracle.table("t", as_of), &["x", "y", "z"]);
        assert_eq!(cells::rows(&self.schema, &found), truth, "{clause}");
        Some(())
    }

    /// Every pull gives all deltas above its place, or says that the checkpoint is to be loaded.
    async fn check_pull(&self, since: u64) -> bool {
        let mut at = Seq::from_u64(since).unwrap();
        let mut found = Vec::new();
        loop {
            let page = match self.gateway().pull(at, 7).await {
                Ok(page) => page,
                Err(Error::Refused(refusal)) => {
                    assert_eq!(refusal.code, ErrorCode::CursorExpired);
                    assert!(found.is_empty(), "a pull that began goes on");
                    return false;
                }
                Err(error) => panic!("{error}"),
            };
            found.extend(
                page.deltas
                    .iter()
                    .map(|delta| OracleDelta::from(&delta.delta)),
            );
            at = page.cursor;
            if !page.has_more {
                break;
            }
        }
        let known = usize::try_from(since).unwrap();
        assert_eq!(found, self.oracle.deltas()[known..], "since {since}");
        true
    }
}

/// What happened in a history, so that a test knows that it has tested something.
#[derive(Debug, Default)]
struct Happened {
    expired: u64,
    dropped: u64,
    late: u64,
    below: u64,
    reloads: u64,
}

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    let asked = std::env::var("LAKESYNC_SEEDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_that_are_expired_read_as_if_nothing_was_gone_or_are_refused() {
    let mut happened = Happened::default();
    for seed in 0..seeds() {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path()).await;
        let mut rng = Rng::new(seed);
        for _ in 0..40 {
            world
                .clock
                .advance(*rng.pick(&[0, 1, 2, 5, 15]) * UNIT_MS + 1);
            step(&mut world, &mut rng, &mut happened).await;
            look_back(&world, &mut rng, &mut happened).await;
        }
    }
    assert!(
        happened.expired > 10 && happened.dropped > 5,
        "{happened:?}"
    );
    assert!(
        happened.below > 0 && happened.late > 0 && happened.reloads > 0,
        "{happened:?}"
    );
}

async fn step(world: &mut World, rng: &mut Rng, happened: &mut Happened) {
    for _ in 0..rng.below(5) {
        let now_ms = world.now_ms();
        let wall_ms = match rng.chance(35) {
            true => now_ms - rng.below((W + 20) * UNIT_MS),
            false => now_ms + rng.below(4_000) - 1_000,
        };
        let row = rng.below(3);
        let mut cells = Vec::new();
        for name in ["x", "y", "z"] {
            if rng.chance(50) {
                cells.push((
                    name,
                    rng.chance(60)
                        .then(|| i64::try_from(rng.below(1_000)).unwrap()),
                ));
            }
        }
        let delta = match rng.chance(20) || cells.is_empty() {
            true => world.delta((row, wall_ms), Op::Delete, &[]),
            false => world.delta((row, wall_ms), Op::Update, &cells),
        };
        happened.late += u64::from(!world.push(delta).await);
    }
    match rng.below(8) {
        0 => world.flush().await,
        1 | 2 => world.fold().await,
        3 | 4 => {
            let now_ms = world.now_ms();
            // A clock that is ahead while something expires does no harm but to the history that it takes for old.
            let jump = *rng.pick(&[0, 0, 0, 200]);
            world.clock.advance(jump * UNIT_MS);
            happened.expired += world.expire().await;
            happened.dropped += world.drop_log().await;
            world.clock.set(now_ms);
        }
        5 => world.restart().await,
        _ => {}
    }
}

async fn look_back(world: &World, rng: &mut Rng, happened: &mut Happened) {
    world.check("", AsOf::NOW).await.unwrap();
    let last = world.oracle.last_seq();
    let seq = rng.between(0, last);
    let by_seq = world
        .check(&format!("at (seq => {seq})"), AsOf::seq(seq))
        .await;
    let back_ms = rng.below((H + 20) * UNIT_MS);
    let hlc = Hlc::new(world.now_ms() - back_ms, 0).unwrap().as_u64();
    let by_hlc = world
        .check(&format!("at (hlc => {hlc})"), AsOf::hlc(hlc))
        .await;
    happened.below += u64::from(by_seq.is_none()) + u64::from(by_hlc.is_none());
    happened.reloads += u64::from(!world.check_pull(rng.between(0, last)).await);
    assert!(world.check_pull(last).await);
    // What changed since a moment that can be read is known delta by delta.
    if by_seq.is_some() {
        let sql = format!("select count(*) from changes('t', {seq}, {last})");
        let found = world.sql(&sql).await.unwrap();
        let count = found[0].column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(u64::try_from(count), Ok(last - seq), "since {seq}");
    }
}

fn snapshots(world: &World) -> (Option<i64>, u64) {
    let view = world.gateway().live().view("t").unwrap();
    (view.base.snapshot_id, view.base.base_seq.as_u64())
}

/// All files below the warehouse, by name.
fn files(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![world.folder.join("warehouse")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.display().to_string()),
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "the story of one snapshot")]
async fn a_snapshot_that_is_read_or_named_stays_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path()).await;
    world.write(1, 1).await;
    world.fold().await;
    let (first, _) = snapshots(&world);
    let old = world.gateway().live().view("t").unwrap();
    let reading = world.sql("select * from t").await.unwrap();
    drop(reading);
    for x in 2..4 {
        world.clock.advance(UNIT_MS);
        world.write(1, x).await;
        world.fold().await;
    }
    let these = |ids: &[i64]| ExpireRequest {
        snapshot_ids: ids.iter().copied().collect(),
        ..ExpireRequest::default()
    };
    let first = first.unwrap();
    let expire = async |world: &World, request| {
        let done = expiry::expire_snapshots(&world.gateway(), "t", policy(), request).await;
        done.map_err(|error| error.to_string())
    };
    let error = expire(&world, these(&[first])).await.unwrap_err();
    assert!(error.contains("a query reads it"), "{error}");
    let rows = old.base.scan(&old.warehouse).await.unwrap();
    drop(old);
    let error = expire(&world, these(&[first])).await.unwrap_err();
    assert!(
        error.contains("a query reads it"),
        "its table is still there: {error}"
    );
    drop(rows);

    expiry::create_tag(&world.gateway(), "t", "audit", (Some(first), None))
        .await
        .unwrap();
    let error = expire(&world, these(&[first])).await.unwrap_err();
    assert!(error.contains("`audit` names it"), "{error}");
    let all = ExpireRequest {
        older_than_ms: Some(i64::MAX),
        ..ExpireRequest::default()
    };
    let none = ExpiryPolicy {
        history: Duration::ZERO,
        ..policy()
    };
    let dry = ExpireRequest {
        dry_run: DryRun::Yes,
        ..all.clone()
    };
    let before = files(&world);
    let told = expiry::expire_snapshots(&world.gateway(), "t", none, dry)
        .await
        .unwrap();
    assert_eq!(files(&world), before, "a dry run does nothing");
    let done = expiry::expire_snapshots(&world.gateway(), "t", none, all.clone())
        .await
        .unwrap();
    assert_eq!(told[0].expired, done[0].expired);
    assert_eq!(told[0].deleted, done[0].deleted);
    assert_eq!(
        (done[0].side, done[0].expired.len()),
        (Side::Base, 1),
        "the tagged and the current one stay"
    );
    assert_eq!(done[0].deleted.data_files, 1);
    let found = world.check("version as of 'audit'", AsOf::seq(1)).await;
    assert_eq!(found, Some(()));

    expiry::drop_tag(&world.gateway(), "t", "audit")
        .await
        .unwrap();
    let error = expiry::drop_tag(&world.gateway(), "t", "audit")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("there is none"), "{error}");
    let done = expiry::expire_snapshots(&world.gateway(), "t", none, all)
        .await
        .unwrap();
    assert_eq!(
        (done[0].expired.as_slice(), done[0].deleted.data_files),
        (&[first][..], 1)
    );
    let data = files(&world)
        .into_iter()
        .filter(|path| path.contains("/t/data/") && path.ends_with(".parquet"));
    assert_eq!(data.count(), 1, "only the base's one file is left");
    world.check("", AsOf::NOW).await.unwrap();
    assert_eq!(world.check("at (seq => 1)", AsOf::seq(1)).await, None);
    let error = expiry::create_tag(
        &world.gateway(),
        "t",
        &format!("{DAILY}2100-01-01"),
        (None, None),
    )
    .await;
    assert!(error.unwrap_err().to_string().contains("choose another"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_a_day_is_kept_by_a_tag_and_goes_with_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path()).await;
    let mut dropped = 0;
    for day in 0..24_i64 {
        for part in 0..3 {
            world
                .write(u64::try_from(part).unwrap(), day * 10 + part)
                .await;
            world.fold().await;
            world.clock.advance(UNIT_MS);
        }
        world.clock.advance(UNIT_MS);
        world.expire().await;
        dropped += world.drop_log().await;
    }
    let view = world.gateway().live().view("t").unwrap();
    let bases = view.base.table.metadata().snapshots().count();
    assert!((15..=24).contains(&bases), "{bases} base snapshots");
    let logs = view.log.table.metadata().snapshots().count();
    assert!(logs <= 3, "{logs} log snapshots");
    drop(view);
    assert!(
        (20..=30).contains(&dropped),
        "{dropped} deltas were dropped"
    );
    let refs = world
        .sql(r#"select name from "t$refs" where name like 'daily-%' order by 1"#)
        .await;
    let count: usize = refs.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert!((13..=16).contains(&count), "{count} daily tags");
    let last = world.oracle.last_seq();
    for seq in last - 40..=last {
        let found = world
            .check(&format!("at (seq => {seq})"), AsOf::seq(seq))
            .await;
        assert_eq!(found, Some(()), "{seq} is within the window");
    }
    world.restart().await;
    world.check("", AsOf::NOW).await.unwrap();
    assert!(world.gateway().live().views().floor > Hlc::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_late_window_nothing_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path()).await;
    drop(world.lake.take());
    let clock = Arc::clone(&world.clock) as Arc<dyn WallClock>;
    let config = GatewayConfig {
        late_window: None,
        ..GatewayConfig::default()
    };
    let lake = Lake::builder(&world.folder)
        .with_clock(clock)
        .with_config(config);
    world.lake = Some(lake.open().await.unwrap());
    for x in 0..5 {
        world.write(1, x).await;
        world.fold().await;
        world.clock.advance(2 * H * UNIT_MS);
        world.expire().await;
        assert_eq!(world.drop_log().await, 0);
    }
    assert_eq!(world.gateway().live().views().floor, Hlc::ZERO);
    let old = world.delta((1, START_MS), Op::Update, &[("y", Some(7))]);
    assert!(world.push(old).await, "however old");
    world.check("", AsOf::NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_goes_back_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path()).await;
    let mut bases = Vec::new();
    for x in 1..4 {
        world.write(1, x).await;
        world.write(2, x * 10).await;
        let late = world.delta(
            (1, START_MS - 1_000),
            Op::Update,
            &[("x", Some(-x)), ("y", Some(x))],
        );
        assert!(world.push(late).await);
        world.clock.advance(UNIT_MS);
        world.fold().await;
        bases.push(snapshots(&world));
    }
    world.write(3, 5).await;
    let old = world.sql("select * from t").await.unwrap();
    for (nth, restart) in [(0, false), (2, false), (1, true), (0, true)] {
        let (snapshot, base_seq) = bases[nth];
        let to = RollbackTo::Snapshot(snapshot.unwrap());
        let report = expiry::rollback(&world.gateway(), "t", to).await.unwrap();
        assert_eq!((report.side, Some(report.current)), (Side::Base, snapshot));
        assert_eq!(snapshots(&world), (snapshot, base_seq));
        if restart {
            world.restart().await;
            assert_eq!(snapshots(&world), (snapshot, base_seq));
        }
        for seq in 0..=world.oracle.last_seq() {
            let found = world
                .check(&format!("at (seq => {seq})"), AsOf::seq(seq))
                .await;
            assert_eq!(found, Some(()), "{seq} after {nth}");
        }
        world.check("", AsOf::NOW).await.unwrap();
        assert!(world.check_pull(0).await);
    }
    let view = world.gateway().live().view("t").unwrap();
    assert_eq!(
        view.hot_deltas().count(),
        7,
        "all above the first base are hot again"
    );
    drop((view, old));
    world.fold().await;
    assert_eq!(snapshots(&world).1, world.oracle.last_seq());
    world.check("", AsOf::NOW).await.unwrap();

    let time_ms = i64::try_from(START_MS + 2 * UNIT_MS).unwrap();
    let report = expiry::rollback(&world.gateway(), "t", RollbackTo::Before(time_ms + 1)).await;
    assert_eq!(Some(report.unwrap().current), bases[1].0);
    let view = world.gateway().live().view("t").unwrap();
    let of_log = view.log.table.metadata().snapshots();
    let mut of_log = of_log.map(|known| known.snapshot_id());
    let log = of_log.find(|id| view.log.snapshot_id != Some(*id));
    for (to, said) in [
        (RollbackTo::Snapshot(7), "no such snapshot"),
        (RollbackTo::Snapshot(log.unwrap()), "one of the log"),
        (RollbackTo::Before(0), "there is none"),
    ] {
        let error = expiry::rollback(&world.gateway(), "t", to)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    world.fold().await;
    world.check("", AsOf::NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_looked_at_before_the_floor_moved_is_refused_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path()).await;
    world.write(1, 1).await;
    world.fold().await;
    // A late delta that no base covers holds the floor back, hot, flushed, and until every kept base covers it.
    world.clock.advance(W * UNIT_MS);
    let late = world.delta((1, START_MS + UNIT_MS), Op::Update, &[("y", Some(2))]);
    let held = late.hlc;
    assert!(world.push(late).await);
    for folded in [false, true] {
        world.clock.advance(3 * UNIT_MS);
        if folded {
            world.fold().await;
        }
        world.expire().await;
        world.drop_log().await;
        assert!(world.gateway().live().views().floor <= held, "{folded}");
        world.check("", AsOf::NOW).await.unwrap();
    }
    world.clock.advance((H + 5) * UNIT_MS);
    world.write(2, 3).await;
    world.fold().await;
    world.expire().await;
    assert!(world.drop_log().await > 0);
    let floor = world.gateway().live().views().floor;
    assert!(floor > held);
    // The wall clock goes back; the floor does not.
    world.clock.set(START_MS + W * UNIT_MS);
    let old = world.delta((1, START_MS + 2 * UNIT_MS), Op::Update, &[("x", Some(9))]);
    assert!(!world.push(old).await);
    world.restart().await;
    assert_eq!(world.gateway().live().views().floor, floor);
    world.check("", AsOf::NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_years_ahead_while_something_expires_stops_no_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::open(folder.path()).await;
    for x in 0..3 {
        world.write(1, x).await;
        world.fold().await;
        world.clock.advance(UNIT_MS);
    }
    let now_ms = world.now_ms();
    world.clock.advance(10_000 * UNIT_MS);
    world.expire().await;
    assert_eq!(world.drop_log().await, 2, "the newest stamp is the floor");
    world.clock.set(now_ms);
    world.write(1, 9).await;
    let late = world.delta((2, now_ms - 2 * UNIT_MS), Op::Update, &[("x", Some(1))]);
    assert!(!world.push(late).await, "it could not be merged any more");
    world.restart().await;
    world.check("", AsOf::NOW).await.unwrap();
}
