//! Which files a table reaches: what no one may delete.
//!
//! ```text
//! catalog ─► current metadata.json ─► metadata log ─► older metadata files
//!                │                ─► statistics, partition statistics
//!                └► every snapshot ─► manifest list ─► manifests ─► live data and delete files ─► <data file>.keys
//! ```
//! **Invariant**: of every snapshot that the metadata has, whether a branch or tag leads to it or not, every file is told.
//! A manifest that many snapshots share is read once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::NamespaceIdent;
use iceberg::spec::{DataContentType, ManifestFile};
use iceberg::table::Table;

use super::error::LakeError;
use super::files::{CONCURRENT_READS, manifests};
use super::summary;
use super::warehouse::Warehouse;
use crate::scan::key_index_uri;

/// The file that catalogs of directories keep beside the metadata; it names the current one.
const VERSION_HINT: &str = "version-hint.text";

/// Tells `found` the URI of every file that `table`, as it was loaded, reaches; some of them more than once. Memory holds
/// eight manifests and 8 bytes a manifest.
///
/// # Errors
/// `Iceberg` when a manifest list or a manifest cannot be read: then nothing is known to be unreachable.
pub async fn reachable_files(
    table: &Table,
    found: &mut (dyn FnMut(&str) + Send),
) -> Result<(), LakeError> {
    let refused = || LakeError::iceberg("list the files that it reaches", table.identifier());
    let metadata = table.metadata();
    table.metadata_location().into_iter().for_each(&mut *found);
    found(&format!("{}/metadata/{VERSION_HINT}", metadata.location()));
    for log in metadata.metadata_log() {
        found(&log.metadata_file);
    }
    for statistics in metadata.statistics_iter() {
        found(&statistics.statistics_path);
    }
    for statistics in metadata.partition_statistics_iter() {
        found(&statistics.statistics_path);
    }
    let hasher = RandomState::new();
    let mut seen: HashSet<u64> = HashSet::new();
    for snapshot in metadata.snapshots() {
        found(snapshot.manifest_list());
        let files = manifests(table, snapshot).await.map_err(refused())?;
        let new = files.into_iter().filter(|file| {
            found(&file.manifest_path);
            seen.insert(hasher.hash_one(&file.manifest_path))
        });
        let new: Vec<ManifestFile> = new.collect();
        let reads = new.into_iter().map(|file| async move {
            let manifest = file.load_manifest(table.file_io()).await?;
            let live = manifest.entries().iter().filter(|entry| entry.is_alive());
            let files = live.map(|entry| {
                let is_data = entry.content_type() == DataContentType::Data;
                (entry.file_path().to_owned(), is_data)
            });
            Ok::<_, iceberg::Error>(files.collect::<Vec<_>>())
        });
        let mut read = futures::stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some(files) = read.try_next().await.map_err(refused())? {
            for (path, is_data) in files {
                found(&path);
                if is_data {
                    found(&key_index_uri(&path));
                }
            }
        }
    }
    Ok(())
}

impl Warehouse {
    /// Every table of the catalog, as it is now, that may reach files below one of `locations`: those whose own location
    /// is above or below, and those that another program has written, which may reach any file.
    ///
    /// # Errors
    /// `Iceberg` when the catalog or a table's metadata cannot be read.
    pub async fn tables_that_may_reach(
        &self,
        locations: &[String],
    ) -> Result<Vec<Table>, LakeError> {
        let catalog = self.catalog();
        let refused = || LakeError::iceberg("list all tables of", "the catalog");
        let mut found = Vec::new();
        let mut open: Vec<NamespaceIdent> =
            catalog.list_namespaces(None).await.map_err(refused())?;
        while let Some(namespace) = open.pop() {
            let below = catalog.list_namespaces(Some(&namespace)).await;
            open.extend(below.map_err(refused())?);
            for ident in catalog.list_tables(&namespace).await.map_err(refused())? {
                let table = catalog.load_table(&ident).await;
                let table = table.map_err(LakeError::iceberg("load the table", &ident))?;
                let location = table.metadata().location();
                let overlaps =
                    |other: &String| is_below(location, other) || is_below(other, location);
                if locations.iter().any(overlaps) || !summary::is_all_ours(&table) {
                    found.push(table);
                }
            }
        }
        Ok(found)
    }
}

/// Whether `location` is `of` or a folder in it.
#[must_use]
pub fn is_below(location: &str, of: &str) -> bool {
    let of = of.trim_end_matches('/');
    location
        .strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_below_by_whole_names() {
        for (location, of, expected) in [
            ("file:///w/t", "file:///w/t", true),
            ("file:///w/t/", "file:///w/t", true),
            ("file:///w/t/data/x", "file:///w/t/", true),
            ("file:///w/t__deltas", "file:///w/t", false),
            ("file:///w", "file:///w/t", false),
        ] {
            assert_eq!(is_below(location, of), expected, "{location} below {of}");
        }
    }
}
