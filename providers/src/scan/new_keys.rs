//! The key index of a data file that is being written, made of the row ids as they pass: nobody has to read them again.
//!
//! **Invariant:** an index that is made is of all rows of the file. Without room for their hashes there is none, and
//! whoever needs it makes it from the file.

use arrow::array::{Array as _, StringArray};
use bytes::Bytes;

use super::key_index::{Builder, OfFile, Part};
use super::key_index_file::KEPT_ROWS_MIN;
use super::key_indexes::KeyIndexes;
use super::seed::Seed;

/// Hashes of one file that are held at once (128 MiB): those of sixteen million rows.
const HASHES_MAX: usize = 16 << 20;

/// Parts of an index that are made at once: the hashes are gone through once for each of these groups, whose rows take 12
/// bytes each meanwhile.
const PARTS_AT_ONCE: usize = 8;

/// The hashes of a file's row ids, in the order of its rows.
#[derive(Debug)]
pub(crate) struct NewKeys {
    seed: Seed,
    hashes: Vec<u64>,
    /// All rows of the file, also those whose hashes had no room.
    rows: usize,
}

impl NewKeys {
    /// Of a file without rows.
    pub(crate) fn new() -> Self {
        Self {
            seed: KeyIndexes::of_process().seed(),
            hashes: Vec::new(),
            rows: 0,
        }
    }

    /// The row ids of the next rows, of which none is null.
    pub(crate) fn push(&mut self, ids: &StringArray) {
        self.rows += ids.len();
        if self.rows > HASHES_MAX {
            self.hashes = Vec::new();
            return;
        }
        let ids = ids.iter().flatten();
        let indexes = KeyIndexes::of_process();
        self.hashes
            .extend(ids.map(|id| indexes.hash(self.seed, id)));
    }

    /// The index, to be kept beside a file of so many bytes with these row groups. None when the file is too small or
    /// too large for one. It takes a second for ten million rows, so it is no work for a thread of the runtime.
    pub(crate) fn finish(self, bytes: u64, row_groups: &[i64]) -> Option<Bytes> {
        let rows = u64::try_from(self.hashes.len()).ok()?;
        if rows < KEPT_ROWS_MIN || self.hashes.len() != self.rows {
            return None;
        }
        let groups = row_groups.iter().map(|rows| u32::try_from(*rows).ok());
        let groups: Option<Vec<u32>> = groups.collect();
        let mut builder = Builder::new(self.seed, OfFile { bytes, rows }, groups?.into())?;
        let parts = builder.parts();
        let rows_of_part = rows / u64::try_from(parts).ok()?;
        for first in (0..parts).step_by(PARTS_AT_ONCE) {
            let end = parts.min(first + PARTS_AT_ONCE);
            let mut some: Vec<Part> = (first..end).map(|_| Part::for_rows(rows_of_part)).collect();
            for (hash, position) in self.hashes.iter().zip(0_u32..) {
                let part = builder.part(*hash).checked_sub(first);
                if let Some(part) = part.and_then(|part| some.get_mut(part)) {
                    part.push(*hash, position);
                }
            }
            if !some.iter().all(|part| builder.place(part)) {
                return None;
            }
        }
        Some(builder.finish()?.bytes().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_index::KeyIndex;
    use super::*;

    fn of(rows: u32) -> NewKeys {
        let mut keys = NewKeys::new();
        let ids: Vec<String> = (0..rows).map(|row| format!("row {row}")).collect();
        for ids in ids.chunks(777) {
            keys.push(&StringArray::from_iter_values(ids));
        }
        keys
    }

    #[test]
    fn every_row_is_found_where_it_was_written() {
        let keys = of(30_000);
        let seed = keys.seed;
        let bytes = keys.finish(12_345, &[20_000, 10_000]).unwrap();
        let file = OfFile {
            bytes: 12_345,
            rows: 30_000,
        };
        let index = KeyIndex::read(bytes, file).unwrap();
        for row in [0, 1, 19_999, 20_000, 29_999] {
            let hash = KeyIndexes::of_process().hash(seed, &format!("row {row}"));
            assert_eq!(index.find(hash).collect::<Vec<_>>(), [row]);
        }
    }

    #[test]
    fn files_that_are_small_or_not_what_was_said_get_none() {
        assert_eq!(of(9_999).finish(1, &[9_999]), None);
        assert_eq!(of(10_000).finish(1, &[9_999]), None);
        assert!(of(10_000).finish(1, &[10_000]).is_some());
    }
}
