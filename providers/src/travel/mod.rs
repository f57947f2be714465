//! Time travel: a table as of a past moment, on two clocks.
//!
//! ```text
//!   AsOf ──cut──► Cut (seq, HLC) ──► base: newest with nothing beyond the cut
//!                                 ──► deltas: log and hot above that base, within the cut ──► overlay, or SQL fold
//! ```
//! A coordinate of arrival (a seq, a time, a snapshot, a tag) becomes a seq; for a time that is one seq for all tables of
//! the gateway. The deltas between base and cut are an overlay in memory when they are few, and folded by one SQL query
//! when they are many. The schema is today's: a column that was added later is null in the past.
//!
//! **Invariant:** a read as of arrival depends on what was accepted up to its seq only, one as of an HLC on what is
//! stamped up to it and known: flushes and compactions change no answer, later pushes no answer of the former.

mod at_seq;
mod cut;
mod fold_plan;
mod guard;
mod horizon;
mod kept;
mod lake_at;
mod limits;
mod log_part;
mod moment;
mod parts;
mod past;
mod past_table;
mod pinned;
mod register;

use lakesync_proto::{Hlc, Seq, SeqDelta};

pub use at_seq::view_at_seq;
pub(crate) use cut::{below_horizon, cut};
pub use guard::RefuseDropped;
pub(crate) use horizon::base_at;
pub use horizon::{Horizon, covered_by_all};
pub use kept::forget_views;
pub use limits::TravelLimits;
pub use moment::{begun_at, hlc_of, micros_of, ref_of, seq_of, version_of};
pub use past_table::PastTable;
pub(crate) use pinned::time_text;
pub use pinned::{Arrival, AsOf, Pinned};
pub use register::register;

/// A moment, resolved: what a read of it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    /// Deltas up to this one.
    pub(crate) seq: Seq,
    /// Of those the ones stamped up to this, when it is set.
    pub(crate) hlc: Option<Hlc>,
}

impl Cut {
    /// Whether everything up to `seq`, stamped up to `hlc`, is seen.
    fn covers(self, seq: Seq, hlc: Hlc) -> bool {
        seq <= self.seq && self.hlc.is_none_or(|latest| hlc <= latest)
    }

    /// Whether a delta is seen.
    fn sees(self, delta: &SeqDelta) -> bool {
        self.covers(delta.seq, delta.delta.hlc)
    }
}
