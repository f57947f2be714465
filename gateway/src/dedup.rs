//! Which deltas are known: delta id → (seq, op), for everything the durable log holds above the flushed mark.
//!
//! **Invariant:** every delta in the durable log above the mark that the gateway was opened with is here; one below it,
//! or trimmed, is found in the flushed log instead, when its stamp is not above what its client has sent before.

use std::collections::{HashMap, VecDeque};

use lakesync_proto::{DeltaId, Op, Seq, SeqDelta};

/// The known deltas of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    known: HashMap<DeltaId, (Seq, Op)>,
    by_seq: VecDeque<(Seq, DeltaId)>,
}

impl Dedup {
    /// What is known of this id.
    pub(crate) fn get(&self, id: &DeltaId) -> Option<(Seq, Op)> {
        self.known.get(id).copied()
    }

    /// Remembers durable deltas, ascending by seq.
    pub(crate) fn extend<'a>(&mut self, deltas: impl Iterator<Item = &'a SeqDelta>) {
        for delta in deltas {
            self.known
                .insert(delta.delta.delta_id, (delta.seq, delta.delta.op));
            self.by_seq.push_back((delta.seq, delta.delta.delta_id));
        }
    }

    /// Forgets what the durable log has forgotten.
    pub(crate) fn forget(&mut self, up_to: Seq) {
        while let Some((seq, id)) = self.by_seq.front().copied() {
            if seq > up_to {
                break;
            }
            self.by_seq.pop_front();
            self.known.remove(&id);
        }
    }
}
