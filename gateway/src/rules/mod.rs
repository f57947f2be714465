//! Sync rules: which rows a client may see and write, decided by the rows' merged state.
//!
//! ```text
//!  RuleSet (JSON) ─ compile ─► Rules ─ memberships(rows) ─► Membership, kept beside each delta
//!                                │                              │
//!                      claims ─ audience ─► Audience ─ sees ────┘
//! ```
//! **Invariant:** a delta is evaluated once, however many clients there are: a client is an [`Audience`], which looks a
//! row's membership up.

mod audience;
mod change;
mod compiled;
mod definition;
mod explain;
pub(crate) mod ledger;
pub(crate) mod membership;
pub(crate) mod moved;
pub(crate) mod rows;
pub(crate) mod ruling;
mod terms;
#[cfg(test)]
mod tests;

pub use audience::Audience;
pub use compiled::{Changed, Rules, changed_tables};
pub use definition::{Bucket, RuleSet};
pub use explain::explain;
pub(crate) use membership::Membership;
