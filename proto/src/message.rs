//! What client and gateway say to each other, without its encoding.
//!
//! Invariant: cursors are arrival numbers ([`Seq`]) of the answer's [`Epoch`]; a cursor of another epoch means nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::delta::RowDelta;
use crate::id::{ClientId, ColumnName, Epoch, RowId, TableName};
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
    /// The hash over the schemas that the client knows ([`schemas_hash`](crate::schemas_hash)); older clients tell
    /// none.
    pub schemas: Option<u64>,
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
    /// Columns that deltas wrote though they had been dropped, by the delta's place in the push: what they wrote is
    /// kept in the log and shown nowhere. Only native clients read it.
    pub ignored: BTreeMap<usize, Vec<ColumnName>>,
    /// The log that the cursor belongs to.
    pub epoch: Epoch,
    /// What only native clients read.
    pub notes: Notes,
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
    /// Rows that left what the client may see, ascending by seq: it drops them and leaves no tombstone. Between
    /// deltas and these the seq decides. A legacy page has none; it has DELETE deltas instead.
    pub removed: Vec<Removed>,
    /// Whether there is more already.
    pub has_more: bool,
    /// The log that the cursor belongs to.
    pub epoch: Epoch,
    /// What only native clients read.
    pub notes: Notes,
}

/// A row that left what a client may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The arrival number of the delta that took it away.
    pub seq: Seq,
    /// Its table.
    pub table: TableName,
    /// Its id.
    pub row_id: RowId,
}

/// What an answer tells native clients besides its content; older clients skip it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The cursor in its native form.
    pub next: Option<Cursor>,
    /// The checksum of the page, see [`page_checksum`](crate::page_checksum).
    pub checksum: Option<u64>,
    /// Everything up to this seq is in the warehouse, on storage that outlives the gateway's disk.
    pub durable: Option<Seq>,
    /// The tables' versions, when the client's are others or it named none.
    pub schemas: Option<SchemaNote>,
    /// Of a checkpoint's chunk: what resumes the checkpoint behind it. Opaque; protobuf only.
    pub resume: Option<String>,
}

/// The versions of all tables of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaNote {
    /// One hash over all schemas, see [`schemas_hash`](crate::schemas_hash).
    pub hash: u64,
    /// Whether the client's hash is another one: it asks for the schemas before it goes on.
    pub changed: bool,
    /// Each table's version; empty when nothing changed.
    pub tables: Vec<(TableName, u32)>,
}
