//! Manifests merged: many small ones become few, with the same entries clustered by partition.
//!
//! ```text
//! [a ADDED 3] [b ADDED 4] [x DELETED 4] [c ADDED 5] … 10,000 of them
//! [a EXISTING 3, b EXISTING 4, c EXISTING 5, …]      one for 8,000 entries; what was removed before is forgotten
//! ```
//! **Invariant**: the live entries before and after are the same, each with its own snapshot and sequence numbers; so
//! every reader sees the same files under the same deletes, and a snapshot `replace` is what it is.
//!
//! What is merged is chosen from the table as an attempt finds it, so a concurrent append is no conflict: its manifest
//! is merged too, or stays for the next time. Merging twice merges nothing: of small manifests of a kind one is left.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{
    Literal, Manifest, ManifestContentType, ManifestEntryRef, ManifestFile, Struct,
};
use iceberg::table::Table;
use iceberg::{Result, TableIdent};
use uuid::Uuid;

use super::Commit;
use super::grouped::{ENTRIES_MAX, Grouped};
use super::manifests::{ManifestStore, Rewritten};
use crate::lake::catalog::Fence;
use crate::lake::error::{CommitError, LakeError};
use crate::lake::files::{CONCURRENT_READS, manifests};
use crate::lake::summary::COMMIT_ID;
use crate::lake::warehouse::Warehouse;

/// A manifest with fewer live entries (4,000) is small. Two that are not cannot become one.
const SMALL_ENTRIES: usize = ENTRIES_MAX / 2;

/// Entries that one commit merges at most (200,000, of 1 to 2 KiB in memory each): they are sorted in memory. What is
/// left is for the next.
const ENTRIES_PER_COMMIT: usize = 200_000;

const CREATED: &str = "manifests-created";
const REPLACED: &str = "manifests-replaced";
const KEPT: &str = "manifests-kept";
const ENTRIES: &str = "entries-processed";

/// What a merge did.
#[derive(Debug)]
pub struct MergedManifests {
    /// The manifests that are no longer in the table's snapshot.
    pub rewritten: usize,
    /// Those that took their place.
    pub added: usize,
    /// The table with the new snapshot; none when there was nothing to merge.
    pub table: Option<Table>,
}

/// Merges the small manifests of a table's current snapshot.
///
/// # Errors
/// As [`Commit::run`].
///
/// Not cancel safe: a dropped call may still commit; repeating it does no harm.
pub async fn merge_manifests(
    warehouse: &Warehouse,
    ident: &TableIdent,
    fence: Option<&Fence>,
) -> std::result::Result<MergedManifests, CommitError> {
    let failed = |e: iceberg::Error| CommitError::failed(ident, e);
    let catalog = warehouse.catalog();
    let table = catalog.load_table(ident).await.map_err(failed)?;
    if Plan::of(current(&table).await.map_err(failed)?).is_empty() {
        return Ok(MergedManifests {
            rewritten: 0,
            added: 0,
            table: None,
        });
    }
    let commit_id = Uuid::new_v4();
    let mut commit = Commit::merging_manifests().with_commit_id(commit_id);
    if let Some(fence) = fence {
        commit = commit.with_fence(fence);
    }
    let table = commit.run(warehouse, ident).await?;
    let commit_id = commit_id.to_string();
    let [rewritten, added] = [REPLACED, CREATED].map(|key| counted(&table, &commit_id, key));
    Ok(MergedManifests {
        rewritten: rewritten.unwrap_or(0),
        added: added.unwrap_or(0),
        table: Some(table),
    })
}

/// What the summary of a commit's snapshot counts.
fn counted(table: &Table, commit_id: &str, key: &str) -> Option<usize> {
    let mut snapshots = table.metadata().snapshots();
    snapshots.find_map(|snapshot| {
        let summary = &snapshot.summary().additional_properties;
        let is_ours = summary.get(COMMIT_ID).is_some_and(|id| id == commit_id);
        summary.get(key).filter(|_| is_ours)?.parse().ok()
    })
}

/// How many manifests of the current snapshot [`merge_manifests`] would put others in the place of.
///
/// # Errors
/// `Iceberg` when the snapshot's manifest list cannot be read.
pub async fn mergeable_manifests(table: &Table) -> std::result::Result<usize, LakeError> {
    let files = current(table).await;
    let files = files.map_err(LakeError::iceberg("list its manifests", table.identifier()))?;
    Ok(Plan::of(files).merged.iter().map(Vec::len).sum())
}

async fn current(table: &Table) -> Result<Vec<ManifestFile>> {
    match table.metadata().current_snapshot() {
        Some(snapshot) => manifests(table, snapshot).await,
        None => Ok(Vec::new()),
    }
}

/// Which manifests are merged with which.
#[derive(Debug, Default)]
struct Plan {
    merged: Vec<Vec<ManifestFile>>,
    kept: Vec<ManifestFile>,
    /// Those without a live file.
    forgotten: usize,
}

impl Plan {
    fn of(files: Vec<ManifestFile>) -> Self {
        let mut plan = Self::default();
        let mut small: BTreeMap<(bool, i32), Vec<ManifestFile>> = BTreeMap::new();
        let mut left = ENTRIES_PER_COMMIT;
        for file in files {
            match live_entries(&file) {
                Some(0) => plan.forgotten += 1,
                Some(entries) if entries < SMALL_ENTRIES && entries <= left => {
                    left -= entries;
                    let deletes = file.content == ManifestContentType::Deletes;
                    let kind = (deletes, file.partition_spec_id);
                    small.entry(kind).or_default().push(file);
                }
                _ => plan.kept.push(file),
            }
        }
        for group in small.into_values() {
            match group.len() {
                1 => plan.kept.extend(group),
                _ => plan.merged.push(group),
            }
        }
        plan
    }

    fn is_empty(&self) -> bool {
        self.merged.is_empty()
    }
}

/// None when the list does not say, as those of format 1 need not.
fn live_entries(file: &ManifestFile) -> Option<usize> {
    let entries = u64::from(file.added_files_count?) + u64::from(file.existing_files_count?);
    usize::try_from(entries).ok()
}

/// The manifests of a snapshot after a merge.
pub(super) async fn merged(
    files: Vec<ManifestFile>,
    store: &mut ManifestStore<'_>,
) -> Result<Rewritten> {
    let plan = Plan::of(files);
    let (kept, replaced) = (plan.kept.len(), plan.forgotten);
    let mut files = plan.kept;
    let (mut replaced, mut created, mut entries) = (replaced, 0, 0);
    for group in plan.merged {
        replaced += group.len();
        let (written, count) = merge(group, store).await?;
        created += written.len();
        entries += count;
        files.extend(written);
    }
    let counts = [
        (CREATED, created),
        (REPLACED, replaced),
        (KEPT, kept),
        (ENTRIES, entries),
    ];
    let counts = counts.map(|(key, count)| (key.to_owned(), count.to_string()));
    Ok(Rewritten {
        files,
        removed: Vec::new(),
        counts: HashMap::from(counts),
    })
}

/// Merges manifests of one kind; also gives how many entries they have.
async fn merge(
    group: Vec<ManifestFile>,
    store: &mut ManifestStore<'_>,
) -> Result<(Vec<ManifestFile>, usize)> {
    let file_io = store.table().file_io();
    let reads = group
        .into_iter()
        .map(|file| async move { file.load_manifest(file_io).await });
    let read = futures::stream::iter(reads).buffered(CONCURRENT_READS);
    let read: Vec<Manifest> = read.try_collect().await?;
    // The newest schema knows every column that a living one has bounds for.
    let newest = read
        .iter()
        .max_by_key(|manifest| manifest.metadata().schema.schema_id());
    let Some(of) = newest.map(|manifest| manifest.metadata().clone()) else {
        return Ok((Vec::new(), 0));
    };
    let mut live: Vec<ManifestEntryRef> = read
        .into_iter()
        .flat_map(|manifest| manifest.into_parts().0)
        .filter(|entry| entry.is_alive())
        .collect();
    live.sort_by(|a, b| by_partition(a.data_file().partition(), b.data_file().partition()));
    let count = live.len();
    let mut grouped = Grouped::new(store);
    for entry in live {
        grouped.carry(&of, &entry)?;
    }
    Ok((grouped.finish().await?, count))
}

/// Nulls first; values that have no order (of other types than the spec's) stay as they come.
fn by_partition(a: &Struct, b: &Struct) -> Ordering {
    let value = |value: Option<&Literal>| value.and_then(Literal::as_primitive_literal);
    let pairs = a.iter().zip(b.iter());
    let mut orders = pairs.map(|(a, b)| value(a).partial_cmp(&value(b)));
    orders
        .find_map(|order| order.filter(|order| order.is_ne()))
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: ManifestContentType, spec: i32, live: u32) -> ManifestFile {
        ManifestFile {
            manifest_path: format!("{content:?}-{spec}-{live}"),
            manifest_length: 1,
            partition_spec_id: spec,
            content,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: Some(live),
            existing_files_count: Some(0),
            deleted_files_count: Some(0),
            added_rows_count: Some(1),
            existing_rows_count: Some(0),
            deleted_rows_count: Some(0),
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    /// The sizes of the merged groups, and of those that are kept.
    fn planned(files: Vec<ManifestFile>) -> (Vec<Vec<usize>>, Vec<usize>) {
        let plan = Plan::of(files);
        let sizes = |files: &[ManifestFile]| -> Vec<usize> {
            files.iter().filter_map(live_entries).collect()
        };
        let merged = plan.merged.iter().map(|group| sizes(group)).collect();
        (merged, sizes(&plan.kept))
    }

    #[test]
    fn small_manifests_of_one_kind_are_merged_and_one_alone_is_not() {
        use ManifestContentType::{Data, Deletes};
        let files = vec![
            file(Data, 0, 1),
            file(Data, 0, 4_000),
            file(Data, 1, 2),
            file(Deletes, 0, 3),
            file(Data, 0, 3_999),
            file(Data, 0, 0),
        ];
        let (merged, mut kept) = planned(files);
        kept.sort_unstable();
        assert_eq!(merged, [vec![1, 3_999]]);
        assert_eq!(kept, [2, 3, 4_000]);
        assert!(Plan::of(vec![file(Data, 0, 1), file(Data, 0, 0)]).is_empty());
    }

    #[test]
    fn a_commit_merges_no_more_than_fits_in_memory() {
        let files = (0..100).map(|_| file(ManifestContentType::Data, 0, 3_000));
        let (merged, kept) = planned(files.collect());
        assert_eq!(merged[0].len(), ENTRIES_PER_COMMIT / 3_000);
        assert_eq!(merged[0].len() + kept.len(), 100);
    }

    #[test]
    fn what_is_left_after_a_merge_is_not_merged_again() {
        for entries in [2_u32, 3_999, 7_999, 8_001, 12_345, 30_000] {
            let full = u32::try_from(ENTRIES_MAX).unwrap();
            let mut after = vec![full; usize::try_from(entries / full).unwrap()];
            after.extend(Some(entries % full).filter(|rest| *rest > 0));
            let after = after.into_iter();
            let after = after.map(|live| file(ManifestContentType::Data, 0, live));
            assert!(Plan::of(after.collect()).is_empty(), "{entries}");
        }
    }

    #[test]
    fn partitions_are_ordered_by_value_nulls_first() {
        let day = |day: Option<i32>| Struct::from_iter([day.map(Literal::date)]);
        let mut days = [day(Some(3)), day(None), day(Some(-1)), day(Some(2))];
        days.sort_by(by_partition);
        assert_eq!(days, [day(None), day(Some(-1)), day(Some(2)), day(Some(3))]);
    }
}
