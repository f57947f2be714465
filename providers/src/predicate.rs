//! Conditions on a table's rows that may ask for the claims of whoever reads: sync rules.

mod filter;

pub use filter::{Filter, FilterOp};
