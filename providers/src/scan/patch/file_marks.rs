//! What a scan makes of the rows of one file: the extension by which the opener knows it.
//!
//! **Invariant:** no position is in two of the parts: a dead row is touched by nobody.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;

use super::FilePatch;
use crate::scan::dead::DeadRows;
use crate::scan::mask::FileMask;

/// A file of which not every row is given as it is.
#[derive(Clone, Debug)]
pub(crate) struct FileMarks {
    /// What the overlay makes of its rows.
    pub(crate) touched: Touch,
    /// Its rows that are nobody's.
    pub(crate) dead: Option<Arc<DeadRows>>,
}

/// What becomes of the rows that the overlay touches.
#[derive(Clone, Debug)]
pub(crate) enum Touch {
    /// There are none.
    Nothing,
    /// They are given as the view has them.
    Patched(Arc<FilePatch>),
    /// They are left out: the overlay gives them.
    Masked(Arc<FileMask>),
}

/// How a file is opened.
pub(super) enum Way {
    /// As it is.
    Plain,
    /// Without the rows that the reader is told to skip.
    Masked(Arc<ParquetAccessPlan>),
    /// Read, and its batches rewritten.
    Rewritten,
}

impl FileMarks {
    /// How it is opened by one who looks at these columns.
    pub(super) fn way(&self, needed: &[usize]) -> Way {
        match (&self.touched, &self.dead) {
            (Touch::Nothing, None) => Way::Plain,
            (Touch::Masked(mask), None) => Way::Masked(mask.left()),
            (Touch::Patched(patch), None) if !patch.changes(needed.iter().copied()) => Way::Plain,
            _ => Way::Rewritten,
        }
    }

    /// What is written into its rows.
    pub(super) fn patch(&self) -> Arc<FilePatch> {
        match &self.touched {
            Touch::Patched(patch) => Arc::clone(patch),
            Touch::Nothing | Touch::Masked(_) => Arc::default(),
        }
    }

    /// Where the rows are that it does not give, ascending.
    pub(super) fn dropped(&self) -> Cow<'_, [u32]> {
        let touched = match &self.touched {
            Touch::Nothing => &[],
            Touch::Patched(patch) => patch.deleted(),
            Touch::Masked(mask) => mask.positions(),
        };
        let dead = self.dead.as_ref().map_or(&[][..], |dead| dead.positions());
        match (touched.is_empty(), dead.is_empty()) {
            (_, true) => Cow::Borrowed(touched),
            (true, false) => Cow::Borrowed(dead),
            (false, false) => Cow::Owned(merged(touched, dead)),
        }
    }
}

/// Both, which are ascending and have none in common, ascending.
fn merged(one: &[u32], other: &[u32]) -> Vec<u32> {
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let mut rest = other;
    for position in one {
        let (before, after) = rest.split_at(rest.partition_point(|other| other < position));
        merged.extend_from_slice(before);
        merged.push(*position);
        rest = after;
    }
    merged.extend_from_slice(rest);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_merged_in_their_order() {
        assert_eq!(merged(&[2, 5, 9], &[0, 3, 4, 10]), [0, 2, 3, 4, 5, 9, 10]);
        assert_eq!(merged(&[], &[1]), [1]);
        assert_eq!(merged(&[1], &[]), [1]);
    }
}
