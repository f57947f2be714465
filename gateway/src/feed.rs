//! The feed: recent deltas in memory, by seq, for pulls.
//!
//! Beside each delta stands what it did to who sees its row, when it came in under rules.
//!
//! **Invariant:** the feed is a contiguous run of seqs that ends at the visible one; it only forgets at
//! its old end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakesync_proto::{ClientId, Seq, SeqDelta};
use tokio::sync::watch;

use crate::rules::Audience;
use crate::rules::moved::{Heard, Moved};

/// How many deltas the answer to a push looks at for its cursor: beyond them the client pulls.
const CURSOR_DELTAS_MAX: usize = 10_000;

/// A delta, and what it did to who sees its row; none when it came in without rules.
pub(crate) type Item = (Arc<SeqDelta>, Option<Arc<Moved>>);

/// What a pull finds in memory.
#[derive(Debug)]
pub(crate) enum Found {
    /// The page, and the seq up to which everything is visible.
    Page(Vec<Item>, Seq),
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
    deltas: VecDeque<Item>,
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

    /// Adds durable deltas, ascending, and moves the visible seq. `moved` has one for each delta, or none.
    pub(crate) fn append(&self, deltas: &[Arc<SeqDelta>], moved: &[Arc<Moved>], visible: Seq) {
        let mut inner = self.lock();
        inner.visible = visible;
        for (index, delta) in deltas.iter().enumerate() {
            let item = (Arc::clone(delta), moved.get(index).map(Arc::clone));
            inner.bytes += bytes(&item);
            inner.deltas.push_back(item);
        }
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.deltas.pop_front() else {
                break;
            };
            inner.bytes -= bytes(&oldest);
            inner.below = oldest.0.seq;
        }
        self.visible.send_replace(visible);
    }

    /// The bytes of deltas that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
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
        let from = inner
            .deltas
            .partition_point(|(delta, _)| delta.seq <= since);
        let page = inner.deltas.iter().skip(from).take(limit).cloned();
        Found::Page(page.collect(), inner.visible)
    }

    /// A cursor for the answer to a push that skips nothing the client has to hear: everything visible when that is
    /// all the client's own, else the last seq before the first delta that it has to be told of.
    pub(crate) fn cursor_after_push(
        &self,
        client: &ClientId,
        last_seen: Seq,
        audience: &Audience,
    ) -> Seq {
        let inner = self.lock();
        if last_seen < inner.below {
            return last_seen;
        }
        let from = inner
            .deltas
            .partition_point(|(delta, _)| delta.seq <= last_seen);
        let mut looked_at = last_seen;
        for (delta, moved) in inner.deltas.iter().skip(from).take(CURSOR_DELTAS_MAX) {
            if !may_skip((delta, moved.as_ref()), client, audience) {
                return Seq::from_u64(delta.seq.as_u64() - 1).unwrap_or(last_seen);
            }
            looked_at = delta.seq;
        }
        match inner.deltas.len() - from <= CURSOR_DELTAS_MAX {
            true => inner.visible.max(last_seen),
            false => looked_at,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an item takes in memory.
fn bytes((delta, moved): &Item) -> usize {
    let moved = moved.as_ref().map_or(0, |moved| moved.bytes());
    delta.delta.bytes() + moved
}

/// Whether `client`, of `audience`, misses nothing when it never hears of this delta.
fn may_skip(
    (delta, moved): (&SeqDelta, Option<&Arc<Moved>>),
    client: &ClientId,
    audience: &Audience,
) -> bool {
    let own = delta.delta.client_id == *client;
    if audience.is_everything() {
        return own;
    }
    match moved.filter(|moved| moved.rules == audience.rules()) {
        None => false,
        Some(moved) if own => {
            let heard = moved.heard_by_its_writer(delta.delta.op, audience);
            matches!(heard, Heard::Delta | Heard::Nothing)
        }
        Some(moved) => moved.heard_by(audience) == Heard::Nothing,
    }
}
