//! A gateway in memory, with faults on demand.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use lakesync_proto::{
    ClientId, Cursor, DeltaId, Epoch, Notes, Outcome, PullPage, Push, PushAck, Seq, SeqDelta,
    TableDefinition, TableSchema, page_checksum,
};

use crate::GatewayDigest;
use crate::sync::{CheckpointRequest, Pull, Reply, Subscribe};
use crate::transport::{Chunks, LiveConnection, LiveEvents, Refusal, Transport, TransportError};

const EPOCH: &str = "00000000-0000-4000-8000-000000000000";

/// What happens to exchanges from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weather {
    #[default]
    Fair,
    /// Nothing is reached.
    Down,
    /// The first edit of every push is refused as too late.
    Refusing,
    /// The transport panics.
    Broken,
    /// Pushes wait until the weather changes.
    Slow,
    /// Live connections never stop telling.
    Flooding,
}

/// A transport to it; clones reach the same one.
#[derive(Clone)]
pub(super) struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    weather: Weather,
    schemas: Vec<TableSchema>,
    log: Vec<Arc<SeqDelta>>,
    seqs: BTreeMap<DeltaId, Seq>,
    live: Vec<Sender<Reply>>,
    /// Every exchange, by name.
    asked: Vec<&'static str>,
}

impl Gateway {
    pub(super) fn new(schemas: Vec<TableSchema>) -> Gateway {
        let state = State {
            schemas,
            ..State::default()
        };
        Gateway {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    pub(super) fn set(&self, weather: Weather) {
        self.state().weather = weather;
        self.inner.changed.notify_all();
    }

    /// Waits until something of this name was asked.
    pub(super) fn wait_for(&self, name: &str) {
        let state = self.state();
        let asked = |state: &mut State| !state.asked.contains(&name);
        let (_state, waited) = self
            .inner
            .changed
            .wait_timeout_while(state, super::PATIENCE, asked)
            .unwrap();
        assert!(!waited.timed_out(), "nobody asked for {name}");
    }

    /// How many edits have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.state().log.len()
    }

    /// How many transports to it there are.
    pub(super) fn transports(&self) -> usize {
        Arc::strong_count(&self.inner)
    }

    /// Ends all live connections.
    pub(super) fn hang_up(&self) {
        let live = std::mem::take(&mut self.state().live);
        for line in live {
            let _ = line.send(Reply::LiveEnded(unreachable()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap()
    }

    fn ask(&self, name: &'static str) -> Result<MutexGuard<'_, State>, TransportError> {
        let mut state = self.state();
        state.asked.push(name);
        self.inner.changed.notify_all();
        if name == "push" {
            let slow = |state: &mut State| state.weather == Weather::Slow;
            state = self.inner.changed.wait_while(state, slow).unwrap();
        }
        match state.weather {
            Weather::Down => Err(unreachable()),
            Weather::Broken => {
                drop(state);
                panic!("the transport is broken")
            }
            _ => Ok(state),
        }
    }
}

fn unreachable() -> TransportError {
    TransportError::Unreachable {
        url: "the gateway".to_owned(),
        source: "it is down".into(),
    }
}

impl State {
    fn page(&self, cursor: &str, limit: usize) -> PullPage {
        let since = match cursor {
            "" => Seq::ZERO,
            text => text.parse::<Cursor>().unwrap().seq,
        };
        let behind = self.log.iter().filter(|delta| delta.seq > since);
        let deltas: Vec<_> = behind.clone().take(limit).map(Arc::clone).collect();
        let cursor = deltas.last().map_or(since, |delta| delta.seq);
        self.stamped(PullPage {
            has_more: behind.count() > deltas.len(),
            deltas,
            cursor,
            removed: Vec::new(),
            epoch: Epoch::parse(EPOCH).unwrap(),
            notes: Notes::default(),
        })
    }

    /// With the notes that a gateway makes.
    fn stamped(&self, mut page: PullPage) -> PullPage {
        page.notes.next = Some(Cursor {
            epoch: page.epoch.clone(),
            seq: page.cursor,
            rules: 0,
            claims: 0,
        });
        page.notes.checksum = Some(page_checksum(&page));
        page.notes.durable = Some(page.cursor);
        page
    }

    fn take(&mut self, push: &Push) -> PushAck {
        let mut outcomes = Vec::new();
        for delta in &push.deltas {
            if let Some(seq) = self.seqs.get(&delta.delta_id) {
                outcomes.push(Outcome::Duplicate(*seq));
                continue;
            }
            let seq = Seq::from_u64(u64::try_from(self.log.len()).unwrap() + 1).unwrap();
            self.seqs.insert(delta.delta_id, seq);
            self.log.push(Arc::new(SeqDelta {
                seq,
                delta: delta.clone(),
            }));
            outcomes.push(Outcome::Accepted(seq));
        }
        PushAck {
            accepted: u32::try_from(outcomes.len()).unwrap(),
            cursor: push.last_seen,
            outcomes,
            ignored: BTreeMap::new(),
            epoch: Epoch::parse(EPOCH).unwrap(),
            notes: Notes::default(),
        }
    }
}

/// What a live connection's own thread does: whoever pushes waits for no reader, least of all for itself.
fn line(events: LiveEvents) -> Sender<Reply> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        while let Ok(reply) = receiver.recv() {
            if !events.tell(reply) {
                return;
            }
        }
    });
    sender
}

impl Transport for Gateway {
    fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
        let mut state = self.ask("push")?;
        if state.weather == Weather::Refusing {
            return Err(TransportError::Refused(Box::new(Refusal {
                status: 422,
                code: "LATE_DELTA".to_owned(),
                message: "it is too late".to_owned(),
                index: Some(0),
                request_id: None,
                retry_after: None,
                details: serde_json::Map::new(),
            })));
        }
        let before = state.log.len();
        let ack = state.take(push);
        if state.log.len() > before {
            let page = state.page(&cursor(before), usize::MAX);
            state
                .live
                .retain(|line| line.send(Reply::Live(page.clone())).is_ok());
        }
        Ok(ack)
    }

    fn pull(&self, pull: &Pull) -> Result<PullPage, TransportError> {
        let state = self.ask("pull")?;
        Ok(state.page(&pull.cursor, usize::try_from(pull.limit).unwrap()))
    }

    fn checkpoint(&self, _: &CheckpointRequest) -> Result<Box<dyn Chunks>, TransportError> {
        let state = self.ask("checkpoint")?;
        let end = u64::try_from(state.log.len()).unwrap();
        let cursor = Seq::from_u64(end).unwrap();
        let mut page = state.page("", usize::MAX);
        let deltas = page.deltas.iter().map(|delta| {
            Arc::new(SeqDelta {
                seq: cursor,
                delta: delta.delta.clone(),
            })
        });
        page.deltas = deltas.collect();
        page.cursor = cursor;
        // Two chunks: the first of nothing but a way to go on.
        let mut first = page.clone();
        first.deltas.truncate(1);
        first.has_more = true;
        first.notes.resume = Some("1".to_owned());
        page.deltas.drain(..first.deltas.len());
        page.notes.resume = Some("2".to_owned());
        let chunks = vec![state.stamped(page), state.stamped(first)];
        Ok(Box::new(Opened(chunks)))
    }

    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> {
        Ok(self.ask("schemas")?.schemas.clone())
    }

    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError> {
        let schema = TableSchema::from_definition(definition).unwrap();
        self.ask("put_schema")?.schemas.push(schema);
        Ok(())
    }

    fn digest(&self, _: &ClientId) -> Result<GatewayDigest, TransportError> {
        Err(unreachable())
    }

    fn live(
        &self,
        subscribe: &Subscribe,
        events: LiveEvents,
    ) -> Result<Box<dyn LiveConnection>, TransportError> {
        let mut state = self.ask("live")?;
        let page = state.page(&subscribe.cursor, usize::MAX);
        events.tell(Reply::Live(page.clone()));
        if state.weather == Weather::Flooding {
            std::thread::spawn(move || while events.tell(Reply::Live(page.clone())) {});
            return Ok(Box::new(Line));
        }
        state.live.push(line(events));
        Ok(Box::new(Line))
    }
}

fn cursor(seq: usize) -> String {
    let cursor = Cursor {
        epoch: Epoch::parse(EPOCH).unwrap(),
        seq: Seq::from_u64(u64::try_from(seq).unwrap()).unwrap(),
        rules: 0,
        claims: 0,
    };
    cursor.to_string()
}

/// The last chunk first.
struct Opened(Vec<PullPage>);

impl Chunks for Opened {
    fn next(&mut self) -> Result<Option<PullPage>, TransportError> {
        Ok(self.0.pop())
    }
}

/// A live connection that ends with its queue.
struct Line;

impl LiveConnection for Line {}
