//! What client and gateway say to each other, without its encoding.
//!
//! Invariant: cursors are arrival numbers ([`Seq`]) of the answer's [`Epoch`]; a cursor of another epoch means nothing.

use std::sync::Arc;

use crate::delta::RowDelta;
use crate::id::{ClientId, Epoch};
use crate::seq::Seq;

/// A client's edits on their way to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Who pushes.
    pub client_id: ClientId,
    /// The edits, in the client's order.
    pub deltas: Vec<RowDelta>,
    /// The cursor up to which the client has pulled.
    pub last_seen: Seq,
}

/// What became of one pushed delta.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable under this arrival number.
    Accepted(Seq),
    /// It had been accepted before, under this arrival number.
    Duplicate(Seq),
}

impl Outcome {
    /// The delta's arrival number.
    pub fn seq(self) -> Seq {
        match self {
            Outcome::Accepted(seq) | Outcome::Duplicate(seq) => seq,
        }
    }
}

/// The gateway's answer to a push that it accepted as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushAck {
    /// How many deltas are durable now, duplicates counted.
    pub accepted: u32,
    /// A cursor that skips nothing the client has not been given.
    pub cursor: Seq,
    /// One outcome a delta, in the push's order.
    pub outcomes: Vec<Outcome>,
    /// The log that the cursor belongs to.
    pub epoch: Epoch,
}

/// A delta with its arrival number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeqDelta {
    /// When it arrived.
    pub seq: Seq,
    /// What arrived.
    pub delta: RowDelta,
}

/// One page of a pull, in arrival order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullPage {
    /// The deltas.
    pub deltas: Vec<Arc<SeqDelta>>,
    /// Where the next pull goes on: with `has_more` the last delta of this page.
    pub cursor: Seq,
    /// Whether there is more already.
    pub has_more: bool,
    /// The log that the cursor belongs to.
    pub epoch: Epoch,
}
