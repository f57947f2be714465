//! `_lakesync_outbox`: own deltas from their seal until the gateway's pages confirm them.
//!
//! ```text
//!            ┌──────────────── retry: stamped anew ◄──────────────┐
//!            ▼                                                    │
//! seal ─► pending ─► in flight ─► acknowledged ─► kept ─► gone    │
//!            ▲          │   │      has its seq     │  durable     │
//!            │          │   └─► rejected ──────────┼──────────────┴─► discarded
//!            └ no answer: in doubt                 ▼
//!            └──────── the epoch changed: acknowledged and kept ones go again
//! ```
//! | state | | shows in `t` |
//! |---|---|---|
//! | 0 pending | waits to be sent; `doubt` when an earlier sending had no answer | yes |
//! | 1 in flight | sent, no answer yet; a crash makes it pending and in doubt | yes |
//! | 2 acknowledged | the gateway has it as `seq`, the cursor is not there yet | yes |
//! | 3 kept | the cursor has passed `seq`; the warehouse does not have it yet | as confirmed |
//! | 4 rejected | a dead letter with its `reason` | no |
//!
//! Invariant: an entry arrives in the transaction that seals its edit and leaves when the gateway's answer, or a person,
//! says so. An entry is given another stamp only when it is certain that the gateway never took it.

use lakesync_proto::{PushAck, RowDelta, RowId, Seq};
use rusqlite::Connection;

use crate::error::ClientError;
use crate::local::Work;
use crate::schema::{LocalTable, TableNumber};
use crate::transport::Refusal;

/// Entries by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Edits that wait to be sent, those that nobody has sealed yet included.
    pub pending: u64,
    /// Edits on their way, without an answer yet.
    pub in_flight: u64,
    /// Edits that the gateway has and that no page has confirmed yet.
    pub acknowledged: u64,
    /// Confirmed edits that are kept until the warehouse has them.
    pub kept: u64,
    /// Dead letters.
    pub rejected: u64,
}

/// What goes into one push.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    /// The entries, in the order of `deltas`.
    pub(crate) entries: Vec<i64>,
    pub(crate) deltas: Vec<RowDelta>,
}

/// What a refusal of a batch led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// One edit is a dead letter; the others go again.
    Rejected { entry: i64 },
    /// Edits were stamped anew, because the clock had run ahead; they go again.
    Restamped { count: u64 },
    /// It waits until the gateway's schema has what it needs; the others go again.
    Held { entry: i64 },
    /// The gateway named nobody: smaller batches go, at most this many entries each.
    Split { limit: usize },
    /// It was nobody's edit: nothing can be sent for now.
    Whole,
}

pub(crate) fn add(
    work: &Work<'_>,
    table: &LocalTable,
    delta: &RowDelta,
) -> Result<(), ClientError> {
    let _ = (work, table, delta);
    unimplemented!("outbox")
}

/// What could not become a delta, as a dead letter: `what` shows the captured values as text.
pub(crate) fn add_rejected(
    work: &Work<'_>,
    table: &LocalTable,
    row_id: &str,
    (what, reason): (&str, &str),
) -> Result<(), ClientError> {
    let _ = (work, table, row_id, what, reason);
    unimplemented!("outbox")
}

/// Whether any entry shows in `t` beyond what is confirmed.
pub(crate) fn any_uncovered(connection: &Connection) -> Result<bool, ClientError> {
    let _ = connection;
    unimplemented!("outbox")
}

/// The entries of a row that show in `t` beyond what is confirmed, oldest first.
pub(crate) fn uncovered(
    work: &Work<'_>,
    table: TableNumber,
    row_id: &RowId,
) -> Result<Vec<RowDelta>, ClientError> {
    let _ = (work, table, row_id);
    unimplemented!("outbox")
}

/// The oldest entries that may go now, at most `limit`, marked as in flight. Those wait whose table or columns the gateway
/// is known not to have.
pub(crate) fn take(work: &mut Work<'_>, limit: usize) -> Result<Option<Batch>, ClientError> {
    let _ = (work, limit);
    unimplemented!("outbox")
}

/// The gateway has them.
pub(crate) fn acknowledge(
    work: &mut Work<'_>,
    batch: &Batch,
    ack: &PushAck,
) -> Result<(), ClientError> {
    let _ = (work, batch, ack);
    unimplemented!("outbox")
}

/// The gateway has looked at the batch and taken none of it.
pub(crate) fn refuse(
    work: &mut Work<'_>,
    batch: &Batch,
    refusal: &Refusal,
) -> Result<Refused, ClientError> {
    let _ = (work, batch, refusal);
    unimplemented!("outbox")
}

/// There was no answer: the entries go again, and nobody knows whether the gateway has them.
pub(crate) fn doubt(work: &mut Work<'_>, batch: &Batch) -> Result<(), ClientError> {
    let _ = (work, batch);
    unimplemented!("outbox")
}

/// The request was definitely not looked at (busy, unauthorised): the entries go again as they were.
pub(crate) fn put_back(work: &mut Work<'_>, batch: &Batch) -> Result<(), ClientError> {
    let _ = (work, batch);
    unimplemented!("outbox")
}

/// What was in flight when the program ended is in doubt. Called once at opening of a session.
pub(crate) fn recover(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let _ = work;
    unimplemented!("outbox")
}

/// The cursor has come to `seq`: acknowledged entries up to there are confirmed by pages, or not to be seen by this
/// client.
pub(crate) fn cover(work: &mut Work<'_>, seq: Seq) -> Result<(), ClientError> {
    let _ = (work, seq);
    unimplemented!("outbox")
}

/// The warehouse has everything up to `seq`: what was kept for it goes.
pub(crate) fn forget(work: &mut Work<'_>, seq: Seq) -> Result<(), ClientError> {
    let _ = (work, seq);
    unimplemented!("outbox")
}

/// The gateway's log is another one: what was acknowledged and is still here goes again.
pub(crate) fn resend(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let _ = work;
    unimplemented!("outbox")
}

/// Entries by state.
pub(crate) fn counts(connection: &Connection) -> Result<OutboxCounts, ClientError> {
    let _ = connection;
    unimplemented!("outbox")
}
