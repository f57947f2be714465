//! Patches: what an overlay changes in one base file, by position.
//!
//! ```text
//!   position        0  1  2  3  4  5  6  7        rows    1 → chunk 0, row 2     decided: `v` of it, not `s`
//!   of the file        ▲        ✗     ▲                   6 → chunk 1, row 0     decided: `v` and `s`
//!                                                 deleted 4
//! ```
//! **Invariant:** every touched row of the file is in `rows` or in `deleted`, in one of them, at its position; a cell that
//! is not decided holds in the file what it holds in the chunk.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;

use crate::overlay::Reservation;

/// Where a base has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which of the base's files, in the order of its list.
    pub(crate) file: u32,
    /// The row's place in the file, counted from 0 over all row groups.
    pub(crate) position: u32,
}

/// Resolved rows that were made together: immutable, and shared by views.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The rows, with the base's schema.
    pub(crate) rows: RecordBatch,
    /// Where the base has each of them; a row that it does not have has no place.
    pub(crate) places: Vec<Option<Place>>,
    /// By column of the schema: the rows of the base's whose value the overlay has decided; none when for no row.
    pub(crate) decided: Vec<Option<BooleanBuffer>>,
    /// The ids of touched rows that do not exist.
    pub(crate) gone: StringArray,
    /// Whether the rows have the values that are not decided.
    pub(crate) completion: Completion,
}

/// Whether a chunk's rows are complete.
#[derive(Debug)]
pub(crate) enum Completion {
    /// They are; what the base has too is held at the cost of the budget.
    Whole(Option<Reservation>),
    /// Only what is decided has a value, and ids and keys; the base has the rest.
    Decided,
}

/// A chunk, and which of its rows still are the view's.
#[derive(Clone, Debug)]
pub(crate) struct LiveChunk {
    /// The chunk.
    pub(crate) chunk: Arc<Chunk>,
    /// The rows that are; none when all are.
    pub(crate) live: Option<BooleanBuffer>,
}

/// One touched row of a file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchedRow {
    /// Its place in the file.
    pub(crate) position: u32,
    /// Which of the patch's chunks has it.
    pub(crate) chunk: u32,
    /// Which row of the chunk it is.
    pub(crate) row: u32,
}

/// All that an overlay says of the rows of one file. It holds what it names: views may share it.
#[derive(Debug)]
pub(crate) struct FilePatch {
    /// The chunks that its rows are in.
    pub(crate) chunks: Vec<Arc<Chunk>>,
    /// The touched rows that exist, ascending by position.
    pub(crate) rows: Vec<PatchedRow>,
    /// The positions of the touched rows that do not exist any more, ascending.
    pub(crate) deleted: Vec<u32>,
}

impl FilePatch {
    /// What `rows` and `deleted` say, in any order; `chunk` of a row counts in `chunks`.
    pub(crate) fn new(
        chunks: Vec<Arc<Chunk>>,
        mut rows: Vec<PatchedRow>,
        mut deleted: Vec<u32>,
    ) -> Self {
        rows.sort_unstable_by_key(|row| row.position);
        deleted.sort_unstable();
        Self {
            chunks,
            rows,
            deleted,
        }
    }
}
