//! The key indexes that the process keeps, by data file.
//!
//! An index that is not there is loaded from the file beside its data file (`key_index_file`), else made by reading the
//! row ids of the data file. Both are done by a task of their own: a query that is cancelled does not stop what others
//! wait for, and what it began is there for the next.
//!
//! **Invariant:** what is kept takes at most the budget, and so does what is being made; an index is of exactly the file
//! that it is kept for: data files are never written twice, and their paths hold a UUID.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use datafusion::common::utils::get_available_parallelism;
use datafusion::error::DataFusionError;
use futures::TryStreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};

use super::bounded_map::BoundedMap;
use super::data_file::{DataFile, row_groups};
use super::key_index::{Builder, KeyIndex, Part};
use super::key_index_file::{KeyIndexFile, of_file};
use super::seed::Seed;
use crate::error::Result;
use crate::lake::DataFileInfo;

/// How many bytes all indexes of the process take at most (256 MiB): those of 28 million rows.
const INDEX_BYTES_MAX: u64 = 256 << 20;

/// How many bytes an index that is being made takes beside its own (64 MiB): those of five million rows. The row ids of
/// larger files are read several times, for some of the hashes each.
const BUILD_BYTES_MAX: u64 = 64 << 20;

/// So many indexes are made at once at most, on however many cores: each has its memory.
const BUILDS_MAX: usize = 4;

/// One for the process: a limit for each lake would be no limit.
static INDEXES: LazyLock<KeyIndexes> = LazyLock::new(|| KeyIndexes::new(Limits::default()));

/// An index, or the certainty that the file can have none.
type Slot = Arc<OnceCell<Option<Arc<KeyIndex>>>>;

/// What indexes may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of all that are kept.
    pub(super) bytes_max: u64,
    /// Bytes of one that is being made, beside its own.
    pub(super) build_bytes_max: u64,
    /// Whether they are kept beside their data files too.
    pub(super) beside: Beside,
}

/// Where indexes outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// In a file beside the data file.
    Kept,
    /// Nowhere.
    #[cfg(test)]
    Never,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: INDEX_BYTES_MAX,
            build_bytes_max: BUILD_BYTES_MAX,
            beside: Beside::Kept,
        }
    }
}

/// The indexes of many files, within a budget; the one that was asked for longest ago goes first. A clone is cheap and
/// the same.
#[derive(Clone, Debug)]
pub(crate) struct KeyIndexes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    hash: fn(Seed, &[u8]) -> u64,
    /// By what new indexes are made: by chance, or as those that were kept, so that a question is hashed once for all
    /// files.
    seed: OnceLock<Seed>,
    builds: Semaphore,
    kept: Mutex<BoundedMap<String, Slot>>,
    #[cfg(test)]
    made: std::sync::atomic::AtomicUsize,
}

impl KeyIndexes {
    /// Those of the process.
    pub(crate) fn of_process() -> &'static Self {
        &INDEXES
    }

    /// None yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self::with_hash(limits, Seed::hash)
    }

    /// None yet, with another hash than the usual.
    pub(super) fn with_hash(limits: Limits, hash: fn(Seed, &[u8]) -> u64) -> Self {
        Self(Arc::new(Inner {
            limits,
            hash,
            seed: OnceLock::new(),
            builds: Semaphore::new(get_available_parallelism().min(BUILDS_MAX)),
            kept: Mutex::new(BoundedMap::new(limits.bytes_max)),
            #[cfg(test)]
            made: std::sync::atomic::AtomicUsize::new(0),
        }))
    }

    /// By what new indexes are made.
    pub(super) fn seed(&self) -> Seed {
        *self.0.seed.get_or_init(Seed::by_chance)
    }

    /// The hash of a row id, as the indexes with this seed take it.
    pub(super) fn hash(&self, seed: Seed, row_id: &str) -> u64 {
        (self.0.hash)(seed, row_id.as_bytes())
    }

    /// Whether the indexes of all these files have room at once: if not, each query would make them anew.
    pub(super) fn have_room_for<'a>(&self, files: impl Iterator<Item = &'a DataFileInfo>) -> bool {
        let bytes = files.map(|file| KeyIndex::bytes_for(file.rows));
        bytes.fold(0_u64, u64::saturating_add) <= self.0.limits.bytes_max
    }

    /// The index of a file when it is in memory.
    pub(super) fn known(&self, info: &DataFileInfo) -> Option<Arc<KeyIndex>> {
        let slot = self.0.kept().get(&info.path)?;
        slot.get()?.as_ref().map(Arc::clone)
    }

    /// The index of a file, loaded or made when it is not there. None when the file has another number of rows than its
    /// manifest says, or more than can be counted.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Cancel safety
    /// Whoever stops waiting stops nothing.
    pub(super) async fn get(&self, file: DataFile) -> Result<Option<Arc<KeyIndex>>> {
        let info = file.info();
        let bytes = KeyIndex::bytes_for(info.rows);
        let slot = self.0.kept().get_or_new(&info.path, bytes);
        if let Some(known) = slot.get() {
            return Ok(known.as_ref().map(Arc::clone));
        }
        let inner = Arc::clone(&self.0);
        let task = async move {
            let made = slot.get_or_try_init(|| inner.load_or_make(file)).await?;
            Ok(made.as_ref().map(Arc::clone))
        };
        stopped(tokio::spawn(task).await)?
    }

    /// The index of a file when it is in memory or beside the file; it is neither made nor kept.
    pub(super) async fn kept_index(&self, file: DataFile) -> Option<Arc<KeyIndex>> {
        if let Some(known) = self.known(file.info()) {
            return Some(known);
        }
        let index = KeyIndexFile::of(&file)?.load().await?;
        let _ = self.0.seed.set(index.seed());
        Some(Arc::new(index))
    }

    /// How many indexes were made, not loaded.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.0.made.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Inner {
    async fn load_or_make(&self, file: DataFile) -> Result<Option<Arc<KeyIndex>>> {
        let path = file.info().path.clone();
        let beside = match self.limits.beside {
            Beside::Kept => KeyIndexFile::of(&file),
            #[cfg(test)]
            Beside::Never => None,
        };
        if let Some(beside) = beside.clone()
            && let Some(index) = beside.load().await
        {
            let _ = self.seed.set(index.seed());
            return Ok(Some(self.weighed(path, index)));
        }
        let Some(index) = self.make(file).await? else {
            return Ok(None);
        };
        if let Some(beside) = beside {
            beside.save(&index).await;
        }
        Ok(Some(self.weighed(path, index)))
    }

    async fn make(&self, file: DataFile) -> Result<Option<KeyIndex>> {
        let Some(row_groups) = row_groups(file.footer().await?.as_ref()) else {
            return Ok(None);
        };
        let seed = *self.seed.get_or_init(Seed::by_chance);
        let Some(builder) = Builder::new(seed, of_file(file.info()), row_groups) else {
            return Ok(None);
        };
        let turn = self.builds.acquire().await;
        let turn = turn.expect("nobody closes the semaphore");
        #[cfg(test)]
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (hash, bytes_max) = (self.hash, self.limits.build_bytes_max);
        let runtime = Handle::current();
        let build = move || build(builder, &file, |id| hash(seed, id), (&runtime, bytes_max));
        let built = stopped(tokio::task::spawn_blocking(build).await)?;
        drop(turn);
        built
    }

    fn weighed(&self, path: String, index: KeyIndex) -> Arc<KeyIndex> {
        let bytes = u64::try_from(index.bytes().len()).unwrap_or(u64::MAX);
        self.kept().weigh(&path, bytes);
        Arc::new(index)
    }

    fn kept(&self) -> MutexGuard<'_, BoundedMap<String, Slot>> {
        // Nothing between two statements of an owner can panic, so a poisoned lock holds a valid state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the row ids of a file and puts their hashes into the index: all of them in one go, or some in each of several,
/// as the bytes allow. It decodes and hashes for seconds, so it is no work for a thread of the runtime.
fn build(
    mut builder: Builder,
    file: &DataFile,
    hash: impl Fn(&[u8]) -> u64,
    (runtime, bytes_max): (&Handle, u64),
) -> Result<Option<KeyIndex>> {
    let rows = file.info().rows;
    let parts = builder.parts();
    let rows_of_part = rows / u64::try_from(parts).unwrap_or(u64::MAX);
    let at_once = bytes_max / (rows_of_part * Part::ROW_BYTES).max(1);
    let at_once = usize::try_from(at_once).unwrap_or(parts).clamp(1, parts);
    let mut first = 0;
    while first < parts {
        let end = (first + at_once).min(parts);
        let mut some: Vec<Part> = (first..end).map(|_| Part::for_rows(rows_of_part)).collect();
        let mut ids = file.ids()?;
        let mut position = 0_u32;
        while let Some(batch) = runtime.block_on(ids.try_next())? {
            for id in &batch {
                // A file with more rows than its manifest says, or without an id, is none of ours.
                let Some(id) = id.filter(|_| u64::from(position) < rows) else {
                    return Ok(None);
                };
                let hash = hash(id.as_bytes());
                if let Some(at) = builder.part(hash).checked_sub(first)
                    && let Some(part) = some.get_mut(at)
                {
                    part.push(hash, position);
                }
                position += 1;
            }
        }
        for part in some {
            if !builder.place(&part) {
                return Ok(None);
            }
        }
        first = end;
    }
    Ok(builder.finish())
}

/// What a task came to; one that ended early is an error, and its panic is the caller's.
fn stopped<T>(ended: std::result::Result<T, tokio::task::JoinError>) -> Result<T> {
    match ended {
        Ok(value) => Ok(value),
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(stopped) => Err(DataFusionError::ExecutionJoin(Box::new(stopped)).into()),
        },
    }
}
