//! The live files of a snapshot, read from its manifests.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFileFormat, Datum, ManifestEntry, ManifestFile, SnapshotRef, Struct,
};
use iceberg::table::Table;

use super::error::LakeError;

/// Manifests that are read at the same time.
pub(super) const CONCURRENT_READS: usize = 8;

/// A live file of a snapshot: a data file, or a delete file that readers must apply.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFileInfo {
    /// The full URI, as delete files refer to it.
    pub path: String,
    /// Rows, position deletes or equality deletes.
    pub content: DataContentType,
    /// What it is written as.
    pub format: DataFileFormat,
    /// The file's size.
    pub bytes: u64,
    /// Its rows (or deletes).
    pub rows: u64,
    /// Its values for the partition spec's fields; empty when the table is not partitioned.
    pub partition: Struct,
    /// The partition spec of `partition`.
    pub spec_id: i32,
    /// Lower bounds by field id. Absent when all values are null or the bound is too long.
    pub lower_bounds: HashMap<i32, Datum>,
    /// Upper bounds by field id, likewise.
    pub upper_bounds: HashMap<i32, Datum>,
    /// Nulls by field id.
    pub null_counts: HashMap<i32, u64>,
    /// The order of its rows, by the id of one of the table's sort orders; none when it is not known to have any.
    pub sort_order_id: Option<i32>,
    /// The data sequence number: an equality delete applies to files below its own, a position
    /// delete also to those equal to it.
    pub sequence_number: i64,
    /// The snapshot that added it.
    pub snapshot_id: Option<i64>,
    /// The data file that a position-delete file is for, when it is for one only.
    pub referenced_data_file: Option<String>,
    /// The field ids that an equality-delete file compares.
    pub equality_ids: Vec<i32>,
}

/// The live files of a snapshot; of the current one by default, none for a table without any.
///
/// # Errors
/// `NotFound` for an unknown snapshot, `Iceberg` when a manifest cannot be read.
pub async fn live_files(
    table: &Table,
    snapshot_id: Option<i64>,
) -> Result<Vec<DataFileInfo>, LakeError> {
    let snapshot = match snapshot_id {
        Some(id) => find_snapshot(table, id)?,
        None => match table.metadata().current_snapshot() {
            Some(current) => current,
            None => return Ok(Vec::new()),
        },
    };
    let refused = || LakeError::iceberg("list its files", table.identifier());
    let manifests = manifests(table, snapshot).await.map_err(refused())?;
    let reads = manifests
        .into_iter()
        .filter(|manifest| manifest.has_added_files() || manifest.has_existing_files())
        .map(|manifest| read(table, manifest));
    let files: Vec<Vec<DataFileInfo>> = futures::stream::iter(reads)
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await
        .map_err(refused())?;
    Ok(files.into_iter().flatten().collect())
}

/// A snapshot by its id.
pub(crate) fn find_snapshot(table: &Table, id: i64) -> Result<&SnapshotRef, LakeError> {
    let found = table.metadata().snapshot_by_id(id);
    found.ok_or_else(|| LakeError::NotFound {
        what: "snapshot",
        name: format!("{id} of table {}", table.identifier()),
    })
}

/// The manifests of a snapshot.
pub(crate) async fn manifests(
    table: &Table,
    snapshot: &SnapshotRef,
) -> iceberg::Result<Vec<ManifestFile>> {
    let list = table.manifest_list_reader(snapshot).load().await?;
    // Collected, because the list's own iterator is not `Send`.
    Ok(list.consume_entries().into_iter().collect())
}

async fn read(table: &Table, manifest: ManifestFile) -> iceberg::Result<Vec<DataFileInfo>> {
    let entries = manifest.load_manifest(table.file_io()).await?;
    let live = entries.entries().iter().filter(|entry| entry.is_alive());
    Ok(live.map(|entry| info(entry, &manifest)).collect())
}

fn info(entry: &ManifestEntry, manifest: &ManifestFile) -> DataFileInfo {
    let file = entry.data_file();
    DataFileInfo {
        path: file.file_path().to_owned(),
        content: file.content_type(),
        format: file.file_format(),
        bytes: file.file_size_in_bytes(),
        rows: file.record_count(),
        partition: file.partition().clone(),
        spec_id: manifest.partition_spec_id,
        lower_bounds: file.lower_bounds().clone(),
        upper_bounds: file.upper_bounds().clone(),
        null_counts: file.null_value_counts().clone(),
        sort_order_id: file.sort_order_id(),
        sequence_number: entry.sequence_number().unwrap_or(manifest.sequence_number),
        snapshot_id: entry.snapshot_id(),
        referenced_data_file: super::commit::only_target(file),
        equality_ids: file.equality_ids().unwrap_or_default(),
    }
}
