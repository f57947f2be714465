//! What a row is: its confirmed state, own uncovered edits, and what shows.
//!
//! ```text
//!                     C: confirmed                      P: own uncovered edits
//!           clocks              values                  _lakesync_outbox, states 0 to 2
//!  _lakesync_rows       _lakesync_confirmed, else t        │
//!            └──────────────┬──────────────┘               │
//!                           └────────── merge ─────────────┘
//!                                         ▼
//!                                         t
//! ```
//! | `_lakesync_rows` | `t` | what C is |
//! |---|---|---|
//! | clocks | | what they say, see [`RowClocks`] |
//! | none | has the row | settled: every value that is not null has the stamp 0 |
//! | none | has it not | nothing was ever heard of it |
//!
//! Invariant: a row says what its C is without anybody looking at the outbox. So a row that only own edits have made has
//! empty clocks beside it, and an own edit that takes a settled row out of `t` writes its clocks down.

mod bound;
mod clocks;
mod confirmed;
mod hide;
mod image;
mod visible;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use bound::Bound;
pub(crate) use clocks::RowClocks;
pub(crate) use confirmed::{forget_values, read_clocks};
pub(crate) use hide::{Own, hide_confirmed};
pub(crate) use image::{RowImage, confirm, restore, withdraw};
pub(crate) use visible::RowStatements;
