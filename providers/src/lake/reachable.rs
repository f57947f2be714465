//! Which files nothing needs once some snapshots of a table are gone, and deleting them.
//!
//! ```text
//!   expired snapshots ─► manifest lists ─► manifests ─┐  less those of kept snapshots
//!                                                     ▼
//!                          their live entries ─► files   less the live entries of kept manifests
//! ```
//! **Invariant**: a file is listed only when every manifest of every kept snapshot was read and none has it live. What
//! cannot be read of an expired snapshot is left to orphan removal.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{DataContentType, ManifestFile, SnapshotRef};
use iceberg::table::Table;

use super::error::LakeError;
use super::files::{CONCURRENT_READS, manifests};
use super::warehouse::Warehouse;
use crate::scan::key_index_uri;

/// Files that only snapshots that go can reach, by kind: full URIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreachable {
    /// Rows.
    pub data: BTreeSet<String>,
    /// Deletes by position.
    pub position_deletes: BTreeSet<String>,
    /// Deletes by value.
    pub equality_deletes: BTreeSet<String>,
    /// Manifests.
    pub manifests: BTreeSet<String>,
    /// Lists of manifests.
    pub manifest_lists: BTreeSet<String>,
    /// Statistics of tables and partitions.
    pub statistics: BTreeSet<String>,
}

impl Unreachable {
    /// What the snapshots `expired` of `before` reach and no other snapshot of `after` does. Its memory is that of the
    /// paths of what goes, not of what stays.
    ///
    /// # Errors
    /// `Iceberg` when a manifest of a kept snapshot cannot be read.
    pub async fn of(
        before: &Table,
        expired: &BTreeSet<i64>,
        after: &Table,
    ) -> Result<Self, LakeError> {
        let mut found = Self::default();
        if expired.is_empty() {
            return Ok(found);
        }
        let refused = || LakeError::iceberg("find what is out of reach in", before.identifier());
        let kept = after.metadata().snapshots();
        let kept = kept.filter(|snapshot| !expired.contains(&snapshot.snapshot_id()));
        let kept: Vec<SnapshotRef> = kept.map(Arc::clone).collect();
        let kept_lists: BTreeSet<&str> = kept.iter().map(|kept| kept.manifest_list()).collect();
        let kept_manifests = listed(after, kept.clone()).await.map_err(refused())?;

        let mut going = HashMap::new();
        for id in expired {
            let Some(snapshot) = before.metadata().snapshot_by_id(*id) else {
                continue;
            };
            match manifests(before, snapshot).await {
                Ok(listed) => going.extend(by_path(listed)),
                Err(error) => left(snapshot.manifest_list(), &error),
            }
            if !kept_lists.contains(snapshot.manifest_list()) {
                let list = snapshot.manifest_list().to_owned();
                found.manifest_lists.insert(list);
            }
        }
        going.retain(|path, _| !kept_manifests.contains_key(path));
        found.take_files(before, going.values()).await;
        found.manifests.extend(going.into_keys());
        found
            .leave_files(after, kept_manifests.values())
            .await
            .map_err(refused())?;
        found.take_statistics(before, expired);
        Ok(found)
    }

    /// The files that are live in these manifests.
    async fn take_files(&mut self, table: &Table, manifests: impl Iterator<Item = &ManifestFile>) {
        for manifest in manifests {
            match live(table, manifest).await {
                Ok(files) => files.into_iter().for_each(|(content, path)| {
                    self.of_content(content).insert(path);
                }),
                Err(error) => left(&manifest.manifest_path, &error),
            }
        }
    }

    /// Takes out what is live in these manifests.
    async fn leave_files(
        &mut self,
        table: &Table,
        manifests: impl Iterator<Item = &ManifestFile>,
    ) -> iceberg::Result<()> {
        let any = [&self.data, &self.position_deletes, &self.equality_deletes];
        if any.iter().all(|files| files.is_empty()) {
            return Ok(());
        }
        let manifests: Vec<ManifestFile> = manifests.cloned().collect();
        let reads = manifests
            .into_iter()
            .map(|manifest| async move { live(table, &manifest).await });
        let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
        while let Some(files) = reads.try_next().await? {
            for (content, path) in files {
                self.of_content(content).remove(&path);
            }
        }
        Ok(())
    }

    fn of_content(&mut self, content: DataContentType) -> &mut BTreeSet<String> {
        match content {
            DataContentType::Data => &mut self.data,
            DataContentType::PositionDeletes => &mut self.position_deletes,
            DataContentType::EqualityDeletes => &mut self.equality_deletes,
        }
    }

    fn take_statistics(&mut self, table: &Table, expired: &BTreeSet<i64>) {
        let metadata = table.metadata();
        let statistics = metadata.statistics_iter();
        let statistics = statistics.filter(|file| expired.contains(&file.snapshot_id));
        self.statistics
            .extend(statistics.map(|file| file.statistics_path.clone()));
        let statistics = metadata.partition_statistics_iter();
        let statistics = statistics.filter(|file| expired.contains(&file.snapshot_id));
        self.statistics
            .extend(statistics.map(|file| file.statistics_path.clone()));
    }

    /// Deletes all of them, the key indexes of data files too, rows first and what lists them last. What cannot be deleted
    /// is left to orphan removal and is not counted; what is gone already counts.
    pub async fn delete(self, warehouse: &Warehouse) -> DeletedCounts {
        let indexes = self.data.iter().map(|path| key_index_uri(path)).collect();
        delete_all(warehouse, indexes).await;
        DeletedCounts {
            data_files: delete_all(warehouse, self.data).await,
            position_delete_files: delete_all(warehouse, self.position_deletes).await,
            equality_delete_files: delete_all(warehouse, self.equality_deletes).await,
            statistics_files: delete_all(warehouse, self.statistics).await,
            manifest_files: delete_all(warehouse, self.manifests).await,
            manifest_lists: delete_all(warehouse, self.manifest_lists).await,
        }
    }

    /// How many of each kind there are.
    #[must_use]
    pub fn counts(&self) -> DeletedCounts {
        let count = |files: &BTreeSet<String>| u64::try_from(files.len()).unwrap_or(u64::MAX);
        DeletedCounts {
            data_files: count(&self.data),
            position_delete_files: count(&self.position_deletes),
            equality_delete_files: count(&self.equality_deletes),
            statistics_files: count(&self.statistics),
            manifest_files: count(&self.manifests),
            manifest_lists: count(&self.manifest_lists),
        }
    }
}

/// How many files of each kind were deleted, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletedCounts {
    /// Data files.
    pub data_files: u64,
    /// Position-delete files.
    pub position_delete_files: u64,
    /// Equality-delete files.
    pub equality_delete_files: u64,
    /// Statistics files.
    pub statistics_files: u64,
    /// Manifests.
    pub manifest_files: u64,
    /// Manifest lists.
    pub manifest_lists: u64,
}

impl DeletedCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            data_files: self.data_files + other.data_files,
            position_delete_files: self.position_delete_files + other.position_delete_files,
            equality_delete_files: self.equality_delete_files + other.equality_delete_files,
            statistics_files: self.statistics_files + other.statistics_files,
            manifest_files: self.manifest_files + other.manifest_files,
            manifest_lists: self.manifest_lists + other.manifest_lists,
        }
    }
}

/// The manifests of these snapshots by path: those of one are mostly those of the next.
async fn listed(
    table: &Table,
    snapshots: Vec<SnapshotRef>,
) -> iceberg::Result<HashMap<String, ManifestFile>> {
    // Owned, because a closure over references makes no stream that is `Send`.
    let reads = snapshots
        .into_iter()
        .map(|snapshot| async move { manifests(table, &snapshot).await });
    let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
    let mut found = HashMap::new();
    while let Some(listed) = reads.try_next().await? {
        found.extend(by_path(listed));
    }
    Ok(found)
}

fn by_path(manifests: Vec<ManifestFile>) -> impl Iterator<Item = (String, ManifestFile)> {
    let manifests = manifests.into_iter();
    manifests.map(|manifest| (manifest.manifest_path.clone(), manifest))
}

async fn live(
    table: &Table,
    manifest: &ManifestFile,
) -> iceberg::Result<Vec<(DataContentType, String)>> {
    let entries = manifest.load_manifest(table.file_io()).await?;
    let live = entries.entries().iter().filter(|entry| entry.is_alive());
    let files = live.map(|entry| (entry.content_type(), entry.file_path().to_owned()));
    Ok(files.collect())
}

/// Deletes files; how many are gone.
async fn delete_all(warehouse: &Warehouse, uris: BTreeSet<String>) -> u64 {
    let all = uris.len();
    let behind = warehouse.delete_objects(uris).await;
    if let Some((uri, error)) = &behind.first {
        left(uri, error);
    }
    u64::try_from(all - behind.count).unwrap_or(u64::MAX)
}

fn left(uri: &str, error: &dyn std::fmt::Display) {
    tracing::warn!(file = uri, %error, "a file that nothing needs could not be read or deleted; orphan removal takes it");
}
