//! ★ Compaction: fold the flushed log into the base, one commit.
//!
//! Steps: pin a view on the catalog's newest base (another program may have rewritten its files) → nothing
//! above the base seq? done → what changes ([`Fold`]) → write new files ([`merge_watched`]) → commit (new files, deletes of old
//! rows, the base seq) → publish the view.
//!
//! **Crash windows.** After writing, before the commit: new files are orphans, the table reads as before.
//! After the commit, before publishing: the next open reads the new base seq from the summary.

use std::sync::Arc;

use lakesync_providers::lake::{CommitErrorKind, Fence, LakeError, summary};
use lakesync_providers::proto::{Seq, TableName};
use lakesync_providers::{BaseSnapshot, Live, ReadView, crash};

use crate::config::CompactionConfig;
use crate::error::{Error, Result};
use crate::fold::Fold;
use crate::merge::{Kind, MergeInto, MergeOptions, merge_watched};
use crate::progress::{Progress, Unit};

/// What one compaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactReport {
    /// The table.
    pub table: TableName,
    /// The base seq before.
    pub from_seq: Seq,
    /// The base seq now; equal to `from_seq` when there was nothing to fold.
    pub base_seq: Seq,
    /// The rows of the new base files.
    pub rows: u64,
    /// How many base files were replaced.
    pub files_removed: usize,
    /// How many were written, data files and delete files.
    pub files_added: usize,
    /// The size of the written files, in bytes.
    pub bytes_added: u64,
}

/// Folds everything that `table` has flushed into its base.
///
/// # Errors
/// Unknown table, a base that another program changed, a failed plan or write, or a lost commit; the table is
/// then as it was.
///
/// # Cancel safety
/// Run it where it is not dropped: a commit whose publication was cut off is found only by the next one.
pub async fn compact(
    live: &Live,
    table: &str,
    fence: Option<&Fence>,
    config: &CompactionConfig,
) -> Result<CompactReport> {
    compact_watched(live, table, fence, config, &Progress::default()).await
}

/// As [`compact`], saying how far it is.
///
/// # Errors
/// As [`compact`].
///
/// # Cancel safety
/// As [`compact`].
pub async fn compact_watched(
    live: &Live,
    table: &str,
    fence: Option<&Fence>,
    config: &CompactionConfig,
    progress: &Progress,
) -> Result<CompactReport> {
    let view = newest_view(live, table).await?;
    let from_seq = view.base.base_seq;
    let mut report = CompactReport {
        table: view.table().clone(),
        from_seq,
        base_seq: from_seq,
        rows: 0,
        files_removed: 0,
        files_added: 0,
        bytes_added: 0,
    };
    if view.log.max_seq <= from_seq {
        return Ok(report);
    }
    let base = &view.base;
    let fold = Fold::plan(&view, *config).await?;
    let changes = fold.changes(progress).await?;
    let into = MergeInto {
        base,
        warehouse: &view.warehouse,
        schema: &view.schema,
        ctx: fold.session(),
    };
    let options = MergeOptions::from(config);
    let merged = Box::pin(merge_watched(into, changes, &options, progress)).await?;
    crash::point("fold.before_commit");

    report.base_seq = fold.to_seq();
    report.files_removed = merged.remove.len();
    report.rows = merged.report.rows_written;
    let new = merged.add.iter().chain(&merged.deletes);
    report.files_added = new.clone().count();
    report.bytes_added = new.map(|file| file.file_size_in_bytes()).sum();
    progress.begin("committing", Unit::Files, 0);
    let mut commit = merged
        .commit(base, Kind::Fold)
        .with_property(summary::BASE_SEQ, fold.to_seq())
        .with_property(summary::MAX_HLC, fold.max_hlc());
    if let Some(fence) = fence {
        commit = commit.with_fence(fence);
    }
    let ident = base.table.identifier();
    let committed = match commit.run(live.warehouse(), ident).await {
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
    crash::point("fold.after_commit");
    live.compacted(view.table(), committed)?;
    Ok(report)
}

/// The fold of `table` as it would run now: what it reads, its SQL, and its plans as DataFusion explains them.
///
/// # Errors
/// Unknown table, or a plan that cannot be made.
pub async fn explain(
    live: &Live,
    table: &str,
    config: &CompactionConfig,
) -> Result<Vec<(String, String)>> {
    let view = view_of(live, table)?;
    Fold::plan(&view, *config).await?.explain().await
}

fn view_of(live: &Live, table: &str) -> Result<Arc<ReadView>> {
    live.view(table).ok_or_else(|| Error::UnknownTable {
        gateway: live.gateway().to_string(),
        table: table.to_owned(),
    })
}

/// The view of `table` on the base that the catalog has now; the old one stays published when that cannot be read.
pub(crate) async fn newest_view(live: &Live, table: &str) -> Result<Arc<ReadView>> {
    let view = view_of(live, table)?;
    let pair = live.warehouse().load(live.gateway(), view.table()).await?;
    let base = BaseSnapshot::current(pair.base)?;
    if let Some(foreign) = base.foreign {
        return Err(LakeError::from(foreign).into());
    }
    if base.base_seq < view.base.base_seq {
        return Err(Error::RolledBack {
            table: view.table().clone(),
            from: view.base.base_seq,
            to: base.base_seq,
        });
    }
    if base.snapshot_id != view.base.snapshot_id {
        live.compacted(view.table(), base.table)?;
    }
    view_of(live, table)
}
