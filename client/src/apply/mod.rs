//! Merging what the gateway sends: one page, one transaction, its cursor with it.
//!
//! | | |
//! |---|---|
//! | `page.rs` | a page of a pull or of the live connection |
//! | `checkpoint.rs` | the chunks of a checkpoint, and what it leaves out |
//! | `needs.rs` | tables and columns that a page needs and this database lacks |
//! | `heard.rs` | all that a page says, row by row |
//! | `merge.rs` | one row of a page: its clocks, and the values that win |
//!
//! Invariant: applying is merging, so a delta may come twice, late, or be this client's own; nothing applied is captured,
//! so nothing is echoed.

mod checkpoint;
mod heard;
mod merge;
mod needs;
mod page;

#[cfg(test)]
mod tests;

pub(crate) use checkpoint::{Loading, begin_checkpoint, chunk, loading};
pub(crate) use page::{Applied, page, start_over};
