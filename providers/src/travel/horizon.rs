//! How far back a table can be read, and which base a past moment begins with.
//!
//! ```text
//!   base   ·····expired····· ■────────■──────■     oldest, …, current
//!   log                    ──────────────────────  whole above the oldest base that is kept
//!                            └ horizon
//! ```
//! As long as no snapshot of the base has been expired there is no horizon: before the first one the base is empty and
//! the log holds everything. Whoever drops deltas from the log may drop only what every kept base covers
//! ([`covered_by_all`]), and expires the first snapshot of the base before.
//!
//! **Invariant:** a moment that the kept snapshots and the log do not give exactly is refused, never approximated.

use std::fmt;

use iceberg::spec::SnapshotRef;
use iceberg::table::Table;
use lakesync_proto::{Hlc, Seq};

use super::Cut;
use super::pinned::time_text;
use crate::error::Result;
use crate::lake::summary;
use crate::view::{BaseSnapshot, ReadView};

/// The oldest state of a table that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Arrival: everything up to this delta.
    pub seq: Seq,
    /// Writers' clocks: the greatest stamp in it.
    pub hlc: Hlc,
    /// When its snapshot was committed, in milliseconds since 1970: everything in it had arrived by then.
    pub committed_ms: i64,
}

impl Horizon {
    /// The horizon of a base; none while its history is whole.
    ///
    /// # Errors
    /// When a summary cannot be read.
    pub(crate) fn of(base: &Table) -> Result<Option<Self>> {
        let snapshots = base.metadata().snapshots();
        let first = snapshots.min_by_key(|snapshot| snapshot.sequence_number());
        if first.is_none_or(|first| first.parent_snapshot_id().is_none()) {
            return Ok(None);
        }
        let Some(oldest) = readable(base).into_iter().next() else {
            return Ok(None);
        };
        let marks = summary::watermarks(base, Some(oldest.snapshot_id()))?;
        Ok(Some(Self {
            seq: marks.base_seq.unwrap_or(Seq::ZERO),
            hlc: marks.max_hlc.unwrap_or(Hlc::ZERO),
            committed_ms: oldest.timestamp_ms(),
        }))
    }
}

/// Every base that is kept covers the deltas up to this seq; zero while the history of the base is whole, for then the
/// empty base before its first snapshot is one of them.
///
/// # Errors
/// When a summary cannot be read.
pub fn covered_by_all(base: &Table) -> Result<Seq> {
    if Horizon::of(base)?.is_none() {
        return Ok(Seq::ZERO);
    }
    let mut least = None;
    for snapshot in readable(base) {
        let marks = summary::watermarks(base, Some(snapshot.snapshot_id()))?;
        let seq = marks.base_seq.unwrap_or(Seq::ZERO);
        least = Some(least.map_or(seq, |least: Seq| least.min(seq)));
    }
    Ok(least.unwrap_or(Seq::ZERO))
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = time_text(self.committed_ms.saturating_mul(1000));
        write!(f, "seq {}, HLC {}, {time}", self.seq, self.hlc)
    }
}

/// The newest base with nothing in it from beyond the cut; the empty table before the first one; none when what was
/// there has been expired.
///
/// # Errors
/// When a summary cannot be read.
pub(crate) fn base_at(view: &ReadView, cut: Cut) -> Result<Option<BaseSnapshot>> {
    let (base, dropped) = (&view.base.table, view.log.dropped_seq);
    let mut newest: Option<(Seq, &SnapshotRef)> = None;
    for snapshot in readable(base) {
        let marks = summary::watermarks(base, Some(snapshot.snapshot_id()))?;
        let seq = marks.base_seq.unwrap_or(Seq::ZERO);
        let within = cut.covers(seq, marks.max_hlc.unwrap_or(Hlc::ZERO));
        // What the log has to give above it must be there.
        let is_followed = seq >= dropped;
        if within && is_followed && newest.is_none_or(|(least, _)| seq >= least) {
            newest = Some((seq, snapshot));
        }
    }
    match newest {
        Some((_, snapshot)) => {
            let id = Some(snapshot.snapshot_id());
            Ok(Some(BaseSnapshot::at(base.clone(), id)?))
        }
        None if dropped == Seq::ZERO && Horizon::of(base)?.is_none() => {
            Ok(Some(BaseSnapshot::at(base.clone(), None)?))
        }
        None => Ok(None),
    }
}

/// The snapshots that can be read, oldest first; what another program did and took back is still listed in the metadata.
fn readable(table: &Table) -> Vec<&SnapshotRef> {
    let readable = |snapshot: &&SnapshotRef| {
        summary::foreign(table, Some(snapshot.snapshot_id())).is_ok_and(|found| found.is_none())
    };
    let mut snapshots: Vec<_> = table.metadata().snapshots().filter(readable).collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    snapshots
}
