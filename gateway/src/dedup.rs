//! Which deltas are known: delta id → (seq, op), for everything that the lake does not hold yet.
//!
//! **Invariant:** every delta that is not flushed is here, so what is known is bounded by what is hot; a flushed one is
//! found in the flushed log instead, when its stamp is not above what its client has sent before.

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

    /// How many deltas are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether a delta up to this seq is known.
    pub(crate) fn knows_up_to(&self, seq: Seq) -> bool {
        self.by_seq.front().is_some_and(|(first, _)| *first <= seq)
    }

    /// Forgets what is found in the flushed log.
    pub(crate) fn forget(&mut self, up_to: Seq) {
        while let Some((seq, id)) = self.by_seq.front().copied() {
            if seq > up_to {
                break;
            }
            self.by_seq.pop_front();
            self.known.remove(&id);
        }
        if self.known.len() < self.known.capacity() / 4 {
            self.known.shrink_to_fit();
            self.by_seq.shrink_to_fit();
        }
    }
}
