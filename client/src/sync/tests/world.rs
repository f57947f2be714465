//! Devices that sync with one fake gateway, step by step, with faults in between.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use lakesync_proto::{
    ClientId, ColumnName, ManualClock, RowDelta, Seq, TableDefinition, TableName, TableSchema,
    WallClock,
};
use rusqlite::types::Value as SqlValue;
use tempfile::TempDir;

use super::fake_gateway::{FakeGateway, Opened, shown};
use crate::sync::step::Subscribe;
use crate::sync::{Reply, Session, SessionOptions, Status, Step};
use crate::transport::TransportError;
use crate::{ClientError, LocalDb};

pub(super) const START_MS: u64 = 1_700_000_000_000;

pub(super) const STOCK: &str = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "note", "type": "string"}]}"#;

pub(super) const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#;

pub(super) fn schema(body: &str) -> TableSchema {
    TableSchema::from_definition(&TableDefinition::from_json(body.as_bytes()).unwrap()).unwrap()
}

/// The next version of a schema.
pub(super) fn evolved(schema: &TableSchema, body: &str) -> TableSchema {
    let definition = TableDefinition::from_json(body.as_bytes()).unwrap();
    schema.evolve(&definition).unwrap().schema
}

/// What goes wrong with an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The request never arrives.
    LostRequest,
    /// The request takes effect, and its answer never arrives.
    LostReply,
    /// The request arrives twice.
    Twice,
    /// The answer is refused as by a gateway that is overwhelmed.
    Busy,
    /// The token is not accepted.
    Unauthorised,
}

pub(super) fn lost() -> TransportError {
    TransportError::Unreachable {
        url: "memory".to_owned(),
        source: "lost on the way".into(),
    }
}

pub(super) struct Device {
    pub(super) db: LocalDb,
    pub(super) session: Session,
    pub(super) clock: Arc<ManualClock>,
    pub(super) options: SessionOptions,
    path: PathBuf,
    name: String,
    stream: Option<Opened>,
    live: Option<(Seq, Subscribe)>,
    pub(super) faults: VecDeque<Fault>,
    /// The steps so far, in their short form.
    pub(super) steps: Vec<String>,
    pub(super) tokens: VecDeque<bool>,
    pub(super) errors: Vec<ClientError>,
}

impl Device {
    fn open(name: &str, path: PathBuf, clock: Arc<ManualClock>, options: SessionOptions) -> Device {
        let client_id = ClientId::parse(name).unwrap();
        let wall_clock: Arc<dyn WallClock> = Arc::<ManualClock>::clone(&clock);
        let db = LocalDb::open(&path, client_id, wall_clock).unwrap();
        Device {
            session: Session::new(db.clone(), options.clone()),
            db,
            clock,
            options,
            path,
            name: name.to_owned(),
            stream: None,
            live: None,
            faults: VecDeque::new(),
            steps: Vec::new(),
            tokens: VecDeque::new(),
            errors: Vec::new(),
        }
    }

    /// Ends the program and opens its file again; nothing but the file survives.
    pub(super) fn restart(&mut self) {
        let (path, clock) = (self.path.clone(), Arc::clone(&self.clock));
        *self = Device::open(&self.name.clone(), path, clock, self.options.clone());
    }

    /// Another session on the same handle.
    pub(super) fn begin(&mut self, options: SessionOptions) {
        self.options = options;
        self.session = Session::new(self.db.clone(), self.options.clone());
        (self.stream, self.live) = (None, None);
    }

    pub(super) fn sql(&self, sql: &str) {
        self.db.execute(sql, []).unwrap();
    }

    pub(super) fn rows(&self, sql: &str) -> Vec<Vec<SqlValue>> {
        self.db.query(sql, []).unwrap().rows
    }

    /// The rows of stock as text, one a line.
    pub(super) fn stock(&self) -> String {
        let rows = self.rows("SELECT code || '=' || coalesce(count, '') || coalesce(' ' || note, '') FROM stock ORDER BY 1");
        let text = |row: &Vec<SqlValue>| match &row[0] {
            SqlValue::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        rows.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn has_column(&self, column: &str) -> bool {
        let sql =
            format!("SELECT count(*) FROM pragma_table_info('stock') WHERE name = '{column}'");
        self.rows(&sql)[0][0] == 1.into()
    }

    /// The colours of stock that are set, as text.
    pub(super) fn colours(&self) -> String {
        let rows = self.rows(
            "SELECT coalesce(group_concat(code || ' is ' || colour, ', '), '') \
             FROM (SELECT * FROM stock WHERE colour IS NOT NULL ORDER BY code)",
        );
        match &rows[0][0] {
            SqlValue::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.session.status()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Does one step; the step is told.
    pub(super) fn step(&mut self, gateway: &mut FakeGateway) -> Step {
        let step = self.session.next().unwrap();
        self.steps.push(format!("{step:?}"));
        if let Some(reply) = self.reply(&step, gateway) {
            self.give(reply);
        }
        step
    }

    pub(super) fn give(&mut self, reply: Reply) {
        if let Err(error) = self.session.on_reply(reply) {
            self.errors.push(error);
        }
    }

    fn reply(&mut self, step: &Step, gateway: &mut FakeGateway) -> Option<Reply> {
        match step {
            Step::Wait { .. } | Step::Stopped => return None,
            Step::Unsubscribe => {
                self.live = None;
                return None;
            }
            Step::RefreshToken => {
                return Some(Reply::Token(self.tokens.pop_front().unwrap_or(false)));
            }
            _ => {}
        }
        let fault = self.faults.pop_front().unwrap_or(Fault::None);
        let error = match fault {
            Fault::LostRequest => Some(lost()),
            Fault::Busy => Some(refused(503, "BACKPRESSURE_ERROR")),
            Fault::Unauthorised => Some(refused(401, "AUTH_ERROR")),
            Fault::LostReply => {
                self.answer(step, gateway);
                Some(lost())
            }
            Fault::Twice => {
                let first = match step {
                    Step::Chunk => None,
                    _ => Some(self.answer(step, gateway)),
                };
                drop(first);
                None
            }
            Fault::None => None,
        };
        Some(match error {
            Some(error) => failed(step, error),
            None => self.answer(step, gateway),
        })
    }

    fn answer(&mut self, step: &Step, gateway: &mut FakeGateway) -> Reply {
        match step {
            Step::Push(push) => Reply::Pushed(gateway.push(push)),
            Step::Pull(pull) => Reply::Pulled(gateway.pull(pull)),
            Step::Checkpoint(request) => match gateway.checkpoint(request) {
                Ok(opened) => {
                    self.stream = Some(opened);
                    self.chunk(gateway)
                }
                Err(error) => Reply::Chunk(Err(error)),
            },
            Step::Chunk => self.chunk(gateway),
            Step::Schemas => Reply::Schemas(Ok(gateway.schemas.clone())),
            Step::Subscribe(subscribe) => match gateway.place(&subscribe.cursor) {
                Ok(seq) => {
                    self.live = Some((seq, subscribe.clone()));
                    Reply::Subscribed(Ok(()))
                }
                Err(error) => Reply::Subscribed(Err(error)),
            },
            Step::Digest { .. } => Reply::Digest(Ok(gateway.digest())),
            other => panic!("{other:?} has no answer"),
        }
    }

    fn chunk(&mut self, gateway: &mut FakeGateway) -> Reply {
        let opened = self.stream.as_mut().expect("a checkpoint is open");
        Reply::Chunk(gateway.chunk(opened))
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The next live page, if there is anything new, as the gateway sends it.
    pub(super) fn live_page(&mut self, gateway: &mut FakeGateway) -> Option<Reply> {
        let (seq, subscribe) = self.live.as_mut()?;
        let page = gateway.page(*seq, 5, None);
        if page.cursor == *seq {
            return None;
        }
        *seq = page.cursor;
        let schemas = Arc::clone(&subscribe.schemas);
        Some(match gateway.sent(&page, schemas.as_ref()) {
            Ok(page) => Reply::Live(page),
            Err(error) => {
                self.live = None;
                Reply::LiveEnded(error)
            }
        })
    }

    /// Hands over all live pages.
    pub(super) fn hear(&mut self, gateway: &mut FakeGateway) {
        while let Some(page) = self.live_page(gateway) {
            self.give(page);
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.live = None;
        self.give(Reply::LiveEnded(lost()));
    }

    /// Goes on until there is nothing to do, without letting time pass; what ended it.
    pub(super) fn run(&mut self, gateway: &mut FakeGateway) -> Step {
        for _ in 0..500 {
            self.hear(gateway);
            let step = self.step(gateway);
            if matches!(step, Step::Wait { .. } | Step::Stopped) {
                return step;
            }
        }
        panic!(
            "{} does not come to rest: {:?}",
            self.name,
            &self.steps[self.steps.len() - 30..]
        );
    }

    /// Goes on through waits until everything is here and sent.
    pub(super) fn settle(&mut self, gateway: &mut FakeGateway) {
        for _ in 0..500 {
            let Step::Wait { until_ms } = self.run(gateway) else {
                return;
            };
            let status = self.status();
            let unsent = status.counts.pending + status.counts.in_flight;
            if status.last_error.is_none() && unsent == 0 {
                return;
            }
            let until_ms = until_ms.expect("a wait that ends");
            let by_ms = until_ms.saturating_sub(self.now_ms());
            self.clock.advance(by_ms);
            gateway.now_ms += by_ms;
        }
        panic!("{} does not settle: {:?}", self.name, self.status());
    }
}

fn refused(status: u16, code: &str) -> TransportError {
    let mut refusal = super::fake_gateway::refusal(status, code);
    refusal.index = None;
    TransportError::Refused(Box::new(refusal))
}

pub(super) fn failed(step: &Step, error: TransportError) -> Reply {
    match step {
        Step::Push(_) => Reply::Pushed(Err(error)),
        Step::Pull(_) => Reply::Pulled(Err(error)),
        Step::Checkpoint(_) | Step::Chunk => Reply::Chunk(Err(error)),
        Step::Schemas => Reply::Schemas(Err(error)),
        Step::Subscribe(_) => Reply::Subscribed(Err(error)),
        Step::Digest { .. } => Reply::Digest(Err(error)),
        other => panic!("{other:?} cannot fail"),
    }
}

pub(super) struct World {
    dir: TempDir,
    /// How often an answer was damaged on its way.
    pub(super) garbled: u64,
    pub(super) gateway: FakeGateway,
}

impl World {
    /// A gateway with the table `stock`.
    pub(super) fn new() -> World {
        let mut gateway = FakeGateway::default();
        gateway.now_ms = START_MS;
        gateway.chunk_deltas = 3;
        gateway.schemas = vec![schema(STOCK)];
        World {
            dir: TempDir::new().unwrap(),
            garbled: 0,
            gateway,
        }
    }

    /// A device that knows the table `stock`.
    pub(super) fn device(&self, name: &str, options: SessionOptions) -> Device {
        let path = self.dir.path().join(format!("{name}.db"));
        let clock = Arc::new(ManualClock::new(START_MS));
        let device = Device::open(name, path, clock, options);
        device.db.register(&schema(STOCK)).unwrap();
        device
    }

    /// Another client's edit arrives, stamped now.
    pub(super) fn arrive(&mut self, delta: RowDelta) {
        self.gateway.arrive(delta);
    }

    /// What everybody must show of stock.
    pub(super) fn stock(&self) -> String {
        let table = TableName::parse("stock").unwrap();
        let schema = self
            .gateway
            .schemas
            .iter()
            .find(|schema| schema.table == table)
            .unwrap();
        let merged = self.gateway.merged();
        let rows = merged
            .iter()
            .filter(|((of, _), state)| *of == table && state.exists());
        let text = |((_, row_id), state): (&(TableName, _), _)| {
            let shown = shown(schema, row_id, state);
            let of = |name: &str, prefix: &str| match shown.get(name) {
                None | Some(lakesync_proto::Value::Null) => String::new(),
                Some(lakesync_proto::Value::Long(value)) => format!("{prefix}{value}"),
                Some(lakesync_proto::Value::String(value)) => format!("{prefix}{value}"),
                Some(other) => panic!("{other:?}"),
            };
            format!("{}={}{}", of("code", ""), of("count", ""), of("note", " "))
        };
        let mut lines: Vec<String> = rows.map(text).collect();
        lines.sort();
        lines.join(", ")
    }

    /// What everybody must show of the colours of stock.
    pub(super) fn colours(&self) -> String {
        let merged = self.gateway.merged();
        let colour = ColumnName::parse("colour").unwrap();
        let set = merged.iter().filter_map(|((_, row_id), state)| {
            match state.exists().then(|| state.visible(&colour))? {
                Some(lakesync_proto::Value::String(colour)) => {
                    Some(format!("{row_id} is {colour}"))
                }
                _ => None,
            }
        });
        set.collect::<Vec<_>>().join(", ")
    }
}
