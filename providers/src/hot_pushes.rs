//! The hot deltas of one table, by push: a list that views share.
//!
//! ```text
//!   segments  ┌ 1,024 pushes ┐┌ 1,024 pushes ┐┌ fewer ┐◄── append
//!   a view    └───────────── shares all of them ──────┘
//! ```
//! A view costs a counter per segment, a push copies the last segment's counters at most.
//!
//! **Invariant:** pushes ascend by seq and none is empty; a clone never changes.

use std::sync::Arc;

use lakesync_proto::{Seq, SeqDelta};

/// Pushes of one segment: a view of a million pushes then is a thousand counters, and an append copies 8 KiB.
const SEGMENT_PUSHES: usize = 1_024;

/// The deltas of one push to one table, ascending by seq.
#[derive(Clone, Debug)]
pub struct HotPush {
    /// When the gateway accepted them, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// The deltas.
    pub deltas: Vec<Arc<SeqDelta>>,
}

impl HotPush {
    fn last(&self) -> Option<Seq> {
        self.deltas.last().map(|delta| delta.seq)
    }

    /// Whether all of it is at or below `seq`.
    fn is_up_to(&self, seq: Seq) -> bool {
        self.last().is_none_or(|last| last <= seq)
    }
}

/// Pushes, ascending by seq.
#[derive(Clone, Debug, Default)]
pub struct HotPushes {
    segments: Vec<Arc<Vec<Arc<HotPush>>>>,
    newest_ms: Option<u64>,
}

impl HotPushes {
    /// Adds a push behind all others; an empty one is none.
    pub(crate) fn push(&mut self, push: Arc<HotPush>) {
        if push.deltas.is_empty() {
            return;
        }
        self.newest_ms = self.newest_ms.max(Some(push.arrived_ms));
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT_PUSHES => Arc::make_mut(last).push(push),
            _ => self.segments.push(Arc::new(vec![push])),
        }
    }

    /// Takes the pushes away whose last delta is at or below `seq`; they are the result.
    pub(crate) fn take_up_to(&mut self, seq: Seq) -> Vec<Arc<HotPush>> {
        let kept: Self = self.after(seq).map(Arc::clone).collect();
        let all = std::mem::replace(self, kept);
        let taken = all.iter().take_while(|push| push.is_up_to(seq));
        taken.map(Arc::clone).collect()
    }

    /// When the newest of them was accepted, in milliseconds since 1970.
    #[must_use]
    pub fn newest_ms(&self) -> Option<u64> {
        self.newest_ms
    }

    /// All pushes.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HotPush>> {
        self.segments.iter().flat_map(|segment| segment.iter())
    }

    /// The pushes that have a delta above `seq`; finding the first takes no look at those before it.
    pub fn after(&self, seq: Seq) -> impl Iterator<Item = &Arc<HotPush>> {
        let below =
            |segment: &Arc<Vec<Arc<HotPush>>>| segment.last().is_none_or(|push| push.is_up_to(seq));
        let segments = &self.segments[self.segments.partition_point(below)..];
        let first = segments.first().map_or(0, |segment| {
            segment.partition_point(|push| push.is_up_to(seq))
        });
        let pushes = segments.iter().flat_map(|segment| segment.iter());
        pushes.skip(first)
    }
}

impl FromIterator<Arc<HotPush>> for HotPushes {
    fn from_iter<I: IntoIterator<Item = Arc<HotPush>>>(pushes: I) -> Self {
        let mut all = Self::default();
        pushes.into_iter().for_each(|push| all.push(push));
        all
    }
}

impl From<Vec<Arc<HotPush>>> for HotPushes {
    fn from(pushes: Vec<Arc<HotPush>>) -> Self {
        pushes.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::{ClientId, DeltaKey, Hlc, Op, RowDelta, RowId, TableName};

    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::from_u64(number).unwrap()
    }

    /// A push of the deltas `from ..= to`.
    fn push(from: u64, to: u64) -> Arc<HotPush> {
        let delta = |number| {
            let key = DeltaKey {
                table: TableName::parse("t").unwrap(),
                row_id: RowId::parse("r").unwrap(),
                client_id: ClientId::parse("c").unwrap(),
                hlc: Hlc::new(number, 0).unwrap(),
            };
            let delta = RowDelta::new(Op::Update, key, Vec::new());
            let seq = seq(number);
            Arc::new(SeqDelta { seq, delta })
        };
        Arc::new(HotPush {
            arrived_ms: 7,
            deltas: (from..=to).map(delta).collect(),
        })
    }

    fn lasts<'a>(pushes: impl Iterator<Item = &'a Arc<HotPush>>) -> Vec<u64> {
        pushes.map(|push| push.last().unwrap().as_u64()).collect()
    }

    #[test]
    fn what_is_behind_a_seq_is_found_in_whichever_segment_it_is() {
        let pushes = u64::try_from(SEGMENT_PUSHES).unwrap() * 2 + 5;
        // Push n has the deltas 2n - 1 and 2n.
        let hot: HotPushes = (1..=pushes).map(|n| push(2 * n - 1, 2 * n)).collect();
        let all: Vec<u64> = (1..=pushes).map(|n| 2 * n).collect();
        assert_eq!(lasts(hot.iter()), all);
        for from in [
            0, 1, 2, 3, 2_047, 2_048, 2_049, 4_096, 4_097, 4_105, 4_106, 9_999,
        ] {
            let behind: Vec<u64> = all.iter().copied().filter(|last| *last > from).collect();
            assert_eq!(lasts(hot.after(seq(from))), behind, "after {from}");
            let mut kept = hot.clone();
            let taken = kept.take_up_to(seq(from));
            assert_eq!(lasts(kept.iter()), behind, "kept after {from}");
            assert_eq!(taken.len() + behind.len(), all.len(), "{from}");
        }
    }

    #[test]
    fn a_view_keeps_what_it_had_and_shares_full_segments() {
        let mut hot = HotPushes::default();
        let many = u64::try_from(SEGMENT_PUSHES).unwrap() + 1;
        (1..=many).for_each(|n| hot.push(push(n, n)));
        let view = hot.clone();
        hot.push(push(many + 1, many + 1));
        hot.push(Arc::new(HotPush {
            arrived_ms: 0,
            deltas: Vec::new(),
        }));
        assert_eq!(view.iter().count() + 1, hot.iter().count());
        assert!(Arc::ptr_eq(&view.segments[0], &hot.segments[0]));
        assert!(!Arc::ptr_eq(&view.segments[1], &hot.segments[1]));
    }
}
