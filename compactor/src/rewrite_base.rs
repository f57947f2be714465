//! Rewriting files of a base: the same rows in fewer, larger, ordered files without dead rows.
//!
//! Steps: pin a view on the catalog's newest base → write the files' live rows anew ([`rewrite`]) → commit, only while the
//! old files are live → publish the view.
//!
//! **Crash windows.** After writing, before the commit: new files are orphans, the table reads as before. After the
//! commit, before publishing: the process reads the old files, which are still there, until it opens again.
//!
//! **Invariant:** no row changes, and the base covers what it covered.

use lakesync_providers::lake::{CommitErrorKind, Fence};
use lakesync_providers::proto::TableName;
use lakesync_providers::{Live, crash, job_session};

use crate::compact::newest_view;
use crate::config::{CompactionConfig, MEMORY_BYTES_MIN};
use crate::error::Result;
use crate::merge::{Kind, MergeInto, MergeOptions, rewrite};
use crate::progress::{Progress, Unit};

/// What one rewrite did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteReport {
    /// The table.
    pub table: TableName,
    /// Data files whose rows lie in others now.
    pub files_rewritten: u64,
    /// Their sizes, in bytes.
    pub bytes_rewritten: u64,
    /// Delete files that are gone with them.
    pub delete_files_removed: u64,
    /// New data files.
    pub files_added: u64,
    /// Their sizes, in bytes.
    pub bytes_added: u64,
    /// Their rows.
    pub rows: u64,
}

/// Writes the rows of these data files of `table` anew. Files that are not in its base any more are passed over.
///
/// # Errors
/// Unknown table, a base that another program changed, a file that cannot be read or written, or a lost commit; the table
/// is then as it was.
///
/// # Cancel safety
/// Run it where it is not dropped: a commit whose publication was cut off is found only by the next one.
pub async fn rewrite_base(
    (live, table): (&Live, &str),
    paths: &[String],
    fence: Option<&Fence>,
    config: &CompactionConfig,
    progress: &Progress,
) -> Result<RewriteReport> {
    let view = newest_view(live, table).await?;
    let base = &view.base;
    let mut report = RewriteReport {
        table: view.table().clone(),
        files_rewritten: 0,
        bytes_rewritten: 0,
        delete_files_removed: 0,
        files_added: 0,
        bytes_added: 0,
        rows: 0,
    };
    if paths.is_empty() || base.snapshot_id.is_none() {
        return Ok(report);
    }
    let ctx = job_session(&view.warehouse, config.memory_bytes.max(MEMORY_BYTES_MIN));
    let into = MergeInto {
        base,
        warehouse: &view.warehouse,
        schema: &view.schema,
        ctx: &ctx,
    };
    let files = u64::try_from(paths.len()).unwrap_or(u64::MAX);
    progress.begin("writing files", Unit::Files, files);
    let merged = Box::pin(rewrite(into, paths, &MergeOptions::from(config))).await?;
    if merged.remove.is_empty() {
        return Ok(report);
    }
    crash::point("rewrite.before_commit");
    report.files_rewritten = merged.report.files_rewritten;
    report.bytes_rewritten = merged.report.bytes_rewritten;
    let removed = u64::try_from(merged.remove.len()).unwrap_or(u64::MAX);
    report.delete_files_removed = removed.saturating_sub(report.files_rewritten);
    report.files_added = u64::try_from(merged.add.len()).unwrap_or(u64::MAX);
    report.bytes_added = merged.report.bytes_written;
    report.rows = merged.report.rows_written;
    progress.begin("committing", Unit::Files, 0);
    let mut commit = merged.commit(base, Kind::Rewrite);
    if let Some(fence) = fence {
        commit = commit.with_fence(fence);
    }
    let committed = match commit.run(live.warehouse(), base.table.identifier()).await {
        Ok(committed) => committed,
        Err(error) => {
            if error.kind() != CommitErrorKind::Unknown {
                merged.discard(base).await;
            }
            // Whatever is in the catalog is what the next attempt starts from.
            newest_view(live, table).await?;
            return Err(error.into());
        }
    };
    crash::point("rewrite.after_commit");
    live.compacted(view.table(), committed)?;
    Ok(report)
}
