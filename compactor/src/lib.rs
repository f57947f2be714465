//! Maintenance of the lake as SQL plans.
//!
//! ```text
//!   log (t$deltas, flushed) ──┐
//!                             ├── fold_sql: one SQL query with lww ──► new base files ──► one commit
//!   base (t) ─────────────────┘   (sorted by partition and order)
//! ```
//! [`fold_sql`] prints the query, [`explain`] its plan, [`compact`] runs it.
//!
//! **Invariant:** compaction changes no answer: the rows of the table at any seq are the same before and
//! after, and a job that ran already does nothing.

mod compact;
mod config;
mod error;
pub mod expire;
mod fold;
mod order;
mod orphans;
mod rewrite_log;
mod rewrite_manifests;

pub use compact::{CompactReport, compact, explain};
pub use config::{CompactionConfig, MEMORY_BYTES_MIN, WriteMode};
pub use error::{Error, Result};
pub use fold::{ChangeCounts, Changes, change_schema, set_column, value_column};
pub use lakesync_providers::{Part, fold_sql};
pub use orphans::{
    Act, ORPHAN_GRACE, ORPHAN_GRACE_MIN, OrphanOptions, OrphanReport, remove_orphan_files,
};
pub use rewrite_log::{
    Effort, LogGroup, LogMoment, LogRewriteOptions, LogRewriteReport, log_rewrite_due,
    plan_log_rewrite, rewrite_log,
};
pub use rewrite_manifests::{ManifestReport, manifests_due, rewrite_manifests};
