//! The files that may be orphans, as fingerprints of their names.
//!
//! **Invariant**: whatever is kept is not an orphan any more. Two names with one fingerprint keep each other: the worst
//! that it does is to leave an orphan behind.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use lakesync_providers::lake::StoredObject;

use crate::error::{Error, Result};

/// Files that are remembered (20 million, of 16 bytes each): a folder with more is looked through part by part.
const LISTED_MAX: usize = 20_000_000;

/// Old files that nothing is known to refer to yet.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Made anew for each run, so that nobody can choose names that share a fingerprint.
    hasher: RandomState,
    names: HashSet<u64>,
    listed: u64,
}

impl Candidates {
    /// Notes a file that is there before any metadata is read.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn list(
        &mut self,
        table: &str,
        folder: &str,
        object: &StoredObject,
        older_than_ms: u64,
    ) -> Result<()> {
        self.listed += 1;
        if object.modified_ms >= older_than_ms || is_hidden(folder, &object.uri) {
            return Ok(());
        }
        if self.names.len() == LISTED_MAX {
            return Err(Error::Refused(format!(
                "table `{table}` has more than {LISTED_MAX} files below {folder}: give a folder of it as location, one \
                 after another"
            )));
        }
        self.names.insert(self.hasher.hash_one(&object.path));
        Ok(())
    }

    /// Takes a file out that something refers to.
    pub(super) fn keep(&mut self, path: &str) {
        self.names.remove(&self.hasher.hash_one(path));
    }

    /// Whether a file was listed and not kept.
    pub(super) fn is_orphan(
        &self,
        folder: &str,
        object: &StoredObject,
        older_than_ms: u64,
    ) -> bool {
        object.modified_ms < older_than_ms
            && self.names.contains(&self.hasher.hash_one(&object.path))
            && !is_hidden(folder, &object.uri)
    }

    /// How many files were looked at.
    pub(super) fn listed(&self) -> u64 {
        self.listed
    }
}

/// Whether a name below `folder` is one that programs keep for themselves (`_temporary`, `.crc`); the folders of partitions
/// may begin so too.
fn is_hidden(folder: &str, uri: &str) -> bool {
    let below = uri.strip_prefix(folder).unwrap_or(uri);
    let mut parts = below.split('/');
    parts.any(|part| part.starts_with(['_', '.']) && !part.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, modified_ms: u64) -> StoredObject {
        StoredObject {
            uri: format!("file:///{path}"),
            path: path.to_owned(),
            bytes: 1,
            modified_ms,
        }
    }

    #[test]
    fn old_files_that_nothing_keeps_are_orphans() {
        let mut candidates = Candidates::default();
        let folder = "file:///w/t";
        let files = [
            object("w/t/data/kept.parquet", 10),
            object("w/t/data/orphan.parquet", 10),
            object("w/t/data/young.parquet", 20),
            object("w/t/data/_temporary/x.parquet", 10),
            object("w/t/data/.x.crc", 10),
            object("w/t/data/_arrived_day=2026-01-01/orphan.parquet", 10),
        ];
        for file in &files {
            candidates.list("t", folder, file, 20).unwrap();
        }
        candidates.keep("w/t/data/kept.parquet");
        let later = object("w/t/data/later.parquet", 10);
        let orphans = files.iter().chain([&later]);
        let orphans = orphans.filter(|file| candidates.is_orphan(folder, file, 20));
        let orphans: Vec<&str> = orphans.map(|file| file.path.as_str()).collect();
        assert_eq!(
            orphans,
            [
                "w/t/data/orphan.parquet",
                "w/t/data/_arrived_day=2026-01-01/orphan.parquet"
            ]
        );
        assert_eq!(candidates.listed(), 6);
    }
}
