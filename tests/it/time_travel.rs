//! Every past moment against the oracle, on random histories: by seq, by time, by snapshot, by HLC and by both clocks,
//! asked while more is pushed, flushed, compacted and restarted; as an overlay and as a fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::DataFrame;
use lakesync_gateway::GatewayConfig;
use lakesync_proto::{Hlc, Seq, TableSchema};
use lakesync_providers::{Arrival, PastTable, Pinned, TravelLimits, session};
use lakesync_tests::cells;
use lakesync_tests::history::{History, Rng, START_MS, Shape, Step};
use lakesync_tests::layouts::give;
use lakesync_tests::oracle::{AsOf, OracleRows};
use lakesync_tests::world::World;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_past_moment_is_the_oracles_whatever_has_happened_since() {
    let shape = Shape {
        steps: 40,
        rows: 5,
        ..Shape::default()
    };
    for seed in 0..seeds() {
        let history = History::generate(seed, shape);
        let folder = tempfile::tempdir().unwrap();
        let world = World::open(folder.path().join("lake"), &history).await;
        let mut traveller = Traveller::new(world, seed);
        for step in &history.steps {
            traveller.step(step).await;
            if traveller.rng.chance(15) {
                traveller.look_back(2).await;
            }
        }
        traveller.look_back(5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_past_moment_is_the_oracles_or_below_the_horizon_whatever_maintenance_has_done() {
    let mut done = BTreeMap::new();
    for seed in 0..seeds() * 2 {
        let mut history = History::generate(seed, Shape::WEEKS);
        let mut rng = Rng::new(seed);
        if seed % 2 == 1 {
            give(&mut history, &mut rng);
        }
        let folder = tempfile::tempdir().unwrap();
        let config = GatewayConfig {
            late_window: Some(Shape::WEEKS_WINDOW),
            ..GatewayConfig::default()
        };
        let world = World::open_with(folder.path().join("lake"), &history, config).await;
        let mut traveller = Traveller::new(world, seed);
        for step in &history.steps {
            traveller.step(step).await;
            if rng.chance(35) {
                traveller.world.chore(&mut rng).await;
                traveller.world.check_now("after a chore").await;
                traveller.look_back(1).await;
            }
        }
        traveller.look_back(5).await;
        traveller.world.check_past().await;
        for (what, times) in traveller.world.done {
            *done.entry(what).or_insert(0) += times;
        }
        *done.entry("exact".to_owned()).or_insert(0) += traveller.exact;
        *done.entry("gone".to_owned()).or_insert(0) += traveller.gone;
    }
    eprintln!("{done:?}");
    assert!(done["exact"] > 50, "{done:?}");
}

/// A world that remembers when everything arrived.
struct Traveller {
    world: World,
    rng: Rng,
    now_ms: u64,
    /// By seq, from 1.
    arrived_ms: Vec<u64>,
    /// How many answers were given, and how many were refused because the history is not kept so far back.
    exact: u64,
    gone: u64,
}

/// A moment as the product and as the oracle know it.
#[derive(Clone, Debug)]
struct Moment {
    as_of: lakesync_providers::AsOf,
    truth: AsOf,
}

impl Traveller {
    fn new(world: World, seed: u64) -> Traveller {
        Traveller {
            world,
            rng: Rng::new(seed),
            now_ms: START_MS,
            arrived_ms: Vec::new(),
            exact: 0,
            gone: 0,
        }
    }

    async fn step(&mut self, step: &Step) {
        if let Step::Clock(now_ms) = step {
            self.now_ms = *now_ms;
        }
        self.world.step(step).await;
        let known = usize::try_from(self.world.oracle.last_seq()).unwrap();
        self.arrived_ms.resize(known, self.now_ms);
    }

    /// Asks every table for some moments.
    async fn look_back(&mut self, times: usize) {
        for schema in self.world.schemas.clone() {
            for _ in 0..times {
                let moment = self.moment();
                self.check(&schema, &moment).await;
            }
            let latest = Hlc::new(self.now_ms + 5_000, u16::MAX).unwrap();
            let all = Moment {
                as_of: lakesync_providers::AsOf::Hlc(latest),
                truth: AsOf::NOW,
            };
            self.check(&schema, &all).await;
        }
        self.check_spelling().await;
    }

    fn moment(&mut self) -> Moment {
        let arrival = self.rng.chance(75).then(|| match self.rng.below(3) {
            0 => self.time(),
            _ => {
                let seq = self.rng.between(0, self.world.oracle.last_seq());
                (Arrival::Seq(Seq::from_u64(seq).unwrap()), seq)
            }
        });
        let hlc = (arrival.is_none() || self.rng.chance(50)).then(|| self.hlc());
        let seq = arrival.as_ref().map_or(u64::MAX, |(_, seq)| *seq);
        let arrival = arrival.map(|(arrival, _)| arrival);
        Moment {
            truth: AsOf {
                seq,
                hlc: hlc.map_or(u64::MAX, Hlc::as_u64),
            },
            as_of: lakesync_providers::AsOf::new(arrival, hlc).unwrap(),
        }
    }

    /// A time, and the seq before the first delta that arrived later.
    fn time(&mut self) -> (Arrival, u64) {
        let some = match self.arrived_ms.is_empty() {
            true => START_MS,
            false => *self.rng.pick(&self.arrived_ms),
        };
        let micros = some * 1000 + *self.rng.pick(&[0, 0, 1, 999, 1000, 59_999_999]);
        let micros = micros - *self.rng.pick(&[0, 0, 0, 1, 1_000_000]);
        let earlier = self
            .arrived_ms
            .iter()
            .take_while(|ms| **ms * 1000 <= micros)
            .count();
        let time = Arrival::Timestamp(i64::try_from(micros).unwrap());
        (time, u64::try_from(earlier).unwrap())
    }

    /// The stamp of some delta, or one beside it.
    fn hlc(&mut self) -> Hlc {
        let deltas = self.world.oracle.deltas();
        let some = match deltas.is_empty() {
            true => START_MS << 16,
            false => self.rng.pick(deltas).hlc,
        };
        Hlc::from_u64(some + self.rng.below(3) - 1).unwrap()
    }

    async fn check(&mut self, schema: &TableSchema, moment: &Moment) {
        let expected = self.world.expected(schema, moment.truth);
        let views = self.world.gateway().live().views();
        let warehouse = &views.tables[&schema.table].warehouse;
        let ctx = session(warehouse);
        let pinned = Pinned {
            table: schema.table.to_string(),
            as_of: moment.as_of.clone(),
        };
        let overlay = TravelLimits::default();
        let folded = TravelLimits {
            overlay_deltas_max: 0,
            part_bytes: *self.rng.pick(&[100_000, 1 << 30]),
        };
        let read = |limits| {
            let table = PastTable::new(&views, pinned.clone()).unwrap();
            ctx.read_table(Arc::new(table.with_limits(limits))).unwrap()
        };
        let may_be_gone = moment.truth != AsOf::NOW && self.world.forgets();
        let seed = self.world.seed;
        let column = self.rng.pick(&schema.columns).name.to_string();
        let asks = self.rng.chance(30);
        let mut answers = Vec::new();
        for way in [read(overlay), read(folded)] {
            let batches = match way.clone().collect().await {
                Ok(batches) => batches,
                Err(error) if may_be_gone && is_gone(&error, moment) => {
                    self.gone += 1;
                    continue;
                }
                Err(error) => panic!("seed {seed}, {moment:?}: {error}"),
            };
            self.exact += 1;
            let found = cells::rows(schema, &batches);
            assert_eq!(found, expected, "seed {seed}, {} {moment:?}", schema.table);
            if asks {
                answers.push(asked(way, &column, &expected).await);
            }
        }
        let (one, other) = (answers.first(), answers.last());
        assert_eq!(one, other, "seed {seed}, {} {moment:?}", schema.table);
    }

    /// One moment in SQL.
    async fn check_spelling(&mut self) {
        let schema = self.rng.pick(&self.world.schemas).clone();
        let moment = self.moment();
        let mut parts = Vec::new();
        match moment.as_of.arrival() {
            Some(Arrival::Seq(seq)) => parts.push(format!("seq => {seq}")),
            Some(Arrival::Timestamp(micros)) => {
                let cast = "arrow_cast";
                parts.push(format!(
                    "timestamp => {cast}({micros}, 'Timestamp(Microsecond, None)')"
                ));
            }
            _ => {}
        }
        parts.extend(moment.as_of.hlc().map(|hlc| format!("hlc => {hlc}")));
        let sql = format!("select * from {} at ({})", schema.table, parts.join(", "));
        // A time or a stamp further ahead than clocks may differ has not come.
        let ahead = self.now_ms + 5_000;
        let hlc_ahead = moment.as_of.hlc().is_some_and(|hlc| hlc.wall_ms() > ahead);
        let time_ahead = matches!(
            moment.as_of.arrival(),
            Some(Arrival::Timestamp(micros)) if u64::try_from(*micros).unwrap() / 1000 > ahead
        );
        if hlc_ahead || time_ahead {
            let refused = self.world.lake().sql(&sql).await.unwrap().collect().await;
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("yet: it is"), "{sql}: {error}");
            return;
        }
        let Some(batches) = self.world.sql_past(&sql).await else {
            return;
        };
        let found = cells::rows(&schema, &batches);
        let expected = self.world.expected(&schema, moment.truth);
        assert_eq!(found, expected, "seed {}: {sql}", self.world.seed);
    }
}

/// Whether an error says that the moment lies below the horizon, and it does by the horizon that the error names.
fn is_gone(error: &dyn std::fmt::Display, moment: &Moment) -> bool {
    let text = error.to_string();
    let Some((_, horizon)) = text.split_once("its history is kept from seq ") else {
        return false;
    };
    let number = |text: &str| {
        let digits = text.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse::<u64>().unwrap()
    };
    let (seq, hlc) = horizon.split_once(", HLC ").unwrap();
    moment.truth.seq <= number(seq) || moment.truth.hlc < number(hlc)
}

/// Counts and a filter, whose columns are fewer than the table's.
async fn asked(rows: DataFrame, column: &str, expected: &OracleRows) -> Vec<String> {
    let all = rows.clone().count().await.unwrap();
    assert_eq!(all, expected.len());
    let filtered = rows.filter(col(column).is_not_null()).unwrap();
    let counted = filtered
        .clone()
        .aggregate(vec![], vec![count(lit(1)), max(col("row_id"))])
        .unwrap();
    let few = filtered
        .select(vec![col(column), col("row_id")])
        .unwrap()
        .sort(vec![col("row_id").sort(true, false)])
        .unwrap()
        .limit(0, Some(2))
        .unwrap();
    let mut lines = Vec::new();
    for frame in [counted, few] {
        let batches = frame.collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap();
        lines.push(text.to_string());
    }
    lines
}
