//! Maintenance of the lake as SQL plans.
//!
//! ```text
//!   log (t$deltas, flushed) ── SQL with lww ──► changes, in the order of the base's files ─┐
//!                                                                                          ├─► new files ──► one commit
//!   base (t) ── key indexes: where rows are ── rows that stay, in files that are rewritten ┘
//! ```
//! [`Fold`] plans what changes, [`merge`] writes it, [`compact`] does both and commits, [`explain`] shows the plan.
//!
//! **Invariant:** compaction changes no answer: the rows of the table at any seq are the same before and
//! after, and a job that ran already does nothing.

mod compact;
mod config;
mod error;
pub mod expire;
mod fold;
mod merge;
mod orphans;
mod progress;
mod rewrite_base;
mod rewrite_log;
mod rewrite_manifests;
pub mod strategy;

pub use compact::{CompactReport, compact, compact_watched, explain};
pub use config::{CompactionConfig, MEMORY_BYTES_MIN, WriteMode};
pub use error::{Error, Result};
pub use fold::{ChangeCounts, Changes, Fold, change_schema, set_column, value_column};
pub use merge::{
    Kind, MergeInto, MergeOptions, MergeReport, Merged, merge, merge_watched, mode_for, rewrite,
    rewrite_watched,
};
pub use orphans::{
    Act, ORPHAN_GRACE, ORPHAN_GRACE_MIN, OrphanOptions, OrphanReport, remove_orphan_files,
};
pub use progress::{Progress, Step, Unit};
pub use rewrite_base::{RewriteReport, rewrite_base};
pub use rewrite_log::{
    Effort, LogGroup, LogMoment, LogRewriteOptions, LogRewriteReport, log_rewrite_due,
    plan_log_rewrite, rewrite_log,
};
pub use rewrite_manifests::{ManifestReport, manifests_due, rewrite_manifests};
