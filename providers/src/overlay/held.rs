//! The chunks that an overlay holds: which of their rows are still the newest, and which chunks are to become one.
//!
//! ```text
//!   a refresh      ┌┐        its rows, in a chunk of their own
//!   four small     ┌┐┌┐┌┐┌┐ ──► ┌───┐                       of like size become one of the next size
//!   half dead      ┌█ ██ █┐ ──► ┌─┐                         its rows are elsewhere by now
//!   full           ┌──────────────────┐                     stays
//! ```
//! **Invariant:** the number of chunks grows with the logarithm of the rows in small chunks, plus one for every
//! [`FULL_ROWS`] rows; a row is moved a number of times that grows with the logarithm of [`CHUNK_ROWS`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, filter, interleave};
use arrow::record_batch::RecordBatch;

use super::budget::Budget;
use super::fold::{Home, Made};
use crate::columnar::{BATCH_BYTES, BATCH_ROWS};
use crate::error::Result;
use crate::scan::{Chunk, Completion, LiveChunk};

/// The most rows of a chunk: what DataFusion puts in a batch.
pub(super) const CHUNK_ROWS: usize = BATCH_ROWS;
/// A chunk with so many live rows is not joined to others any more.
const FULL_ROWS: usize = CHUNK_ROWS / 2;
/// So many small chunks of like size become one.
const LIKE_CHUNKS: usize = 4;
/// A chunk is rewritten for its dead rows when these are more than the live ones, and more than so many.
const DEAD_ROWS: usize = 256;

/// Which rows of a chunk are live.
#[derive(Clone, Debug)]
struct Bits {
    words: Vec<u64>,
    len: usize,
    live: usize,
}

impl Bits {
    fn all(len: usize) -> Self {
        Self {
            words: vec![u64::MAX; len.div_ceil(64)],
            len,
            live: len,
        }
    }

    fn clear(&mut self, at: usize) {
        let (word, bit) = (&mut self.words[at / 64], 1_u64 << (at % 64));
        assert!(*word & bit != 0, "a row dies once");
        *word &= !bit;
        self.live -= 1;
    }

    fn is_live(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    fn buffer(&self) -> Option<BooleanBuffer> {
        let some = || BooleanBuffer::new(self.words.clone().into(), 0, self.len);
        (self.live < self.len).then(some)
    }
}

/// A chunk with what the overlay knows of its rows.
#[derive(Debug)]
pub(super) struct Held {
    chunk: Arc<Chunk>,
    /// Slot and home of each row, then of each that does not exist.
    rows: Vec<(u32, Home)>,
    there: Bits,
    gone: Bits,
    bytes: usize,
    /// The chunk with its live rows, as views have it.
    shown: Option<LiveChunk>,
}

/// Where in a chunk a row of the overlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// It exists: the chunk's row.
    Row(u32),
    /// It does not: it is this one of those that the chunk says so of.
    Gone(u32),
}

impl Held {
    /// Newly folded rows, all of them live.
    pub(super) fn new(made: Made, completion: Completion) -> Self {
        let places = made.there.iter().map(|(_, home)| home.place()).collect();
        let bytes = made.rows.get_array_memory_size() + made.gone_ids.get_array_memory_size();
        Self {
            there: Bits::all(made.there.len()),
            gone: Bits::all(made.gone.len()),
            rows: [made.there, made.gone].concat(),
            bytes,
            shown: None,
            chunk: Arc::new(Chunk {
                rows: made.rows,
                places,
                decided: made.decided,
                gone: made.gone_ids,
                completion,
            }),
        }
    }

    /// Its chunk.
    pub(super) fn chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    /// Whether its rows are complete.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.chunk.completion, Completion::Whole(_))
    }

    /// Bytes of one of its rows, on average.
    pub(super) fn row_bytes(&self) -> usize {
        self.bytes / self.rows.len().max(1)
    }

    /// Live rows, those that exist and those that do not.
    fn live(&self) -> usize {
        self.there.live + self.gone.live
    }

    /// The row is in a newer chunk from now on.
    pub(super) fn kill(&mut self, at: At) {
        self.shown = None;
        match at {
            At::Row(row) => self.there.clear(wide(row)),
            At::Gone(row) => self.gone.clear(wide(row)),
        }
    }

    /// Its live rows: slot, home, and where they are.
    pub(super) fn live_at(&self) -> impl Iterator<Item = (u32, Home, At)> + '_ {
        let (there, gone) = self.rows.split_at(self.there.len);
        let there = (0_u32..).zip(there);
        let there = there.filter(|(at, _)| self.there.is_live(wide(*at)));
        let gone = (0_u32..).zip(gone);
        let gone = gone.filter(|(at, _)| self.gone.is_live(wide(*at)));
        let there = there.map(|(at, (slot, home))| (*slot, *home, At::Row(at)));
        there.chain(gone.map(|(at, (slot, home))| (*slot, *home, At::Gone(at))))
    }

    /// The chunk as a view has it.
    pub(super) fn shown(&mut self) -> LiveChunk {
        let shown = self.shown.get_or_insert_with(|| LiveChunk {
            chunk: Arc::clone(&self.chunk),
            live: self.there.buffer(),
        });
        shown.clone()
    }

    /// What merging looks at.
    fn size(&self) -> Size {
        Size {
            live: self.live(),
            dead: self.rows.len() - self.live(),
            bytes: self.bytes,
            whole: self.is_whole(),
        }
    }
}

/// What decides whether a chunk is merged.
#[derive(Clone, Copy, Debug)]
struct Size {
    live: usize,
    dead: usize,
    bytes: usize,
    whole: bool,
}

impl Size {
    fn is_small(&self) -> bool {
        self.live < FULL_ROWS && self.bytes < BATCH_BYTES / 2
    }

    /// Chunks of one tier have live rows of like number.
    fn tier(&self) -> u32 {
        (self.live.max(1)).ilog(LIKE_CHUNKS)
    }
}

/// The chunks that should become one now, by their numbers; none when all is well.
pub(super) fn due(chunks: &[Option<Held>]) -> Option<Vec<usize>> {
    let sizes = chunks.iter().enumerate();
    let sizes: Vec<(usize, Size)> = sizes
        .filter_map(|(at, held)| held.as_ref().map(|held| (at, held.size())))
        .collect();
    choose(&sizes)
}

fn choose(sizes: &[(usize, Size)]) -> Option<Vec<usize>> {
    let mostly_dead = |size: &Size| size.dead > size.live.max(DEAD_ROWS) || size.live == 0;
    if let Some((at, _)) = sizes.iter().find(|(_, size)| mostly_dead(size)) {
        return Some(vec![*at]);
    }
    for whole in [true, false] {
        let like = |tier: u32| {
            let small = sizes.iter().filter(move |(_, size)| {
                size.whole == whole && size.is_small() && size.tier() <= tier
            });
            small.map(|(at, size)| (*at, *size))
        };
        for tier in 0..=FULL_ROWS.ilog(LIKE_CHUNKS) {
            if like(tier).filter(|(_, size)| size.tier() == tier).count() < LIKE_CHUNKS {
                continue;
            }
            let (mut rows, mut bytes) = (0, 0);
            let fits = like(tier).take_while(|(_, size)| {
                rows += size.live;
                bytes += size.bytes;
                rows <= CHUNK_ROWS && bytes <= BATCH_BYTES
            });
            let fit: Vec<usize> = fits.map(|(at, _)| at).collect();
            if fit.len() > 1 {
                return Some(fit);
            }
        }
    }
    None
}

/// One chunk of the live rows of these, ordered by their places, those of none behind; and where its rows were before.
///
/// # Errors
/// Arrow's, when memory ends.
pub(super) fn merged(parts: &[&Held], budget: &Budget) -> Result<Held> {
    let mut there: Vec<(Home, u32, (usize, usize))> = Vec::new();
    let mut gone = Vec::new();
    for (part, held) in parts.iter().enumerate() {
        for (slot, home, at) in held.live_at() {
            match at {
                At::Row(row) => there.push((home, slot, (part, wide(row)))),
                At::Gone(_) => gone.push((slot, home)),
            }
        }
    }
    there.sort_unstable_by_key(|(home, slot, _)| (home.place().is_none(), home.place(), *slot));
    let indices: Vec<(usize, usize)> = there.iter().map(|(_, _, from)| *from).collect();
    let schema = parts[0].chunk.rows.schema();
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    let mut decided = Vec::with_capacity(schema.fields().len());
    for at in 0..schema.fields().len() {
        let columns = parts.iter().map(|held| held.chunk.rows.column(at).as_ref());
        let columns: Vec<&dyn Array> = columns.collect();
        arrays.push(interleave(&columns, &indices)?);
        decided.push(decided_of(parts, at, &indices));
    }
    let made = Made {
        rows: RecordBatch::try_new(schema, arrays)?,
        decided,
        there: there.iter().map(|(home, slot, _)| (*slot, *home)).collect(),
        gone,
        gone_ids: gone_ids(parts)?,
    };
    let reserved = parts.iter().map(|held| match &held.chunk.completion {
        Completion::Whole(reservation) => reservation.as_ref().map(|kept| kept.bytes()),
        Completion::Decided => None,
    });
    let reserved: usize = reserved.flatten().sum();
    let bytes = reserved.min(made.rows.get_array_memory_size());
    let completion = match &parts[0].chunk.completion {
        Completion::Decided => Completion::Decided,
        Completion::Whole(_) if bytes == 0 => Completion::Whole(None),
        Completion::Whole(_) => Completion::Whole(Some(budget.replace(bytes))),
    };
    Ok(Held::new(made, completion))
}

fn decided_of(parts: &[&Held], at: usize, indices: &[(usize, usize)]) -> Option<BooleanBuffer> {
    let of_part = |part: &&Held| part.chunk.decided[at].is_some();
    parts.iter().any(of_part).then(|| {
        let of_row = |(part, row): &(usize, usize)| {
            let decided = &parts[*part].chunk.decided[at];
            decided.as_ref().is_some_and(|decided| decided.value(*row))
        };
        indices.iter().map(of_row).collect()
    })
}

fn gone_ids(parts: &[&Held]) -> Result<StringArray> {
    let mut kept: Vec<ArrayRef> = Vec::with_capacity(parts.len());
    for held in parts {
        let ids = &held.chunk.gone;
        kept.push(match held.gone.buffer() {
            None => Arc::new(ids.clone()),
            Some(live) => filter(ids, &live.into())?,
        });
    }
    let kept: Vec<&dyn Array> = kept.iter().map(|ids| ids.as_ref()).collect();
    Ok(concat(&kept)?.as_string::<i32>().clone())
}

/// A position in a chunk as an index of a vector.
pub(super) fn wide(at: u32) -> usize {
    usize::try_from(at).expect("no smaller machine than 32 bits is built for")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(live: usize) -> Size {
        Size {
            live,
            dead: 0,
            bytes: live * 100,
            whole: true,
        }
    }

    /// Merges what is due until nothing is; the number of rows that were moved.
    fn settle(sizes: &mut Vec<Size>) -> usize {
        let mut moved = 0;
        loop {
            let numbered: Vec<_> = sizes.iter().copied().enumerate().collect();
            let Some(due) = choose(&numbered) else {
                return moved;
            };
            let mut live = 0;
            let mut bytes = 0;
            for at in due.iter().rev() {
                let size = sizes.remove(*at);
                live += size.live;
                bytes += size.bytes;
            }
            assert!(live <= CHUNK_ROWS, "{live} rows in one chunk");
            moved += live;
            if live > 0 {
                let size = small(live);
                sizes.push(Size { bytes, ..size });
            }
        }
    }

    #[test]
    fn chunks_stay_few_and_rows_are_moved_seldom_however_they_come() {
        for refresh in [1, 3, 100, 1_000, 5_000, 8_192] {
            let mut sizes = Vec::new();
            let (mut rows, mut moved) = (0, 0);
            for _ in 0..600 {
                sizes.push(small(refresh));
                rows += refresh;
                moved += settle(&mut sizes);
                let most = rows / FULL_ROWS + 7 * LIKE_CHUNKS;
                assert!(sizes.len() <= most, "{} chunks of {rows} rows", sizes.len());
                assert_eq!(sizes.iter().map(|size| size.live).sum::<usize>(), rows);
            }
            assert!(moved <= rows * 8, "{moved} of {rows} rows were moved");
        }
    }

    #[test]
    fn a_chunk_more_dead_than_alive_is_rewritten_and_an_empty_one_goes() {
        let dead = |live, dead| Size {
            dead,
            ..small(live)
        };
        let mut sizes = vec![small(8_000), dead(4_000, 4_100), dead(0, 1), dead(10, 200)];
        let moved = settle(&mut sizes);
        let mut left: Vec<usize> = sizes.iter().map(|size| size.live).collect();
        left.sort_unstable();
        assert_eq!((moved, left), (4_000, vec![10, 4_000, 8_000]));
    }

    #[test]
    fn large_values_are_not_gathered_beyond_what_a_batch_may_hold() {
        let large = Size {
            bytes: BATCH_BYTES / 3,
            ..small(1)
        };
        let mut sizes = vec![large; 9];
        settle(&mut sizes);
        assert!(sizes.iter().all(|size| size.bytes <= BATCH_BYTES));
        assert!(sizes.len() >= 3);
    }

    #[test]
    #[should_panic(expected = "a row dies once")]
    fn no_row_dies_twice() {
        let mut bits = Bits::all(70);
        bits.clear(69);
        bits.clear(69);
    }
}
