//! What `EXPLAIN` says of a read view.
//!
//! **Invariant:** it is made from what the plan was made from, not beside it.

use std::fmt;

use lakesync_proto::Seq;

/// Whether a view is of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It is.
    Present,
    /// It is of a past moment, whose deltas are folded in memory.
    Past,
}

/// The view that a plan reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    /// The view's seq.
    pub(crate) seq: Seq,
    /// The seq of its base.
    pub(crate) base_seq: Seq,
    /// When that is.
    pub(crate) moment: Moment,
    /// Rows that come from the overlay.
    pub(crate) overlay_rows: usize,
    /// How long before the query the newest hot delta was accepted, in milliseconds; none when nothing is hot, or nobody
    /// knows what time it is.
    pub(crate) freshness_ms: Option<u64>,
}

impl Split {
    /// Of a base whose so many files are joined with the ids of the overlay.
    pub(crate) fn joined(self, files: usize) -> String {
        format!("files_joined={files}, {self}")
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "overlay_rows={}, view_seq={}, base_seq={}",
            self.overlay_rows,
            self.seq.as_u64(),
            self.base_seq.as_u64(),
        )?;
        match self.moment {
            Moment::Present => Ok(()),
            Moment::Past => write!(f, ", fold=memory"),
        }
    }
}
