//! A gateway in memory: dense seq, duplicates recognised, nothing verified, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use lakesync_proto::{
    DeltaId, Epoch, Notes, Outcome, PullPage, Push, PushAck, RowDelta, Schemas, Seq, SeqDelta,
    TableDefinition, TableSchema,
};

use crate::transport::{Pull, Refusal, Transport, TransportError};

/// What goes wrong with the next exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request never arrives.
    LostRequest,
    /// The request takes effect, and its answer never arrives.
    LostReply,
    /// A page brings deltas again that came before.
    Repeated,
    /// Nothing.
    None,
}

#[derive(Debug, Default)]
pub(super) struct FakeGateway {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<Arc<SeqDelta>>,
    seqs: BTreeMap<DeltaId, Seq>,
    replaced: u32,
    schemas: Vec<TableSchema>,
    faults: VecDeque<Fault>,
    refusal: Option<Refusal>,
    pushes: Vec<Push>,
}

impl FakeGateway {
    pub(super) fn with_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults = faults.into_iter().collect();
    }

    /// Refuses every push from now on.
    pub(super) fn refuse(&self, refusal: Option<Refusal>) {
        self.state().refusal = refusal;
    }

    pub(super) fn serve(&self, schemas: &[TableSchema]) {
        self.state().schemas = schemas.to_vec();
    }

    /// A new log with the deltas of the old one in another order.
    pub(super) fn replace_log(&self) {
        let mut state = self.state();
        state.replaced += 1;
        let old: Vec<RowDelta> = state
            .log
            .drain(..)
            .rev()
            .map(|entry| entry.delta.clone())
            .collect();
        state.seqs.clear();
        for delta in old {
            state.arrive(delta);
        }
    }

    pub(super) fn log(&self) -> Vec<RowDelta> {
        self.state()
            .log
            .iter()
            .map(|entry| entry.delta.clone())
            .collect()
    }

    /// The pushes that arrived.
    pub(super) fn pushes(&self) -> Vec<Push> {
        self.state().pushes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn arrive(&mut self, delta: RowDelta) -> Outcome {
        if let Some(seq) = self.seqs.get(&delta.delta_id) {
            return Outcome::Duplicate(*seq);
        }
        let seq = self.last_seq().next();
        self.seqs.insert(delta.delta_id, seq);
        self.log.push(Arc::new(SeqDelta { seq, delta }));
        Outcome::Accepted(seq)
    }

    fn last_seq(&self) -> Seq {
        self.log.last().map_or(Seq::ZERO, |entry| entry.seq)
    }

    fn epoch(&self) -> Epoch {
        Epoch::parse(&format!("00000000-0000-4000-8000-{:012}", self.replaced)).unwrap()
    }

    fn fault(&mut self) -> Fault {
        self.faults.pop_front().unwrap_or(Fault::None)
    }
}

impl Transport for FakeGateway {
    fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
        let mut state = self.state();
        let fault = state.fault();
        if fault == Fault::LostRequest {
            return Err(lost());
        }
        state.pushes.push(push.clone());
        if let Some(refusal) = &state.refusal {
            return Err(TransportError::Refused(Box::new(refusal.clone())));
        }
        let outcomes: Vec<Outcome> = push
            .deltas
            .iter()
            .map(|delta| state.arrive(delta.clone()))
            .collect();
        if fault == Fault::LostReply {
            return Err(lost());
        }
        Ok(PushAck {
            accepted: u32::try_from(outcomes.len()).unwrap(),
            // The trap: above deltas of others that the client was never given.
            cursor: state.last_seq(),
            outcomes,
            ignored: Default::default(),
            epoch: state.epoch(),
            notes: Notes::default(),
        })
    }

    fn pull(&self, pull: &Pull, _: &dyn Schemas) -> Result<PullPage, TransportError> {
        let mut state = self.state();
        let fault = state.fault();
        if matches!(fault, Fault::LostRequest | Fault::LostReply) {
            return Err(lost());
        }
        let repeated = if fault == Fault::Repeated { 3 } else { 0 };
        let first = usize::try_from(pull.since.as_u64())
            .unwrap()
            .saturating_sub(repeated);
        let behind = state.log.get(first..).unwrap_or_default();
        let deltas: Vec<Arc<SeqDelta>> = behind
            .iter()
            .take(usize::try_from(pull.limit).unwrap() + repeated)
            .map(Arc::clone)
            .collect();
        let has_more = deltas.len() < behind.len();
        let cursor = deltas.last().map_or(pull.since, |entry| entry.seq);
        Ok(PullPage {
            deltas,
            cursor,
            removed: Vec::new(),
            has_more,
            epoch: state.epoch(),
            notes: Notes::default(),
        })
    }

    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> {
        Ok(self.state().schemas.clone())
    }

    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError> {
        self.state()
            .schemas
            .push(TableSchema::from_definition(definition).unwrap());
        Ok(())
    }
}

fn lost() -> TransportError {
    TransportError::Unreachable {
        url: "memory".to_owned(),
        source: "lost on the way".into(),
    }
}
