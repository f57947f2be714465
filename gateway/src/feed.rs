//! The feed: recent deltas in memory, by seq, for pulls.
//!
//! **Invariant:** the feed is a contiguous run of seqs that ends at the visible one; it only forgets at
//! its old end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakesync_proto::{ClientId, Seq, SeqDelta};
use tokio::sync::watch;

/// What a pull finds in memory.
#[derive(Debug)]
pub(crate) enum Found {
    /// The page, and the seq up to which everything is visible.
    Page(Vec<Arc<SeqDelta>>, Seq),
    /// The feed begins above the cursor: older sources have what is up to `to`.
    Older {
        /// The last seq below the feed.
        to: Seq,
        /// Everything up to this seq is visible.
        visible: Seq,
    },
    /// The cursor is beyond everything visible: it is of another log.
    Beyond(Seq),
}

#[derive(Debug)]
pub(crate) struct Feed {
    bytes_max: usize,
    inner: Mutex<Inner>,
    visible: watch::Sender<Seq>,
}

#[derive(Debug)]
struct Inner {
    /// Everything up to this seq has been forgotten, or was never held.
    below: Seq,
    visible: Seq,
    bytes: usize,
    deltas: VecDeque<Arc<SeqDelta>>,
}

impl Feed {
    /// An empty feed whose next delta is above `visible`.
    pub(crate) fn new(visible: Seq, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            visible: watch::Sender::new(visible),
            inner: Mutex::new(Inner {
                below: visible,
                visible,
                bytes: 0,
                deltas: VecDeque::new(),
            }),
        }
    }

    /// Adds durable deltas, ascending, and moves the visible seq.
    pub(crate) fn append(&self, deltas: &[Arc<SeqDelta>], visible: Seq) {
        let mut inner = self.lock();
        inner.visible = visible;
        for delta in deltas {
            inner.bytes += delta.delta.bytes();
            inner.deltas.push_back(Arc::clone(delta));
        }
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.deltas.pop_front() else {
                break;
            };
            inner.bytes -= oldest.delta.bytes();
            inner.below = oldest.seq;
        }
        self.visible.send_replace(visible);
    }

    /// The visible seq, as it grows.
    pub(crate) fn visible(&self) -> watch::Receiver<Seq> {
        self.visible.subscribe()
    }

    /// Forgets everything: the feed begins again above `seq`.
    pub(crate) fn begin_at(&self, seq: Seq) {
        let mut inner = self.lock();
        inner.deltas.clear();
        inner.bytes = 0;
        inner.below = seq;
        inner.visible = inner.visible.max(seq);
        self.visible.send_replace(inner.visible);
    }

    /// Up to `limit` deltas above `since`.
    pub(crate) fn page(&self, since: Seq, limit: usize) -> Found {
        let inner = self.lock();
        if since < inner.below {
            return Found::Older {
                to: inner.below,
                visible: inner.visible,
            };
        }
        if since > inner.visible {
            return Found::Beyond(inner.visible);
        }
        let from = inner.deltas.partition_point(|delta| delta.seq <= since);
        let page = inner.deltas.iter().skip(from).take(limit).map(Arc::clone);
        Found::Page(page.collect(), inner.visible)
    }

    /// A cursor for the answer to a push that skips nothing the client has not been given: everything
    /// visible when it is all the client's own, else the last seq before somebody else's first delta.
    pub(crate) fn cursor_after_push(&self, client: &ClientId, last_seen: Seq) -> Seq {
        let inner = self.lock();
        if last_seen < inner.below {
            return last_seen;
        }
        let from = inner.deltas.partition_point(|delta| delta.seq <= last_seen);
        let foreign = inner
            .deltas
            .iter()
            .skip(from)
            .find(|delta| delta.delta.client_id != *client);
        match foreign {
            Some(foreign) => Seq::from_u64(foreign.seq.as_u64() - 1).unwrap_or(last_seen),
            None => inner.visible.max(last_seen),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
