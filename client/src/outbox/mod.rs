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
//! | state | | `seq` | shows in `t` |
//! |---|---|---|---|
//! | 0 pending | waits to be sent; `doubt` when an earlier sending had no answer | none | yes |
//! | 0 pending, held | waits for the gateway's schema | the registry's version that it was held at | yes |
//! | 1 in flight | sent, no answer yet; a crash makes it pending and in doubt | none | yes |
//! | 2 acknowledged | the gateway has it, the cursor is not there yet | its seq | yes |
//! | 3 kept | the cursor has passed it; the warehouse does not have it yet | its seq | as confirmed |
//! | 4 rejected | a dead letter with its `reason` | none | no |
//!
//! `delta` is the durable log's blob of one delta, so values keep their types when a column is dropped. A dead letter
//! whose `hlc` is 0 never became a delta: its `delta` is the captured values as text.
//!
//! Invariant: an entry arrives in the transaction that seals its edit and leaves when the gateway's answer, or a person,
//! says so. An entry is given another stamp only when it is certain that the gateway never took it.

mod answer;
mod batch;
mod dead;
mod durable;
mod entry;
mod list;
mod restamp;
mod verdict;

#[cfg(test)]
mod tests;

use lakesync_proto::RowDelta;

pub(crate) use answer::{Acknowledged, acknowledge, refuse};
pub(crate) use batch::{doubt, put_back, recover, take};
pub(crate) use dead::add_rejected;
pub use dead::{DeadLetter, Reason};
pub(crate) use durable::{cover, forget, resend};
pub(crate) use entry::{add, any_uncovered, uncovered};
pub use list::{EntryState, OutboxEntry};
pub(crate) use list::{counts, waiting};

/// Entries by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Edits that wait to be sent, those that nobody has sealed yet and those that wait for a schema included.
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
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// The entries, in the order of `deltas`.
    pub(crate) entries: Vec<i64>,
    pub(crate) deltas: Vec<RowDelta>,
}

/// What a refusal of a batch led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This edit is a dead letter, and with it perhaps others that the same answer refuses; the rest goes again.
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
