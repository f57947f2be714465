//! How much of a table is in memory, counted as it changes.
//!
//! **Invariant:** what is counted is what is held: adding and removing a push leaves the size as it was.

use std::sync::Arc;

use lakesync_proto::{Seq, SeqDelta, TableName};

use crate::view::HotPush;

/// The size of hot deltas: those that the base does not hold yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotSize {
    /// How many deltas are hot.
    pub deltas: u64,
    /// About how many bytes of memory they take.
    pub bytes: u64,
    /// How many of them are not flushed either.
    pub unflushed_deltas: u64,
    /// About how many bytes of memory those take.
    pub unflushed_bytes: u64,
    /// When the oldest delta that is not flushed was accepted, in milliseconds since 1970.
    pub unflushed_since_ms: Option<u64>,
}

/// One table's size and how far it has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub table: TableName,
    /// What is in memory.
    pub hot: HotSize,
    /// Everything up to this seq has been flushed.
    pub flushed: Seq,
    /// Everything up to this seq is in the base.
    pub base: Seq,
}

impl HotSize {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let since = self.unflushed_since_ms.into_iter();
        Self {
            deltas: self.deltas + other.deltas,
            bytes: self.bytes + other.bytes,
            unflushed_deltas: self.unflushed_deltas + other.unflushed_deltas,
            unflushed_bytes: self.unflushed_bytes + other.unflushed_bytes,
            unflushed_since_ms: since.chain(other.unflushed_since_ms).min(),
        }
    }

    /// A push of a table whose log holds everything up to `flushed`.
    pub(crate) fn add(&mut self, push: &HotPush, flushed: Seq) {
        let (deltas, bytes) = count(&push.deltas);
        self.deltas += deltas;
        self.bytes += bytes;
        self.add_unflushed(push, flushed);
    }

    pub(crate) fn remove(&mut self, push: &HotPush) {
        let (deltas, bytes) = count(&push.deltas);
        self.deltas -= deltas;
        self.bytes -= bytes;
    }

    /// Looks again at the deltas above `flushed` among `hot`, which ascends by seq.
    pub(crate) fn recount_unflushed(&mut self, hot: &[Arc<HotPush>], flushed: Seq) {
        self.unflushed_deltas = 0;
        self.unflushed_bytes = 0;
        self.unflushed_since_ms = None;
        let above = |push: &&Arc<HotPush>| push.deltas.last().is_some_and(|d| d.seq > flushed);
        for push in hot.iter().rev().take_while(above) {
            self.add_unflushed(push, flushed);
        }
    }

    fn add_unflushed(&mut self, push: &HotPush, flushed: Seq) {
        let above = push.deltas.partition_point(|delta| delta.seq <= flushed);
        let (deltas, bytes) = count(&push.deltas[above..]);
        if deltas > 0 {
            self.unflushed_deltas += deltas;
            self.unflushed_bytes += bytes;
            let since = self.unflushed_since_ms.into_iter();
            self.unflushed_since_ms = since.chain([push.arrived_ms]).min();
        }
    }
}

fn count(deltas: &[Arc<SeqDelta>]) -> (u64, u64) {
    let bytes: usize = deltas.iter().map(|delta| delta.delta.bytes()).sum();
    let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
    (number(deltas.len()), number(bytes))
}
