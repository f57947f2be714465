//! Expiry: what of a table's past is let go, and when.
//!
//! ```text
//!   base  ·······│ daily-2026-01-30 │ daily-2026-01-31 │ ■ ■ ■ ■ ■   tags keep one a day, all of the last day is kept
//!                └─ covered by all                                    anchor: the history window begins in it
//!   log   ▒▒▒▒▒▒▒│ ─────────────────────────────────────────────────  whole above; below, what is stamped from F on
//! ```
//! Steps of a gateway's turn: expire base snapshots ([`expire`]) → raise the floor as far as [`oldest_uncovered`] lets it
//! (the gateway does that) → drop deltas from the log ([`drop_log`]) → expire log snapshots. [`plan`] decides what goes,
//! purely.
//!
//! **Invariant:** a moment that can be read before can be read after, with the same rows, or is refused by the horizon; no
//! file goes that a kept snapshot or a reader of this process needs.

mod drop_log;
mod plan;
mod policy;
mod rollback;
mod run;
mod tags;

pub use drop_log::{DropReport, DropRequest, drop_log, oldest_uncovered};
pub use plan::{Asked, Expiry, Refused, plan};
pub use policy::{DAILY, ExpiryPolicy};
pub use rollback::{RollbackReport, RollbackTo, rollback};
pub use run::{DryRun, ExpireReport, Job, Side, expire};
pub use tags::{NewTag, TagReport, create_tag, drop_tag};
