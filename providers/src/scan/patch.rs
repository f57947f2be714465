//! Patches: what an overlay changes in one base file, by position.
//!
//! ```text
//!   position        0  1  2  3  4  5  6  7        rows    1 → chunk 0, row 2     decided: `v` of it, not `s`
//!   of the file        ▲        ✗     ▲                   6 → chunk 1, row 0     decided: `v` and `s`
//!                                                 deleted 4
//! ```
//! **Invariant:** every touched row of the file is in `rows` or in `deleted`, in one of them, at its position; a cell that
//! is not decided holds in the file what it holds in the chunk.

mod column;
#[cfg(test)]
mod column_tests;
mod file_marks;
mod kept;
mod opener;
mod prune;
mod rewrite;
mod source;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use arrow::array::StringArray;
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Schema;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;

use self::column::ColumnPatch;
use super::key_index::wide;

pub(crate) use file_marks::{FileMarks, Touch};
pub(crate) use source::PatchSource;

/// The most rows of the overlay that a file's stream gives in one batch.
const COMPLETE_ROWS: usize = 1_024;

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

/// All that an overlay says of the rows of one file; by default nothing. It holds what it names: views may share it.
#[derive(Debug, Default)]
pub(crate) struct FilePatch {
    chunks: Vec<Arc<Chunk>>,
    rows: Vec<PatchedRow>,
    deleted: Vec<u32>,
    /// By column of the schema: its decided cells, gathered when a scan first asks. Only a column that some row decides
    /// has a place here.
    columns: Vec<Option<OnceLock<ColumnPatch>>>,
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
        let width = chunks.first().map_or(0, |chunk| chunk.decided.len());
        let decided = |column: usize| {
            let mut rows = rows.iter();
            let named = chunks.iter().any(|chunk| chunk.decided[column].is_some());
            named && rows.any(|row| decides(&chunks, *row, column))
        };
        let columns = (0..width).map(|column| decided(column).then(OnceLock::new));
        Self {
            columns: columns.collect(),
            chunks,
            rows,
            deleted,
        }
    }

    /// The touched rows that exist, ascending by position.
    pub(crate) fn rows(&self) -> &[PatchedRow] {
        &self.rows
    }

    /// The positions of the touched rows that do not exist any more, ascending.
    pub(crate) fn deleted(&self) -> &[u32] {
        &self.deleted
    }

    /// Whether all its rows are held whole.
    pub(crate) fn is_whole(&self) -> bool {
        let mut chunks = self.chunks.iter();
        chunks.all(|chunk| matches!(chunk.completion, Completion::Whole(_)))
    }

    /// Whether some cell of the column is decided.
    pub(crate) fn decides(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(Option::is_some)
    }

    /// Whether one who reads these columns only sees another file than the one that is there.
    pub(crate) fn changes(&self, mut columns: impl Iterator<Item = usize>) -> bool {
        !self.deleted.is_empty() || columns.any(|column| self.decides(column))
    }

    /// Whether the overlay decides a cell of one row.
    pub(crate) fn decides_cell(&self, row: PatchedRow, column: usize) -> bool {
        decides(&self.chunks, row, column)
    }

    /// The decided cells of a column; none when there are none.
    ///
    /// # Errors
    /// Those of Arrow.
    fn column(&self, column: usize) -> Result<Option<ColumnPatch>> {
        let Some(Some(known)) = self.columns.get(column) else {
            return Ok(None);
        };
        if let Some(known) = known.get() {
            return Ok(Some(known.clone()));
        }
        let made = self.gather(column)?;
        // Two scans may both have made it: one is kept.
        Ok(Some(known.get_or_init(|| made).clone()))
    }

    fn gather(&self, column: usize) -> Result<ColumnPatch> {
        let rows = self.rows.iter();
        let decided = rows.filter(|row| decides(&self.chunks, **row, column));
        let (positions, at) = decided
            .map(|row| (row.position, (wide(row.chunk), wide(row.row))))
            .unzip();
        let arrays = self.chunks.iter();
        let arrays = arrays.map(|chunk| Arc::clone(chunk.rows.column(column)));
        ColumnPatch::new(positions, arrays.collect(), at)
    }

    /// Some of its rows, complete, with these columns of the schema.
    ///
    /// # Errors
    /// Those of Arrow.
    pub(crate) fn complete(&self, rows: &[PatchedRow], columns: &[usize]) -> Result<RecordBatch> {
        let chunks: Vec<&RecordBatch> = self.chunks.iter().map(|chunk| &chunk.rows).collect();
        let narrow: Vec<RecordBatch> = chunks
            .iter()
            .map(|rows| rows.project(columns))
            .collect::<Result<_, _>>()?;
        let narrow: Vec<&RecordBatch> = narrow.iter().collect();
        let at: Vec<(usize, usize)> = rows
            .iter()
            .map(|row| (wide(row.chunk), wide(row.row)))
            .collect();
        if columns.is_empty() {
            let rows = RecordBatchOptions::new().with_row_count(Some(at.len()));
            let none = Arc::new(Schema::empty());
            return Ok(RecordBatch::try_new_with_options(none, vec![], &rows)?);
        }
        Ok(interleave_record_batch(&narrow, &at)?)
    }
}

fn decides(chunks: &[Arc<Chunk>], row: PatchedRow, column: usize) -> bool {
    let decided = &chunks[wide(row.chunk)].decided[column];
    decided
        .as_ref()
        .is_some_and(|decided| decided.value(wide(row.row)))
}
