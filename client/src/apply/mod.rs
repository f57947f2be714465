//! Merging what the gateway sends: one page, one transaction, its cursor with it.
//!
//! Invariant: applying is merging, so a delta may come twice, late, or be this client's own; nothing applied is captured,
//! so nothing is echoed.

use lakesync_proto::{Cursor, PullPage, TableName, TableSchema};

use crate::error::ClientError;
use crate::local::Work;

/// What a page did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Deltas and removed rows.
    pub(crate) changes: u64,
    /// The page was asked for behind another cursor than the file's: another process was faster, nothing was done.
    pub(crate) stale: bool,
}

/// A checkpoint that is being loaded, as the file keeps it between chunks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Loading {
    /// Which tables; empty means all.
    pub(crate) tables: Vec<TableName>,
    /// What goes on behind the last chunk that was applied.
    pub(crate) resume: Option<String>,
    /// Where pulls go on afterwards, when the gateway has said so; else the checkpoint's own cursor.
    pub(crate) then: Option<String>,
    /// Whether rows that the checkpoint does not bring must go at its end: the tables were not empty before it.
    pub(crate) sweep: bool,
    /// Rows applied so far.
    pub(crate) rows: u64,
}

/// Merges a page that was asked for behind `since` (empty: from the beginning), brings tables up to `schemas` where the
/// page needs it, and moves the cursor.
pub(crate) fn page(
    work: &mut Work<'_>,
    since: &str,
    page: &PullPage,
    schemas: &[TableSchema],
) -> Result<Applied, ClientError> {
    let _ = (work, since, page, schemas);
    unimplemented!("apply")
}

/// Notes that a checkpoint is to be loaded.
pub(crate) fn begin_checkpoint(
    work: &mut Work<'_>,
    tables: &[TableName],
    then: Option<&Cursor>,
) -> Result<Loading, ClientError> {
    let _ = (work, tables, then);
    unimplemented!("apply")
}

/// Takes one chunk; the last one ends the checkpoint: sweeps, and moves the cursor.
pub(crate) fn chunk(
    work: &mut Work<'_>,
    page: &PullPage,
    schemas: &[TableSchema],
) -> Result<Applied, ClientError> {
    let _ = (work, page, schemas);
    unimplemented!("apply")
}
