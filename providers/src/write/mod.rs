//! The write sink: what makes a table writable from SQL.
//!
//! ```text
//!   INSERT, UPDATE, DELETE, MERGE ── a plan that reads ── rows ── WriteSink ── one push
//!                                                        (sink)   (gateway)
//! ```
//! `providers` defines the seam and turns a plan's rows into values; the gateway implements it and makes
//! deltas of them, through the same path as a push.
//!
//! **Invariant:** a statement is written whole or not at all, and the count it reports is durable.

mod convert;
mod sink;
mod target;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lakesync_proto::{ColumnChange, Op, RowId};
use thiserror::Error;

use crate::view::ReadView;

pub(crate) use target::Columns;
pub use target::{Action, Assigned, InsertAction, Repeats, WritePlan, WriteTarget};

/// Rows that one statement may write: they are one push, in memory at once until its commit. A delta of a few
/// columns takes about half a kilobyte, so this many fit where the hot deltas have to fit anyway.
pub const STATEMENT_ROWS_MAX: usize = 1_000_000;

/// Bytes of values and row ids that one statement may write, in memory. The largest commit of the durable log is
/// about as large; it is written and fsynced in a few seconds.
pub const STATEMENT_BYTES_MAX: usize = 256 << 20;

/// What kind of statement writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// New rows.
    Insert,
    /// Other values in some columns of rows that exist.
    Update,
    /// Rows that go.
    Delete,
    /// All of these.
    Merge,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Insert => "INSERT",
            Verb::Update => "UPDATE",
            Verb::Delete => "DELETE",
            Verb::Merge => "MERGE",
        })
    }
}

/// What a statement does to one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowWrite {
    /// What is done.
    pub op: Op,
    /// Which row; a new one may have none yet: the key names it, or it gets a new id.
    pub row_id: Option<RowId>,
    /// The columns that are set. Those of a new row are all that its table has.
    pub columns: Vec<ColumnChange>,
}

/// What one statement writes.
#[derive(Debug)]
pub struct StatementWrites {
    /// The kind of statement, for what is said of it.
    pub verb: Verb,
    /// The view of the written table that the statement read.
    pub view: Arc<ReadView>,
    /// The rows, each named once.
    pub rows: Vec<RowWrite>,
}

/// Why nothing was written: the text is the answer that the statement's author reads.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The statement is at fault.
    #[error("{reason}")]
    Refused {
        /// What was wrong, where, and what to do.
        reason: String,
    },
    /// The statement is sound, but it cannot be written now.
    #[error("{reason}")]
    Unavailable {
        /// What is in the way and what to do.
        reason: String,
    },
    /// The statement is sound, but the disk has no room for it.
    #[error("{reason}")]
    StorageFull {
        /// How much is missing and what to do.
        reason: String,
    },
}

/// Where the rows of SQL writes go.
#[async_trait]
pub trait WriteSink: Send + Sync + fmt::Debug {
    /// Writes the rows durably, all of them at one stamp, and returns how many.
    ///
    /// # Errors
    /// When a new row exists already, a value is refused, or the log cannot be written; then nothing is.
    async fn write(&self, writes: StatementWrites) -> Result<u64, WriteError>;
}
