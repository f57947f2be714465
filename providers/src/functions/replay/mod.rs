//! Replay: deltas in the order of their arrival, each with what it made of its row.
//!
//! ```text
//!   windows   deltas of a span of seqs, as many as memory has room for          from, ……………………… to]
//!   facts     a window with what was there before: base rows ▸ evidence ▸ deltas above the base ▸ the window
//!   clocks    by row:  who wrote and who deleted it last, before and after each delta
//!   cells     by column: which fact shows in the cell, before and after each delta
//! ```
//! All of it is by column: a *fact* is a row of the base or of the log, and a cell's value is the number of the fact that
//! it comes from. Values are copied once, when an answer is made of them.
//!
//! **Invariant:** the state before the first delta of a window is that of all deltas with a lower seq, so windows of any
//! size give one answer.

mod cells;
mod clocks;
mod facts;
mod span;
mod windows;

pub(super) use cells::Cell;
pub(super) use clocks::{Clocks, Step};
pub(super) use facts::{Asked, Evidence, Facts, Gathered, Prior};
pub(super) use span::RowFilter;
pub use windows::ReplayLimits;
pub(super) use windows::{Deltas, Windows};

/// No fact: a cell that shows nothing, a clock that nothing set.
pub(super) const NONE: u32 = u32::MAX;

/// A place in an array as the number of a fact.
fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a window holds fewer facts than 32 bits count")
}

/// The number of a fact as a place in an array.
pub(super) fn place(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit in a machine word")
}
