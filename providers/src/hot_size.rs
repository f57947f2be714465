//! How much of a table is in memory, counted as it changes.
//!
//! **Invariant:** what is counted is what is held: adding and removing a push leaves the size as it was.

use std::sync::Arc;

use lakesync_proto::{Seq, SeqDelta, TableName};

use crate::hot_pushes::{HotPush, HotPushes};

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
    /// The seq of the first delta that is not flushed.
    pub unflushed_from: Option<Seq>,
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
        let from = self.unflushed_from.into_iter();
        Self {
            deltas: self.deltas + other.deltas,
            bytes: self.bytes + other.bytes,
            unflushed_deltas: self.unflushed_deltas + other.unflushed_deltas,
            unflushed_bytes: self.unflushed_bytes + other.unflushed_bytes,
            unflushed_since_ms: since.chain(other.unflushed_since_ms).min(),
            unflushed_from: from.chain(other.unflushed_from).min(),
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

    /// Looks again at the deltas above `flushed` among `hot`.
    pub(crate) fn recount_unflushed(&mut self, hot: &HotPushes, flushed: Seq) {
        self.unflushed_deltas = 0;
        self.unflushed_bytes = 0;
        self.unflushed_since_ms = None;
        self.unflushed_from = None;
        for push in hot.after(flushed) {
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
            let from = self.unflushed_from.into_iter();
            self.unflushed_from = from.chain([push.deltas[above].seq]).min();
        }
    }
}

fn count(deltas: &[Arc<SeqDelta>]) -> (u64, u64) {
    let bytes: usize = deltas.iter().map(|delta| delta.delta.bytes()).sum();
    let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
    (number(deltas.len()), number(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakesync_proto::{ClientId, DeltaKey, Hlc, Op, RowDelta, RowId};

    fn push(arrived_ms: u64, seqs: std::ops::RangeInclusive<u64>) -> HotPush {
        let deltas = seqs.map(|number| {
            let key = DeltaKey {
                table: TableName::parse("t").unwrap(),
                row_id: RowId::parse(&number.to_string()).unwrap(),
                client_id: ClientId::parse("ana").unwrap(),
                hlc: Hlc::new(1, 0).unwrap(),
            };
            let delta = RowDelta::new(Op::Delete, key, Vec::new());
            let seq = Seq::from_u64(number).unwrap();
            Arc::new(SeqDelta { seq, delta })
        });
        HotPush {
            arrived_ms,
            deltas: deltas.collect(),
        }
    }

    fn seq(number: u64) -> Seq {
        Seq::from_u64(number).unwrap()
    }

    #[test]
    fn flushing_and_removing_leave_what_is_held() {
        let hot = [(50, 1..=3), (40, 4..=6), (60, 7..=7)].map(|(ms, seqs)| push(ms, seqs));
        let mut size = HotSize::default();
        for push in &hot {
            size.add(push, Seq::ZERO);
        }
        assert_eq!((size.deltas, size.unflushed_deltas), (7, 7));
        assert_eq!(size.unflushed_since_ms, Some(40), "the clock was set back");
        assert_eq!(size.unflushed_from, Some(seq(1)));
        assert_eq!(size.bytes, size.unflushed_bytes);
        let hot: HotPushes = hot.map(Arc::new).into_iter().collect();
        size.recount_unflushed(&hot, seq(5));
        assert_eq!((size.deltas, size.unflushed_deltas), (7, 2));
        assert_eq!(size.unflushed_since_ms, Some(40));
        assert_eq!(size.unflushed_from, Some(seq(6)));
        size.recount_unflushed(&hot, seq(6));
        assert_eq!(
            (size.unflushed_deltas, size.unflushed_since_ms),
            (1, Some(60))
        );
        size.recount_unflushed(&hot, seq(7));
        for push in hot.iter() {
            size.remove(push);
        }
        assert_eq!(size, HotSize::default());
    }

    #[test]
    fn recovered_deltas_of_the_lake_are_hot_and_flushed() {
        let mut size = HotSize::default();
        size.add(&push(0, 1..=3), seq(3));
        size.add(&push(9, 4..=4), seq(3));
        assert_eq!((size.deltas, size.unflushed_deltas), (4, 1));
        assert_eq!(size.unflushed_since_ms, Some(9));
    }
}
