//! Many small manifests become few: those of a table's base, then those of its log.
//!
//! Every flush adds a manifest to the log, and whoever plans a query opens all of them. The entries stay what they are;
//! which are merged, and how a commit in between is no conflict, stands in
//! [`merge_manifests`](lakesync_providers::lake::merge_manifests).
//!
//! **Invariant**: the same files are live before and after, with the same sequence numbers.
//!
//! **Crash windows.** Before the commit: new manifests are orphans. After it, before publishing: the process reads the old
//! manifests, which are still there.

use lakesync_providers::Live;
use lakesync_providers::lake::{Fence, MergedManifests, merge_manifests, mergeable_manifests};
use lakesync_providers::proto::TableName;

use crate::error::{Error, Result};

/// What a rewrite of manifests did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestReport {
    /// The table.
    pub table: TableName,
    /// The manifests that are no longer in the current snapshots.
    pub rewritten: usize,
    /// Those that took their place.
    pub added: usize,
}

/// How many manifests of a table's current snapshots [`rewrite_manifests`] would put others in the place of.
///
/// # Errors
/// Unknown table, or a manifest list that cannot be read.
pub async fn manifests_due(live: &Live, table: &str) -> Result<usize> {
    let table = name_of(live, table)?;
    let pair = live.warehouse().load(live.gateway(), &table).await?;
    let base = mergeable_manifests(&pair.base).await?;
    Ok(base + mergeable_manifests(&pair.log).await?)
}

/// Merges the small manifests of a table's base and log.
///
/// # Errors
/// Unknown table, a manifest that cannot be read, or a lost commit; the base's may be merged then and the log's not.
///
/// # Cancel safety
/// Run it where it is not dropped: a commit whose publication was cut off is seen by the next one only.
pub async fn rewrite_manifests(
    live: &Live,
    table: &str,
    fence: Option<&Fence>,
) -> Result<ManifestReport> {
    let table = name_of(live, table)?;
    let warehouse = live.warehouse();
    let pair = warehouse.load(live.gateway(), &table).await?;
    let mut report = ManifestReport {
        table: table.clone(),
        rewritten: 0,
        added: 0,
    };
    let merged = merge_manifests(warehouse, pair.base.identifier(), fence).await?;
    report.count(&merged);
    if let Some(base) = merged.table {
        live.compacted(&table, base)?;
    }
    let merged = merge_manifests(warehouse, pair.log.identifier(), fence).await?;
    report.count(&merged);
    if let Some(log) = merged.table {
        live.flushed(&table, log)?;
    }
    Ok(report)
}

impl ManifestReport {
    fn count(&mut self, merged: &MergedManifests) {
        self.rewritten += merged.rewritten;
        self.added += merged.added;
    }
}

fn name_of(live: &Live, table: &str) -> Result<TableName> {
    let view = live.view(table).ok_or_else(|| Error::UnknownTable {
        gateway: live.gateway().to_string(),
        table: table.to_owned(),
    })?;
    Ok(view.table().clone())
}
