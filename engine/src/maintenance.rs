//! Compaction without anybody asking: after flushes, tables whose overlay has grown are folded into their bases.
//!
//! ```text
//!   flushed ──► due(table, policy) ──► compact, one table at a time ──► read views shrink
//!                    ▲                        │ error
//!                    └──── backoff ◄──────────┘
//! ```
//! **Invariant:** one compaction runs at a time, on the table that waits most; a table that fails is tried again ever
//! more rarely and never keeps another from its turn.

use std::time::Duration;

/// When a table is compacted: as soon as one of these is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactPolicy {
    /// Bytes that are flushed and not in the base.
    pub when_bytes: u64,
    /// Deltas that are flushed and not in the base.
    pub when_rows: u64,
    /// How long flushed deltas may wait, however few.
    pub max_age: Duration,
}
