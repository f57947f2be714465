//! The key index of one data file: the hash of a row id → where in the file such rows are.
//!
//! ```text
//!   hash, 64 bits    bbbbbbbb …………………………… tttttttt tttttttt tttttttt tttttttt
//!                    └ bucket b: entries starts[b] .. starts[b + 1]
//!   tags[entry]       the last 32 bits of a hash
//!   positions[entry]  the row's place in the file, counted from 0 over all row groups
//! ```
//! It takes at most 9 bytes a row, 9 MB for a million rows, whatever the row ids are; it is held as the bytes that are
//! kept beside the data file (`<data file>.keys`), all numbers of them little endian:
//!
//! ```text
//!    0  "LSKEYS01"                      32  its key, the other half     48          rows of each row group, n × u32
//!    8  bytes of the data file   u64    40  row groups n         u32    48 + 4n     starts, 2^b + 1 × u32
//!   16  its rows                 u64    44  bits of a bucket b   u32    …           tags, rows × u32
//!   24  the hash's key, one half u64                                    …           positions, rows × u32
//!                                                                       at the end  hash of all before, u64
//! ```
//! **Invariant:** every row whose id has the hash is found. Rows of other ids may be found too (of ten million rows and
//! a million questions about one in a thousand runs), so whoever asks reads the ids of what is found.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::seed::Seed;

/// What the bytes begin with; a form that is not this one has another number at its end.
const MAGIC: &[u8; 8] = b"LSKEYS01";
/// Bytes before the row groups.
const HEADER_BYTES: usize = 48;
/// Bytes of the hash at the end.
const CHECK_BYTES: usize = 8;
/// Rows of a bucket on average, at most; half of it at least.
const BUCKET_ROWS: u64 = 8;
/// Parts that the rows are divided into while an index is made (a power of two), so that what is not yet in its place
/// is freed part by part.
const PARTS_BITS_MAX: u32 = 6;

/// The data file that an index is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfFile {
    /// Its size.
    pub(super) bytes: u64,
    /// Its rows.
    pub(super) rows: u64,
}

/// Where the rows of one file are.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    bytes: Bytes,
    row_groups: Arc<[u32]>,
    shape: Shape,
}

/// Where the parts of an index's bytes are.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seed: Seed,
    bucket_bits: u32,
    starts: usize,
    tags: usize,
    positions: usize,
    check: usize,
}

impl KeyIndex {
    /// The index in `bytes`, which must be one of `file`, whole and undamaged.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(bytes: Bytes, file: OfFile) -> Result<Self, &'static str> {
        if bytes.len() < HEADER_BYTES + CHECK_BYTES {
            return Err("it is too short");
        }
        if &bytes[..8] != MAGIC {
            return Err("it is no key index that this program knows");
        }
        if (u64_at(&bytes, 8), u64_at(&bytes, 16)) != (file.bytes, file.rows) {
            return Err("it is of another data file");
        }
        let seed = Seed([u64_at(&bytes, 24), u64_at(&bytes, 32)]);
        let rows = u32::try_from(file.rows).map_err(|_| "it has too many rows")?;
        let groups = wide(u32_at(&bytes, 40));
        let shape = Shape::new(seed, rows, groups).ok_or("it has too many row groups")?;
        if shape.bucket_bits != u32_at(&bytes, 44) || shape.bytes() != bytes.len() {
            return Err("it has another length than its numbers say");
        }
        if seed.hash(&bytes[..shape.check]) != u64_at(&bytes, shape.check) {
            return Err("its checksum is another");
        }
        let row_groups = (0..groups).map(|group| u32_at(&bytes, HEADER_BYTES + 4 * group));
        let row_groups: Arc<[u32]> = row_groups.collect();
        if !add_up(&row_groups, rows) {
            return Err("its row groups have another number of rows");
        }
        let index = Self {
            bytes,
            row_groups,
            shape,
        };
        match index.is_sound(rows) {
            true => Ok(index),
            false => Err("its entries are out of bounds"),
        }
    }

    /// Whether every entry is of a bucket and names a row.
    fn is_sound(&self, rows: u32) -> bool {
        let shape = self.shape;
        let starts = (0..=1 << shape.bucket_bits).map(|at| self.entry(shape.starts, at));
        let ends = (starts.clone().next(), starts.clone().next_back());
        let mut positions = (0..wide(rows)).map(|at| self.entry(shape.positions, at));
        ends == (Some(0), Some(rows)) && starts.is_sorted() && positions.all(|at| at < rows)
    }

    /// Its bytes, to be kept.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What its hashes are taken by.
    pub(super) fn seed(&self) -> Seed {
        self.shape.seed
    }

    /// The positions of the rows whose id may have this hash, ascending.
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let bucket = self.shape.bucket(hash);
        let [first, end] = [bucket, bucket + 1].map(|at| wide(self.entry(self.shape.starts, at)));
        let entries = (first..end).filter(move |at| self.entry(self.shape.tags, *at) == tag(hash));
        entries.map(|at| self.entry(self.shape.positions, at))
    }

    fn entry(&self, part: usize, at: usize) -> u32 {
        u32_at(&self.bytes, part + 4 * at)
    }

    /// The rows of each row group of the file.
    pub(super) fn row_groups(&self) -> &Arc<[u32]> {
        &self.row_groups
    }

    /// The most bytes that the index of a file with so many rows, in row groups of the usual size, takes.
    pub(super) fn bytes_for(rows: u64) -> u64 {
        let other = HEADER_BYTES + CHECK_BYTES + 4;
        let other = u64::try_from(other).expect("it is small");
        let buckets = 1_u64 << bucket_bits(rows);
        let each = rows.saturating_mul(8);
        each.saturating_add(4 * buckets + 4 * (rows / 65_536) + other)
    }
}

impl Shape {
    /// None when the bytes could not be counted.
    fn new(seed: Seed, rows: u32, row_groups: usize) -> Option<Self> {
        let bucket_bits = bucket_bits(u64::from(rows));
        let starts = row_groups.checked_mul(4)?.checked_add(HEADER_BYTES)?;
        let tags = starts.checked_add(((1_usize << bucket_bits) + 1) * 4)?;
        let column = wide(rows).checked_mul(4)?;
        let positions = tags.checked_add(column)?;
        Some(Self {
            seed,
            bucket_bits,
            starts,
            tags,
            positions,
            check: positions.checked_add(column)?,
        })
    }

    fn bytes(&self) -> usize {
        self.check + CHECK_BYTES
    }

    fn bucket(&self, hash: u64) -> usize {
        high(hash, self.bucket_bits)
    }
}

/// An index that is being made, part by part.
#[derive(Debug)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    row_groups: Arc<[u32]>,
    shape: Shape,
    parts_bits: u32,
    /// Buckets and rows that are in their places.
    placed: (usize, u32),
}

/// The hashes of the rows of some buckets, with the position of each.
#[derive(Debug)]
pub(super) struct Part {
    hashes: Vec<u64>,
    positions: Vec<u32>,
}

impl Builder {
    /// Of a file with these row groups (rows of each). None when they have another number of rows than the file, or
    /// more than a position can count.
    pub(super) fn new(seed: Seed, file: OfFile, row_groups: Arc<[u32]>) -> Option<Self> {
        let rows = u32::try_from(file.rows).ok()?;
        if !add_up(&row_groups, rows) {
            return None;
        }
        let shape = Shape::new(seed, rows, row_groups.len())?;
        let mut bytes = vec![0; shape.bytes()];
        bytes[..8].copy_from_slice(MAGIC);
        let Seed([one, other]) = seed;
        for (at, number) in [(8, file.bytes), (16, file.rows), (24, one), (32, other)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let groups = u32::try_from(row_groups.len()).ok()?;
        for (at, number) in (40..).step_by(4).zip([groups, shape.bucket_bits]) {
            put(&mut bytes, at, number);
        }
        for (at, rows) in (HEADER_BYTES..).step_by(4).zip(row_groups.iter()) {
            put(&mut bytes, at, *rows);
        }
        Some(Self {
            bytes,
            row_groups,
            parts_bits: shape.bucket_bits.min(PARTS_BITS_MAX),
            shape,
            placed: (0, 0),
        })
    }

    /// How many parts there are.
    pub(super) fn parts(&self) -> usize {
        1 << self.parts_bits
    }

    /// Which part a hash belongs to.
    pub(super) fn part(&self, hash: u64) -> usize {
        high(hash, self.parts_bits)
    }

    /// Puts the rows of the next part into their places. Parts come in their order; the rows of one in the order of the file.
    /// It is false when there are more rows than the file has.
    #[must_use]
    pub(super) fn place(&mut self, part: &Part) -> bool {
        let (first_bucket, before) = self.placed;
        let buckets = 1 << (self.shape.bucket_bits - self.parts_bits);
        let rows = u32::try_from(part.hashes.len()).ok();
        let Some(end) = rows.and_then(|rows| before.checked_add(rows)) else {
            return false;
        };
        if wide(end) * 4 > self.shape.check - self.shape.positions {
            return false;
        }
        let mut next = vec![0_u32; buckets];
        for hash in &part.hashes {
            next[self.shape.bucket(*hash) - first_bucket] += 1;
        }
        let mut start = before;
        for (at, rows) in next.iter_mut().enumerate() {
            let after = start + *rows;
            *rows = start;
            start = after;
            let end_of_bucket = first_bucket + at + 1;
            put(
                &mut self.bytes,
                self.shape.starts + 4 * end_of_bucket,
                after,
            );
        }
        for (hash, position) in part.hashes.iter().zip(&part.positions) {
            let free = &mut next[self.shape.bucket(*hash) - first_bucket];
            let entry = wide(*free) * 4;
            *free += 1;
            put(&mut self.bytes, self.shape.tags + entry, tag(*hash));
            put(&mut self.bytes, self.shape.positions + entry, *position);
        }
        self.placed = (first_bucket + buckets, end);
        true
    }

    /// The index, when every row of the file is in it.
    pub(super) fn finish(mut self) -> Option<KeyIndex> {
        let check = self.shape.check;
        let (buckets, rows) = self.placed;
        if buckets != 1 << self.shape.bucket_bits || !add_up(&self.row_groups, rows) {
            return None;
        }
        let sum = self.shape.seed.hash(&self.bytes[..check]);
        self.bytes[check..].copy_from_slice(&sum.to_le_bytes());
        Some(KeyIndex {
            bytes: self.bytes.into(),
            row_groups: self.row_groups,
            shape: self.shape,
        })
    }
}

impl Part {
    /// Bytes that a row of a part takes.
    pub(super) const ROW_BYTES: u64 = 12;

    /// An empty one with room for the rows that it probably gets.
    pub(super) fn for_rows(rows: u64) -> Self {
        // A sixteenth more than is even: hashes fill parts evenly, and a part that grows would hold its rows twice.
        let room = usize::try_from(rows + rows / 16 + 64).unwrap_or(0);
        Self {
            hashes: Vec::with_capacity(room),
            positions: Vec::with_capacity(room),
        }
    }

    /// The next row of the file.
    pub(super) fn push(&mut self, hash: u64, position: u32) {
        self.hashes.push(hash);
        self.positions.push(position);
    }
}

/// Buckets as a power of two. Two at least: a hash of 64 bits cannot be shifted away whole.
fn bucket_bits(rows: u64) -> u32 {
    let buckets = (rows.min(u64::from(u32::MAX)) / BUCKET_ROWS).max(2);
    buckets.next_power_of_two().trailing_zeros()
}

fn add_up(row_groups: &[u32], rows: u32) -> bool {
    row_groups.iter().copied().map(u64::from).sum::<u64>() == u64::from(rows)
}

/// The first bits of a hash.
fn high(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (u64::BITS - bits))
        .expect("there are as many buckets as a vector holds")
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).expect("32 bits are left")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at..at + 4))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at..at + 8))
}

fn array<const N: usize>(bytes: &[u8], at: Range<usize>) -> [u8; N] {
    let bytes = &bytes[at];
    bytes
        .try_into()
        .expect("the range is as long as the number")
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// A position as an index of a vector.
pub(super) fn wide(position: u32) -> usize {
    usize::try_from(position).expect("no smaller machine than 32 bits is built for")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed([1, 2]);

    /// A permutation of 64 bits (the finisher of SplitMix64): distinct numbers, spread like hashes.
    fn spread(n: u64) -> u64 {
        let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of(rows: usize) -> OfFile {
        let rows = u64::try_from(rows).unwrap();
        OfFile { bytes: 4711, rows }
    }

    fn build(row_groups: &[u32], hashes: &[u64]) -> Option<KeyIndex> {
        let mut builder = Builder::new(SEED, of(hashes.len()), row_groups.into())?;
        for part in 0..builder.parts() {
            let mut rows = Part::for_rows(0);
            for (position, hash) in (0..).zip(hashes) {
                if builder.part(*hash) == part {
                    rows.push(*hash, position);
                }
            }
            assert!(builder.place(&rows));
        }
        builder.finish()
    }

    fn index(hashes: &[u64]) -> KeyIndex {
        build(&[u32::try_from(hashes.len()).unwrap()], hashes).unwrap()
    }

    #[test]
    fn every_row_is_found_at_its_place_whatever_the_number_of_rows() {
        for rows in [0_u64, 1, 7, 8, 9, 15, 16, 17, 1000, 40_000] {
            let hashes: Vec<u64> = (0..rows).map(spread).collect();
            let made = index(&hashes);
            let read = KeyIndex::read(made.bytes().clone(), of(hashes.len())).unwrap();
            for index in [made, read] {
                for (position, hash) in (0_u32..).zip(&hashes) {
                    assert_eq!(index.find(*hash).collect::<Vec<_>>(), [position], "{rows}");
                }
                assert_eq!(index.find(spread(rows)).count(), 0, "{rows}");
            }
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
            assert!(build(&row_groups, &[1, 2, 3]).is_none());
        }
        let index = build(&[2, 1], &[1, 2, 3]).unwrap();
        assert_eq!(**index.row_groups(), [2, 1]);
        // More rows than there are, and fewer.
        let mut builder = Builder::new(SEED, of(2), Arc::from([2])).unwrap();
        let mut part = Part::for_rows(0);
        part.push(1, 0);
        assert!(builder.place(&part));
        assert!(builder.finish().is_none());
        let mut builder = Builder::new(SEED, of(2), Arc::from([2])).unwrap();
        part.push(2, 1);
        part.push(3, 2);
        assert!(!builder.place(&part));
    }

    #[test]
    fn a_million_rows_take_nine_megabytes_at_most() {
        for rows in [1_000_000_u32, 1 << 20, (1 << 20) - 1, 1_048_600, 2_000_000] {
            let groups = usize::try_from(rows / 131_072).unwrap();
            let shape = Shape::new(SEED, rows, groups + 1).unwrap();
            let bytes = u64::try_from(shape.bytes()).unwrap();
            let rows = u64::from(rows);
            assert!(bytes <= KeyIndex::bytes_for(rows), "{rows}");
            assert!(bytes <= rows * 9 + 256, "{rows} rows take {bytes} bytes");
        }
    }

    #[test]
    fn bytes_that_are_damaged_anywhere_are_no_index() {
        let hashes: Vec<u64> = (0..20).map(spread).collect();
        let good = build(&[15, 5], &hashes).unwrap().bytes().to_vec();
        let read = |bytes: Vec<u8>, file| KeyIndex::read(bytes.into(), file).map(|_| ());
        assert_eq!(read(good.clone(), of(20)), Ok(()));
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 4;
            assert!(read(damaged, of(20)).is_err(), "byte {at}");
        }
        for length in 0..good.len() {
            assert!(read(good[..length].to_vec(), of(20)).is_err(), "{length}");
        }
        let longer = good.iter().copied().chain([0]).collect();
        assert!(read(longer, of(20)).is_err());
        let other = Err("it is of another data file");
        assert_eq!(read(good.clone(), of(21)), other);
        assert_eq!(read(good, OfFile { bytes: 1, rows: 20 }), other);
    }
}
