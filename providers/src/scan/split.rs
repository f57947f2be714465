//! How a query's rows are divided between base and overlay: what `EXPLAIN` says of a read view.
//!
//! **Invariant:** it is made from what the plan was made from, not beside it.

use std::fmt;

use lakesync_proto::Seq;

use super::mask::Masks;

/// The division of one view's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    /// The view's seq.
    pub(crate) seq: Seq,
    /// The seq of its base.
    pub(crate) base_seq: Seq,
    /// Data files of the base.
    pub(crate) files: usize,
    /// Rows that come from the overlay.
    pub(crate) overlay_rows: usize,
}

impl Split {
    /// Of a base that is read with masks.
    pub(crate) fn masked(self, masks: &Masks) -> String {
        let masked = masks.files();
        let plain = self.files - masked;
        format!(
            "{self}, files_plain={plain}, files_masked={masked}, masked_rows={}",
            masks.rows()
        )
    }

    /// Of a base that is joined with the ids of the overlay.
    pub(crate) fn joined(self) -> String {
        format!("{self}, files_joined={}", self.files)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "view_seq={}, base_seq={}, overlay_rows={}",
            self.seq.as_u64(),
            self.base_seq.as_u64(),
            self.overlay_rows
        )
    }
}
