//! A lake with its oracle: every step of a history is done to both, then they are compared.
//!
//! Invariant: the oracle hears of a delta only when the gateway has acknowledged it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lakesync::Lake;
use lakesync_gateway::{Error, Gateway, GatewayConfig};
use lakesync_proto::{
    ErrorCode, ManualClock, Outcome, Push, PushAck, RowDelta, Seq, SeqDelta, TableSchema,
    WallClock as _, decode_push_json, encode_push_json,
};

use crate::cells;
use crate::history::{History, START_MS, Step};
use crate::oracle::{AsOf, Oracle, OracleDelta, OracleRows, with_every_column};
use crate::schemas;

/// How many row ids a table of a history may have: enough for every shape in use.
const ROWS_MAX: u64 = 64;

/// What an answer says of a moment or a snapshot that is not kept any more.
const GONE: [&str; 2] = ["its history is kept from", "has no snapshot"];

/// A lake under test.
#[derive(Debug)]
pub struct World {
    /// What is printed when something differs.
    pub seed: u64,
    /// What must be true.
    pub oracle: Oracle,
    /// The tables.
    pub schemas: Vec<TableSchema>,
    /// What was done by [`World::chore`], and how often; what could not be asked any more.
    pub done: BTreeMap<String, u64>,
    folder: PathBuf,
    config: GatewayConfig,
    clock: Arc<ManualClock>,
    lake: Option<Lake>,
    /// Snapshots that were made, with their table and the seq that each covers.
    snapshots: Vec<(String, i64, u64)>,
    /// Whether something that shortens the history has been done.
    pub(crate) forgets: bool,
    /// The latest time that the clock has shown, in milliseconds since 1970: the floor may follow it.
    latest_ms: u64,
}

impl World {
    /// An empty lake in `folder` with the tables of `history`.
    pub async fn open(folder: PathBuf, history: &History) -> World {
        World::open_with(folder, history, GatewayConfig::default()).await
    }

    /// The same with a gateway that is told something.
    pub async fn open_with(folder: PathBuf, history: &History, config: GatewayConfig) -> World {
        let mut world = World {
            seed: history.seed,
            oracle: Oracle::new(),
            schemas: history.schemas.clone(),
            done: BTreeMap::new(),
            folder,
            config,
            clock: Arc::new(ManualClock::new(START_MS)),
            lake: None,
            snapshots: Vec::new(),
            forgets: false,
            latest_ms: START_MS,
        };
        world.restart().await;
        for schema in &history.schemas {
            world
                .gateway()
                .put_schema(&schema.definition())
                .await
                .expect("a new table");
        }
        world
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        self.lake.as_ref().expect("a world is open between steps")
    }

    /// The default gateway.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.lake()
            .gateway("public")
            .expect("the default gateway is always there")
    }

    /// Ends the process's part of the lake and opens it again.
    pub async fn restart(&mut self) {
        drop(self.lake.take());
        let clock = Arc::clone(&self.clock) as Arc<dyn lakesync_proto::WallClock>;
        let lake = Lake::builder(&self.folder)
            .with_clock(clock)
            .with_config(self.config.clone())
            .open()
            .await;
        self.lake = Some(lake.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)));
    }

    /// Does one step to lake and oracle.
    pub async fn step(&mut self, step: &Step) {
        match step {
            Step::Clock(now_ms) => self.clock.set(*now_ms),
            Step::Push(deltas) => self.push(deltas).await,
            Step::Flush => self.flush().await,
            Step::Compact => self.compact().await,
            Step::Restart => self.restart().await,
        }
    }

    async fn push(&mut self, deltas: &[RowDelta]) {
        let push = Push {
            client_id: deltas[0].client_id.clone(),
            deltas: deltas.to_vec(),
            last_seen: Seq::ZERO,
            schemas: None,
        };
        // Through the wire, so that what is compared later has been encoded and decoded.
        let push = decode_push_json(&encode_push_json(&push), self.gateway().live().as_ref())
            .expect("our own encoding");
        let last = self.oracle.last_seq();
        let Some(ack) = self.admitted(push).await else {
            return;
        };
        for (delta, outcome) in deltas.iter().zip(&ack.outcomes) {
            let known = self.oracle.last_seq();
            let seq = self.oracle.arrive(OracleDelta::from(delta));
            let expected = match seq > known {
                true => Outcome::Accepted(Seq::from_u64(seq).expect("a small seq")),
                false => Outcome::Duplicate(Seq::from_u64(seq).expect("a small seq")),
            };
            assert_eq!(
                *outcome, expected,
                "seed {}, seq {seq} after {last}",
                self.seed
            );
        }
    }

    /// The answer to a push; none when a delta in it is older than the late window lets pass.
    async fn admitted(&mut self, push: Push) -> Option<PushAck> {
        let stamps = push.deltas.iter().map(|delta| delta.hlc.wall_ms());
        let oldest_ms = stamps.min().expect("a push is not empty");
        let refusal = match self.gateway().push(push).await {
            Ok(ack) => return Some(ack),
            Err(Error::Refused(refusal)) if refusal.code == ErrorCode::LateDelta => refusal,
            Err(error) => panic!("seed {}: {error}", self.seed),
        };
        let window = self
            .config
            .late_window
            .expect("without one nothing is late");
        let window_ms = u64::try_from(window.as_millis()).expect("a window of some days");
        let taken_ms = self.latest_ms.max(self.now_ms()) - window_ms;
        assert!(oldest_ms < taken_ms, "seed {}: {refusal:?}", self.seed);
        self.note("late push");
        None
    }

    /// Whether a moment, a snapshot or a cursor may be gone by now.
    pub fn forgets(&self) -> bool {
        self.forgets
    }

    /// Runs a statement while the clock is wrong by so many milliseconds.
    pub(crate) async fn with_clock_off_by(&mut self, by_ms: i64, sql: &str) {
        let now_ms = self.now_ms();
        self.clock.set(now_ms.saturating_add_signed(by_ms));
        self.latest_ms = self.latest_ms.max(self.now_ms());
        self.sql(sql).await;
        self.clock.set(now_ms);
    }

    /// Counts something that happened.
    pub(crate) fn note(&mut self, what: &str) {
        *self.done.entry(what.to_owned()).or_default() += 1;
    }

    /// What the gateway's clock shows, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    async fn flush(&mut self) {
        for report in self.gateway().flush(None).await.expect("a flush") {
            let snapshot = report.snapshot_id.expect("a flush makes a snapshot");
            self.snapshots
                .push((report.table.to_string(), snapshot, report.max_seq.as_u64()));
        }
    }

    async fn compact(&mut self) {
        for schema in self.schemas.clone() {
            let table = schema.table.to_string();
            self.sql(&format!("call system.compact('{table}')")).await;
            let view = self.gateway().live().view(&table).expect("a table");
            if let Some(snapshot) = view.base.snapshot_id {
                self.snapshots
                    .push((table, snapshot, view.base.base_seq.as_u64()));
            }
        }
    }

    /// Runs a statement.
    pub async fn sql(&self, sql: &str) -> Vec<arrow::array::RecordBatch> {
        let planned = self.lake().sql(sql).await;
        let frame = planned.unwrap_or_else(|error| panic!("seed {}: {sql}: {error}", self.seed));
        frame
            .collect()
            .await
            .unwrap_or_else(|error| panic!("seed {}: {sql}: {error}", self.seed))
    }

    /// Runs a statement about the past; none when it asks for what has been let go of.
    pub async fn sql_past(&self, sql: &str) -> Option<Vec<arrow::array::RecordBatch>> {
        let said = |error: &dyn std::fmt::Display| {
            let is_gone = GONE.iter().any(|part| error.to_string().contains(part));
            assert!(
                self.forgets && is_gone,
                "seed {}: {sql}: {error}",
                self.seed
            );
        };
        let frame = match self.lake().sql(sql).await {
            Ok(frame) => frame,
            Err(error) => {
                said(&error);
                return None;
            }
        };
        match frame.collect().await {
            Ok(batches) => Some(batches),
            Err(error) => {
                said(&error);
                None
            }
        }
    }

    /// What a table must hold as of a coordinate, as SQL shows it: all columns, those of the key from the row id.
    pub fn expected(&self, schema: &TableSchema, as_of: AsOf) -> OracleRows {
        let columns: Vec<&str> = schema
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let mut rows =
            with_every_column(&self.oracle.table(schema.table.as_str(), as_of), &columns);
        for (row_id, key) in keys(schema) {
            if let Some(cells) = rows.get_mut(&row_id) {
                cells.extend(key);
            }
        }
        rows
    }

    /// Every table now, by SQL.
    pub async fn check_now(&self, when: &str) {
        for schema in &self.schemas {
            let batches = self.sql(&format!("select * from {}", schema.table)).await;
            let (found, expected) = (
                cells::rows(schema, &batches),
                self.expected(schema, AsOf::NOW),
            );
            assert_eq!(
                found, expected,
                "seed {}, {} {when}",
                self.seed, schema.table
            );
        }
    }

    /// Every snapshot that was made still answers as it did, or has been expired.
    pub async fn check_past(&self) {
        for (table, snapshot, seq) in &self.snapshots {
            let schema = self
                .schemas
                .iter()
                .find(|schema| schema.table.as_str() == table)
                .expect("a table");
            let sql = format!("select * from {table} version as of {snapshot}");
            let Some(batches) = self.sql_past(&sql).await else {
                continue;
            };
            let (found, expected) = (
                cells::rows(schema, &batches),
                self.expected(schema, AsOf::seq(*seq)),
            );
            assert_eq!(
                found, expected,
                "seed {}, {table} as of {snapshot} (seq {seq})",
                self.seed
            );
        }
    }

    /// Pulls in pages of `limit`: every delta once, in arrival order, whatever has been flushed.
    pub async fn check_pull(&self, limit: usize) {
        let whole = self.check_pull_above(0, limit).await;
        assert!(whole || self.forgets, "seed {}", self.seed);
    }

    /// Pulls everything above `seq`; false when the gateway says that a cursor so old has expired.
    pub async fn check_pull_above(&self, seq: u64, limit: usize) -> bool {
        let mut pulled: Vec<Arc<SeqDelta>> = Vec::new();
        let mut since = Seq::from_u64(seq).expect("a small seq");
        loop {
            let page = match self.gateway().pull(since, limit).await {
                Ok(page) => page,
                Err(Error::Refused(refusal)) => {
                    assert_eq!(refusal.code, ErrorCode::CursorExpired, "{refusal:?}");
                    assert!(pulled.is_empty(), "seed {}: {refusal:?}", self.seed);
                    return false;
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            };
            pulled.extend(page.deltas.iter().map(Arc::clone));
            assert!(page.cursor >= since, "a cursor never goes back");
            since = page.cursor;
            if !page.has_more {
                break;
            }
        }
        let found: Vec<(u64, OracleDelta)> = pulled
            .iter()
            .map(|delta| (delta.seq.as_u64(), OracleDelta::from(&delta.delta)))
            .collect();
        let all = (1..).zip(self.oracle.deltas().iter().cloned());
        let expected: Vec<(u64, OracleDelta)> = all.filter(|(known, _)| *known > seq).collect();
        assert_eq!(found, expected, "seed {}", self.seed);
        true
    }
}

/// The row ids that a history may use in a table, with the canonical texts of their key columns.
fn keys(schema: &TableSchema) -> BTreeMap<String, Vec<(String, String)>> {
    let rows = (0..ROWS_MAX).map(|row| {
        let (row_id, key) = schemas::row(schema, row);
        let texts = key.iter().map(|change| {
            let mut text = String::new();
            change.value.write_canonical(&mut text);
            (change.column.to_string(), text)
        });
        (row_id.to_string(), texts.collect())
    });
    rows.collect()
}
