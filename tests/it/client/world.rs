//! The gateway's side of a history: a real lake with its oracle, its clock, and the accidents that befall its disk.
//!
//! Invariant: the oracle has every delta that the gateway ever accepted, also those that a lost disk took away again:
//! their clients still have them, so at the end they must be back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use lakesync::Lake;
use lakesync_client::{Reply, TransportError};
use lakesync_gateway::rules::RuleSet;
use lakesync_gateway::{Error, Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, ErrorCode, Hlc, ManualClock, Op, Outcome, Push,
    PushAck, RowDelta, RowId, Seq, TableDefinition, TableName, TableSchema, Value, WallClock,
};
use lakesync_tests::cells;
use lakesync_tests::chores::CHORES;
use lakesync_tests::history::Rng;
use lakesync_tests::oracle::{AsOf, Oracle, OracleDelta, OracleRows, with_every_column};

use super::link::Stray;

/// What becomes of the gateway's database between its end and its next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// It is as it was.
    Kept,
    /// It is gone.
    Lost,
    /// It is the copy that was made when the server ended before, if there was one.
    Restored,
}

/// A lake under test.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) oracle: Oracle,
    /// The gateway's wall clock, and true time.
    pub(super) clock: Arc<ManualClock>,
    /// Requests that their senders have given up and that may still arrive.
    pub(super) strays: Vec<Stray>,
    /// What happened how often.
    pub(super) seen: BTreeMap<String, u64>,
    /// Which rules are in force.
    pub(super) rule: usize,
    /// How many there were: no two have one stamp.
    gifts: u16,
    /// Whether the log may have let go of deltas.
    forgets: bool,
    is_watched: bool,
    folder: PathBuf,
    config: GatewayConfig,
    lake: Option<Lake>,
    copy: Option<Vec<u8>>,
}

impl World {
    pub(super) async fn open(
        seed: u64,
        folder: PathBuf,
        config: GatewayConfig,
        start_ms: u64,
    ) -> World {
        let mut world = World {
            seed,
            oracle: Oracle::new(),
            clock: Arc::new(ManualClock::new(start_ms)),
            strays: Vec::new(),
            seen: BTreeMap::new(),
            rule: 0,
            gifts: 0,
            forgets: false,
            is_watched: std::env::var_os("LAKESYNC_SEED").is_some(),
            folder,
            config,
            lake: None,
            copy: None,
        };
        world.start().await;
        world
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Notes that something happened.
    pub(super) fn see(&mut self, what: &str) {
        self.tell(&what);
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    /// Tells somebody who looks for the cause of a failure: when one seed runs alone.
    pub(super) fn tell(&self, what: &dyn std::fmt::Display) {
        if self.is_watched {
            eprintln!("{}: {what}", self.clock.now_ms());
        }
    }

    /// Notes what a client is told.
    pub(super) fn see_reply(&mut self, reply: &Reply) {
        let page = match reply {
            Reply::Pulled(Ok(page)) | Reply::Live(page) | Reply::Chunk(Ok(Some(page))) => {
                Some(page)
            }
            _ => None,
        };
        if page.is_some_and(|page| !page.removed.is_empty()) {
            self.see("withdrawals");
        }
        let what = match reply {
            Reply::Pushed(Err(error)) | Reply::Pulled(Err(error)) | Reply::Chunk(Err(error)) => {
                match error {
                    TransportError::Refused(refusal) => refusal.code.as_str(),
                    TransportError::Decode(_) => "newer schema",
                    _ => return,
                }
            }
            Reply::Chunk(Ok(_)) => "checkpoint",
            Reply::Live(_) => "live page",
            Reply::LiveEnded(_) => "live end",
            Reply::Digest(Ok(_)) => "digest",
            _ => return,
        };
        self.see(what);
    }

    pub(super) fn gateway(&self) -> Arc<Gateway> {
        let lake = self.lake.as_ref().expect("a world is open between steps");
        lake.gateway("public").unwrap()
    }

    /// Ends the server and starts it again. Nobody may hold anything of it: streams and connections are cut first.
    pub(super) async fn restart(&mut self, disk: Disk) {
        self.tell(&format_args!("the server restarts, its disk {disk:?}"));
        drop(self.lake.take());
        let database = self.folder.join("gateways/public.db");
        let now = std::fs::read(&database).unwrap();
        let lose = || {
            for entry in std::fs::read_dir(self.folder.join("gateways")).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        };
        match (disk, self.copy.take()) {
            (Disk::Kept, _) | (Disk::Restored, None) => {}
            (Disk::Lost, _) => lose(),
            (Disk::Restored, Some(copy)) => {
                lose();
                std::fs::write(&database, copy).unwrap();
            }
        }
        // What was lost may be found again, and what a copy replaced may be put back: the lake has passed both by then.
        self.copy = Some(now);
        self.start().await;
    }

    async fn start(&mut self) {
        let clock = Arc::clone(&self.clock) as Arc<dyn WallClock>;
        let lake = Lake::builder(&self.folder)
            .with_clock(clock)
            .with_config(self.config.clone());
        let lake = lake.open().await;
        self.lake = Some(lake.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)));
    }

    /// The tables as the gateway has them.
    pub(super) fn schemas(&self) -> Vec<TableSchema> {
        let schemas = self.gateway().live().schemas();
        schemas
            .iter()
            .map(|schema| schema.as_ref().clone())
            .collect()
    }

    pub(super) async fn put(&self, definition: &TableDefinition) {
        let put = self.gateway().put_schema(definition).await;
        put.unwrap_or_else(|error| panic!("seed {}: {definition:?}: {error}", self.seed));
    }

    pub(super) async fn set_rules(&mut self, rule: usize, json: &str) {
        let set = RuleSet::from_json(json.as_bytes()).unwrap();
        let set = self.gateway().set_rules(set).await;
        set.unwrap_or_else(|error| panic!("seed {}: {json}: {error}", self.seed));
        self.rule = rule;
        self.tell(&format_args!("rules {json}"));
    }

    /// A note gets another owner, by somebody whom no rule binds.
    pub(super) async fn give(&mut self, note: RowId, owner: &str) {
        let client_id = ClientId::parse("importer").unwrap();
        self.gifts += 1;
        let key = DeltaKey {
            table: TableName::parse("notes").unwrap(),
            row_id: note,
            client_id: client_id.clone(),
            hlc: Hlc::new(self.now_ms(), self.gifts).unwrap(),
        };
        let column = ColumnName::parse("owner").unwrap();
        let value = Value::from(owner);
        let push = Push {
            client_id,
            deltas: vec![RowDelta::new(
                Op::Update,
                key,
                vec![ColumnChange { column, value }],
            )],
            last_seen: Seq::ZERO,
            schemas: None,
        };
        let ack = self.gateway().push(push.clone()).await.unwrap();
        self.accepted(&push, &ack);
    }

    pub(super) async fn flush(&self) {
        self.tell(&"flush");
        self.gateway().flush(None).await.unwrap();
    }

    pub(super) async fn compact(&self) {
        for schema in self.schemas() {
            self.sql(&format!("call system.compact('{}')", schema.table))
                .await;
        }
    }

    /// Maintenance of some table.
    pub(super) async fn chore(&mut self, rng: &mut Rng) {
        let chore = *rng.pick(CHORES);
        let table = rng.pick(&self.schemas()).table.to_string();
        let sql = chore.statement(&table, self.now_ms(), rng);
        self.tell(&sql);
        self.forgets |= chore.forgets();
        self.sql(&sql).await;
    }

    async fn sql(&self, sql: &str) -> Vec<arrow::array::RecordBatch> {
        let lake = self.lake.as_ref().expect("a world is open between steps");
        let planned = lake.sql(sql).await;
        let frame = planned.unwrap_or_else(|error| panic!("seed {}: {sql}: {error}", self.seed));
        let rows = frame.collect().await;
        rows.unwrap_or_else(|error| panic!("seed {}: {sql}: {error}", self.seed))
    }

    /// The gateway has acknowledged a push.
    pub(super) fn accepted(&mut self, push: &Push, ack: &PushAck) {
        assert_eq!(push.deltas.len(), ack.outcomes.len());
        for (delta, outcome) in push.deltas.iter().zip(&ack.outcomes) {
            self.tell(&format_args!(
                "{outcome:?} {} {:?} {} {}",
                delta.client_id,
                delta.op,
                delta.row_id,
                delta.hlc.as_u64()
            ));
            let known = self.oracle.last_seq();
            let fresh = self.oracle.arrive(OracleDelta::from(delta)) > known;
            // After a loss the gateway takes as new what the oracle has; never the other way round.
            if let Outcome::Duplicate(_) = outcome {
                *self.seen.entry("duplicate".to_owned()).or_default() += 1;
                assert!(!fresh, "seed {}: {delta:?} was not new to it", self.seed);
            }
        }
    }

    /// What somebody must see of a table: all columns of the gateway's schema, those of the key from the row id.
    pub(super) fn expected(
        &self,
        schema: &TableSchema,
        sees: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> OracleRows {
        let columns = schema.columns.iter().map(|column| column.name.as_str());
        let columns: Vec<&str> = columns.collect();
        let rows = self.oracle.table(schema.table.as_str(), AsOf::NOW);
        let mut rows = with_every_column(&rows, &columns);
        for (row_id, cells) in &mut rows {
            let row_id = RowId::parse(row_id).unwrap();
            for (column, value) in schema.key_values(&row_id).unwrap() {
                let mut text = String::new();
                value.write_canonical(&mut text);
                cells.insert(column.to_string(), text);
            }
        }
        rows.retain(|_, cells| sees(cells));
        rows
    }

    /// The log, and every table by SQL: what was ever accepted is there, once.
    pub(super) async fn check(&self) {
        self.check_log().await;
        for schema in self.schemas() {
            let batches = self.sql(&format!("select * from {}", schema.table)).await;
            let found = cells::rows(&schema, &batches);
            let expected = self.expected(&schema, |_| true);
            assert_eq!(found, expected, "seed {}: {}", self.seed, schema.table);
        }
    }

    async fn check_log(&self) {
        let mut ids = BTreeSet::new();
        let mut since = Seq::ZERO;
        loop {
            let page = match self.gateway().pull(since, 1_000).await {
                Ok(page) => page,
                Err(Error::Refused(refusal))
                    if self.forgets && refusal.code == ErrorCode::CursorExpired =>
                {
                    return;
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            };
            for delta in &page.deltas {
                let id = *delta.delta.delta_id.as_bytes();
                assert!(ids.insert(id), "seed {}: {delta:?} came twice", self.seed);
            }
            since = page.cursor;
            if !page.has_more {
                break;
            }
        }
        let lacking = self
            .oracle
            .deltas()
            .iter()
            .filter(|delta| !ids.contains(&delta.id));
        let lacking: Vec<&OracleDelta> = lacking.collect();
        assert!(
            lacking.is_empty(),
            "seed {}: the log lacks {lacking:#?}",
            self.seed
        );
        assert_eq!(ids.len(), self.oracle.deltas().len(), "seed {}", self.seed);
    }
}
