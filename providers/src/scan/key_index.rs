//! The key index of one data file: the hash of a row id → where in the file such rows are.
//!
//! ```text
//!   hash, 64 bits    bbbbbbbb …………………………… tttttttt tttttttt tttttttt tttttttt
//!                    └ bucket b: entries starts[b] .. starts[b + 1]
//!   tags[entry]       the last 32 bits of a hash
//!   positions[entry]  the row's place in the file, counted from 0 over all row groups
//! ```
//! It takes at most 9 bytes a row, 9 MB for a million rows, whatever the row ids are.
//!
//! **Invariant:** every row whose id has the hash is found. Rows of other ids may be found too (of ten million rows and
//! a million questions about one in a thousand runs), so whoever asks reads the ids of what is found.

use std::sync::Arc;

/// Rows of a bucket on average, at most; half of it at least.
const BUCKET_ROWS: usize = 8;

/// Where the rows of one file are.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    row_groups: Arc<[u32]>,
    bucket_bits: u32,
    starts: Box<[u32]>,
    tags: Box<[u32]>,
    positions: Box<[u32]>,
}

impl KeyIndex {
    /// The index of a file with these row groups (rows of each), whose row ids have these hashes, in the order of the
    /// file. None when the numbers do not agree, or there are more rows than a position can count.
    pub(crate) fn new(row_groups: Arc<[u32]>, hashes: &[u64]) -> Option<Self> {
        let rows = u32::try_from(hashes.len()).ok()?;
        let counted: u64 = row_groups.iter().copied().map(u64::from).sum();
        if counted != u64::from(rows) {
            return None;
        }
        let buckets = buckets(hashes.len());
        let bucket_bits = buckets.trailing_zeros();
        let mut starts = vec![0_u32; buckets + 1];
        for hash in hashes {
            starts[bucket(*hash, bucket_bits) + 1] += 1;
        }
        for at in 1..=buckets {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut tags = vec![0_u32; hashes.len()];
        let mut positions = vec![0_u32; hashes.len()];
        for (position, hash) in (0..rows).zip(hashes) {
            let free = &mut next[bucket(*hash, bucket_bits)];
            let entry = wide(*free);
            *free += 1;
            tags[entry] = tag(*hash);
            positions[entry] = position;
        }
        Some(Self {
            row_groups,
            bucket_bits,
            starts: starts.into(),
            tags: tags.into(),
            positions: positions.into(),
        })
    }

    /// The positions of the rows whose id may have this hash, ascending.
    pub(crate) fn find(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let bucket = bucket(hash, self.bucket_bits);
        let entries = wide(self.starts[bucket])..wide(self.starts[bucket + 1]);
        let tags = self.tags[entries.clone()].iter();
        let found = tags.zip(&self.positions[entries]);
        found
            .filter(move |(known, _)| **known == tag(hash))
            .map(|(_, position)| *position)
    }

    /// The rows of each row group of the file.
    pub(crate) fn row_groups(&self) -> &Arc<[u32]> {
        &self.row_groups
    }

    /// The most bytes that the index of a file with so many rows takes.
    pub(crate) fn bytes_for(rows: u64) -> u64 {
        let buckets = usize::try_from(rows).map_or(usize::MAX >> 8, buckets);
        let buckets = u64::try_from(buckets).unwrap_or(u64::MAX);
        rows.saturating_mul(8)
            .saturating_add(buckets.saturating_add(1).saturating_mul(4))
    }

    #[cfg(test)]
    fn bytes(&self) -> u64 {
        let entries = self.starts.len() + self.tags.len() + self.positions.len();
        u64::try_from(entries * 4).unwrap()
    }
}

/// A power of two, two at least: a hash of 64 bits cannot be shifted away whole.
fn buckets(rows: usize) -> usize {
    (rows / BUCKET_ROWS).max(2).next_power_of_two()
}

fn bucket(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (u64::BITS - bits))
        .expect("there are as many buckets as a vector holds")
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).expect("32 bits are left")
}

/// A position as an index of a vector.
pub(super) fn wide(position: u32) -> usize {
    usize::try_from(position).expect("no smaller machine than 32 bits is built for")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A permutation of 64 bits (the finisher of SplitMix64): distinct numbers, spread like hashes.
    fn spread(n: u64) -> u64 {
        let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn index(hashes: &[u64]) -> KeyIndex {
        let rows = u32::try_from(hashes.len()).unwrap();
        KeyIndex::new(Arc::from([rows]), hashes).unwrap()
    }

    #[test]
    fn every_row_is_found_at_its_place_whatever_the_number_of_rows() {
        for rows in [0_u64, 1, 7, 8, 9, 15, 16, 17, 1000, 40_000] {
            let hashes: Vec<u64> = (0..rows).map(spread).collect();
            let index = index(&hashes);
            for (position, hash) in (0_u32..).zip(&hashes) {
                assert_eq!(index.find(*hash).collect::<Vec<_>>(), [position], "{rows}");
            }
            assert_eq!(index.find(spread(rows)).count(), 0, "{rows}");
        }
    }

    #[test]
    fn all_rows_of_one_hash_are_found_in_the_order_of_the_file() {
        let index = index(&[9, u64::MAX, 9, 0, 9, u64::MAX]);
        assert_eq!(index.find(9).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(index.find(u64::MAX).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(index.find(0).collect::<Vec<_>>(), [3]);
        assert_eq!(index.find(8).count(), 0);
    }

    #[test]
    fn an_index_of_another_length_than_its_file_is_none() {
        for row_groups in [vec![], vec![1], vec![2, 2], vec![3, 1]] {
            assert!(KeyIndex::new(row_groups.into(), &[1, 2, 3]).is_none());
        }
        assert!(KeyIndex::new(Arc::from([2, 1]), &[1, 2, 3]).is_some());
    }

    #[test]
    fn a_million_rows_take_nine_megabytes_at_most() {
        for rows in [1_000_000_u64, 1 << 20, (1 << 20) - 1, 1_048_600, 2_000_000] {
            let hashes: Vec<u64> = (0..rows).map(spread).collect();
            let bytes = index(&hashes).bytes();
            assert_eq!(bytes, KeyIndex::bytes_for(rows));
            assert!(bytes <= rows * 9 + 64, "{rows} rows take {bytes} bytes");
        }
    }
}
