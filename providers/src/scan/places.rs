//! Where a base has the rows that a fold touches.
//!
//! ```text
//!   starts[high bits of a hash] ──► entries: (hash, slot), ascending by hash        17 bytes a row
//!
//!   slot   62        61     60        59 … 32   31 … 0
//!          unplaced  late   several   file      position         the base has the row there
//!          1                          first seq                  it does not have it
//! ```
//! A slot without its marks is the row's *key*: rows by key are those with a place, file after file in the order of its
//! rows, and then the others as they first arrived.
//!
//! **Invariant:** a row that the base has is at its place or has none: hashes alone may give a row the place of another,
//! so whoever uses a place reads the id that is there ([`PlaceCheck`](super::PlaceCheck)). A dead position is no place.

use std::collections::HashMap;

use arrow::array::{BooleanArray, Int64Array, StringArray};
use datafusion::execution::memory_pool::MemoryReservation;

use super::key_index::wide;
use super::key_indexes::KeyIndexes;
use super::seed::Seed;

/// The mark of a row that the base does not have.
pub(super) const UNPLACED: u64 = 1 << 62;
/// The mark of a row with a late delta.
pub(super) const LATE: u64 = 1 << 61;
/// The mark of a hash that several rows of the base have.
pub(super) const SEVERAL: u64 = 1 << 60;
/// The bits of a position.
const POSITION_BITS: u32 = 32;
/// Entries of a bucket on average, at most.
const BUCKET_ENTRIES: usize = 8;

/// Where a base has some rows.
#[derive(Debug)]
pub struct Places {
    indexes: KeyIndexes,
    seed: Seed,
    slots: Slots,
    /// For hashes that several rows of the base have: their ids and places.
    several: HashMap<u64, Vec<(Box<str>, u64)>>,
    by_file: Vec<u64>,
    elsewhere: u64,
    _memory: Option<MemoryReservation>,
}

/// Slots by hash.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) entries: Vec<(u64, u64)>,
    starts: Vec<u32>,
    bits: u32,
}

impl Places {
    /// What a search has found; the memory is held as long as the places are.
    pub(super) fn found(
        (indexes, seed): (KeyIndexes, Seed),
        slots: Slots,
        several: HashMap<u64, Vec<(Box<str>, u64)>>,
        (files, memory): (usize, MemoryReservation),
    ) -> Self {
        let mut by_file = vec![0; files];
        let mut elsewhere = 0;
        for (_, slot) in &slots.entries {
            match slot & UNPLACED {
                0 => by_file[file(*slot)] += 1,
                _ => elsewhere += 1,
            }
        }
        Self {
            indexes,
            seed,
            slots,
            several,
            by_file,
            elsewhere,
            _memory: Some(memory),
        }
    }

    /// Those of no rows at all.
    #[must_use]
    pub fn none() -> Self {
        let indexes = KeyIndexes::of_process().clone();
        Self {
            seed: indexes.seed(),
            indexes,
            slots: Slots::new(Vec::new()),
            several: HashMap::new(),
            by_file: Vec::new(),
            elsewhere: 0,
            _memory: None,
        }
    }

    /// How many of the rows each file of the base has, by its place in the list of files.
    #[must_use]
    pub fn by_file(&self) -> &[u64] {
        &self.by_file
    }

    /// How many of the rows no file has.
    #[must_use]
    pub fn elsewhere(&self) -> u64 {
        self.elsewhere
    }

    /// The keys of these rows; null for those that were not asked for.
    #[must_use]
    pub fn keys(&self, ids: &StringArray) -> Int64Array {
        let key = |id: &str| {
            let slot = self.slot(id)?;
            i64::try_from(slot & !(LATE | SEVERAL)).ok()
        };
        ids.iter().map(|id| id.and_then(key)).collect()
    }

    /// Whether these rows have a late delta.
    #[must_use]
    pub fn late(&self, ids: &StringArray) -> BooleanArray {
        let late = |id: &str| self.slot(id).is_some_and(|slot| slot & LATE != 0);
        ids.iter().map(|id| Some(id.is_some_and(late))).collect()
    }

    /// The file and the position that a key says, when it says a place.
    #[must_use]
    pub fn of_key(key: i64) -> Option<(i32, i64)> {
        let key = u64::try_from(key).ok()?;
        if key & UNPLACED != 0 {
            return None;
        }
        let position = i64::from(position(key));
        Some((i32::try_from(key >> POSITION_BITS).ok()?, position))
    }

    fn slot(&self, id: &str) -> Option<u64> {
        let hash = self.indexes.hash(self.seed, id);
        let (_, slot) = self.slots.entries[self.slots.find(hash)?];
        if slot & SEVERAL == 0 {
            return Some(slot);
        }
        let rows = self.several.get(&hash)?.iter();
        let mut rows = rows.filter(|(known, _)| &**known == id);
        let late = slot & LATE;
        Some(match rows.next() {
            Some((_, place)) => place | late,
            // When it arrived is not known any more: it is new, and so it is behind all others.
            None => UNPLACED | (SEVERAL - 1) | late,
        })
    }
}

impl Slots {
    /// Of entries that are ascending by hash, each hash once.
    pub(super) fn new(entries: Vec<(u64, u64)>) -> Self {
        let buckets = (entries.len() / BUCKET_ENTRIES).max(2).next_power_of_two();
        let bits = buckets.trailing_zeros();
        let mut starts = vec![0_u32; buckets + 1];
        for (hash, _) in &entries {
            starts[bucket(*hash, bits) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Self {
            entries,
            starts,
            bits,
        }
    }

    /// The place of a hash among the entries.
    pub(super) fn find(&self, hash: u64) -> Option<usize> {
        let at = bucket(hash, self.bits);
        let (start, end) = (wide(self.starts[at]), wide(self.starts[at + 1]));
        let mut entries = self.entries[start..end].iter();
        Some(start + entries.position(|(known, _)| *known == hash)?)
    }
}

fn bucket(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (u64::BITS - bits)).expect("there are as many as a vector holds")
}

/// The slot of a row at this position of this file.
pub(super) fn place(file: u32, position: u32) -> u64 {
    u64::from(file) << POSITION_BITS | u64::from(position)
}

/// The file of a place.
pub(super) fn file(slot: u64) -> usize {
    let file = (slot & (SEVERAL - 1)) >> POSITION_BITS;
    usize::try_from(file).expect("it was the place in a list")
}

/// The position of a place.
pub(super) fn position(slot: u64) -> u32 {
    u32::try_from(slot & u64::from(u32::MAX)).expect("32 bits are left")
}
