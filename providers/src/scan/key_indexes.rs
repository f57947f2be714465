//! The key indexes that the process keeps, by data file.
//!
//! **Invariant:** what is kept takes at most the budget, and an index is of exactly the file that it is kept for: data
//! files are never written twice, and their paths hold a UUID.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt as _;
use tokio::sync::OnceCell;

use super::data_file::DataFile;
use super::key_index::KeyIndex;
use crate::error::Result;
use crate::lake::DataFileInfo;

/// How many bytes all indexes of the process take at most (256 MiB): those of 28 million rows.
const INDEX_BYTES_MAX: u64 = 256 << 20;

/// One for the process: a limit for each lake would be no limit.
static INDEXES: LazyLock<KeyIndexes> =
    LazyLock::new(|| KeyIndexes::new(INDEX_BYTES_MAX, RandomState::new()));

/// An index, or the certainty that the file can have none.
type Slot = Arc<OnceCell<Option<Arc<KeyIndex>>>>;

/// The indexes of many files, within a budget; the one that was asked for longest ago goes first.
#[derive(Debug)]
pub(crate) struct KeyIndexes<S = RandomState> {
    bytes_max: u64,
    hasher: S,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<String, File>,
    bytes: u64,
    asked: u64,
}

#[derive(Debug)]
struct File {
    slot: Slot,
    bytes: u64,
    asked: u64,
}

impl KeyIndexes {
    /// Those of the process. Their hashes are keyed by chance, so that nobody can choose row ids that meet in one bucket.
    pub(crate) fn of_process() -> &'static Self {
        &INDEXES
    }
}

impl<S: BuildHasher + Sync> KeyIndexes<S> {
    /// None yet, with room for so many bytes.
    pub(super) fn new(bytes_max: u64, hasher: S) -> Self {
        Self {
            bytes_max,
            hasher,
            kept: Mutex::default(),
        }
    }

    /// The hash of a row id, as all indexes of these take it.
    pub(crate) fn hash(&self, row_id: &str) -> u64 {
        self.hasher.hash_one(row_id)
    }

    /// Whether the indexes of all these files have room at once: if not, each query would make them anew.
    pub(crate) fn have_room_for(&self, files: &[DataFileInfo]) -> bool {
        let bytes = files.iter().map(|file| KeyIndex::bytes_for(file.rows));
        bytes.fold(0_u64, u64::saturating_add) <= self.bytes_max
    }

    /// The index of a file, made by reading its row ids when it is not there. None when the file has another number of
    /// rows than its manifest says, or more than can be counted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) async fn get(&self, file: DataFile<'_>) -> Result<Option<Arc<KeyIndex>>> {
        let info = file.info();
        let slot = self.slot(&info.path, KeyIndex::bytes_for(info.rows));
        let made = slot.get_or_try_init(|| self.make(file)).await?;
        Ok(made.as_ref().map(Arc::clone))
    }

    async fn make(&self, file: DataFile<'_>) -> Result<Option<Arc<KeyIndex>>> {
        let Some(row_groups) = file.row_groups().await? else {
            return Ok(None);
        };
        let mut hashes: Vec<u64> = Vec::new();
        let mut ids = file.hashed_ids(|id| self.hash(id))?;
        while let Some(some) = ids.try_next().await? {
            hashes.extend(some);
        }
        if u64::try_from(hashes.len()).ok() != Some(file.info().rows) {
            return Ok(None);
        }
        Ok(KeyIndex::new(row_groups, &hashes).map(Arc::new))
    }

    /// The place of a file's index, empty when it is new; others leave for it.
    fn slot(&self, path: &str, bytes: u64) -> Slot {
        let mut kept = self.lock();
        kept.asked += 1;
        let asked = kept.asked;
        if let Some(file) = kept.files.get_mut(path) {
            file.asked = asked;
            return Arc::clone(&file.slot);
        }
        let slot = Slot::default();
        if bytes > self.bytes_max {
            return slot;
        }
        while kept.bytes > self.bytes_max - bytes {
            kept.drop_oldest();
        }
        kept.bytes += bytes;
        let file = File {
            slot: Arc::clone(&slot),
            bytes,
            asked,
        };
        kept.files.insert(path.to_owned(), file);
        slot
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing between two statements of an owner can panic, so a poisoned lock holds a valid state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn drop_oldest(&mut self) {
        let oldest = self.files.iter().min_by_key(|(_, file)| file.asked);
        let path = oldest.map(|(path, _)| path.clone());
        let path = path.expect("bytes are held, so a file is");
        let file = self.files.remove(&path).expect("it was just found");
        self.bytes -= file.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(indexes: &KeyIndexes) -> Vec<String> {
        let kept = indexes.lock();
        assert_eq!(
            kept.bytes,
            kept.files.values().map(|file| file.bytes).sum::<u64>()
        );
        assert!(kept.bytes <= indexes.bytes_max);
        let mut paths: Vec<String> = kept.files.keys().cloned().collect();
        paths.sort();
        paths
    }

    #[test]
    fn the_file_that_was_asked_for_longest_ago_leaves_first_and_the_budget_holds() {
        let indexes = KeyIndexes::new(100, RandomState::new());
        for (path, bytes) in [("a", 40), ("b", 40), ("a", 40), ("c", 20)] {
            indexes.slot(path, bytes);
        }
        assert_eq!(paths(&indexes), ["a", "b", "c"]);
        indexes.slot("d", 30);
        assert_eq!(paths(&indexes), ["a", "c", "d"]);
        indexes.slot("e", 100);
        assert_eq!(paths(&indexes), ["e"]);
        indexes.slot("too large", 101);
        assert_eq!(paths(&indexes), ["e"]);
    }

    #[test]
    fn all_who_ask_for_a_file_share_one_index() {
        let indexes = KeyIndexes::new(100, RandomState::new());
        let first = indexes.slot("a", 10);
        assert!(Arc::ptr_eq(&first, &indexes.slot("a", 10)));
    }
}
