//! The stream of one file's rows as the view has them: each batch as the reader gives it, patched.
//!
//! **Invariant:** it gives every row that is kept and not deleted once, and every row that is pending once; in the order
//! of the file when that matters.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;
use datafusion::physical_expr::projection::Projector;
use datafusion::physical_plan::metrics::Count;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::column::{ColumnPatch, Edit};
use super::kept::{Cursor, Stretch};
use super::{FilePatch, PatchedRow, wide};
use crate::text_views::in_types_of;

/// The most bytes of values in one column of texts: their offsets have 32 bits.
const TEXT_BYTES_MAX: usize = 2_147_483_647;

/// How one file's batches become the view's.
pub(super) struct Rewriter {
    /// What the overlay says of the file.
    pub(super) patch: Arc<FilePatch>,
    /// Which columns of the schema are read.
    pub(super) columns: Arc<[usize]>,
    /// For each of them its decided cells.
    pub(super) cells: Vec<Option<ColumnPatch>>,
    /// Where the next row is.
    pub(super) cursor: Cursor,
    /// The positions of deleted rows that the reader gives, ascending.
    pub(super) deleted: Vec<u32>,
    /// Rows that the reader does not give, complete in the overlay, ascending by position.
    pub(super) pending: VecDeque<PatchedRow>,
    /// The types of what is read.
    pub(super) read: SchemaRef,
    /// Makes of what is read what is asked for.
    pub(super) projector: Projector,
    /// Counts rows with a cell that was written.
    pub(super) patched_rows: Count,
}

impl Rewriter {
    /// The file's rows. Pending rows come first, or at their place when they must come in
    /// the file's order.
    pub(super) fn stream(
        self,
        batches: BoxStream<'static, Result<RecordBatch>>,
        order: Order,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let state = State {
            rewriter: self,
            batches,
            order,
            ready: VecDeque::new(),
        };
        stream::try_unfold(state, State::next).boxed()
    }

    /// A batch as it is read, as parts of the view.
    fn rewrite(&mut self, batch: RecordBatch, order: Order, out: &mut Out) -> Result<()> {
        let stretches = self.cursor.next(batch.num_rows())?;
        for (batch, stretches) in self.parts(batch, stretches, order) {
            if let (Order::OfTheFile, Some(first)) = (order, stretches.first()) {
                let before = first.positions.start;
                let due = self.pending.partition_point(|row| row.position < before);
                self.emit(due, out)?;
            }
            self.part(batch, &stretches, out)?;
        }
        Ok(())
    }

    /// A batch whose rows stay together, unless its texts become too long for one.
    fn part(&self, batch: RecordBatch, stretches: &[Stretch], out: &mut Out) -> Result<()> {
        let edits = self.edits(stretches);
        let rows = batch.num_rows();
        if rows > 1 && self.longest_text(&batch, &edits) > TEXT_BYTES_MAX {
            for half in [0..rows / 2, rows / 2..rows] {
                let (batch, stretches) = cut(&batch, stretches, half);
                self.part(batch, &stretches, out)?;
            }
            return Ok(());
        }
        let batch = self.patched(batch, stretches, &edits)?;
        out.push_back(self.projector.project_batch(&batch)?);
        Ok(())
    }

    /// The batch, cut where a pending row belongs.
    fn parts(
        &self,
        batch: RecordBatch,
        stretches: Vec<Stretch>,
        order: Order,
    ) -> Vec<(RecordBatch, Vec<Stretch>)> {
        let cuts = match order {
            Order::Any => vec![],
            Order::OfTheFile => self.cuts(&stretches),
        };
        if cuts.is_empty() {
            return vec![(batch, stretches)];
        }
        let rows = batch.num_rows();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([rows]);
        let parts = starts.zip(ends);
        parts
            .map(|(start, end)| cut(&batch, &stretches, start..end))
            .collect()
    }

    /// The rows of the batch that a pending row stands before: always the first of a stretch, for no row is pending that
    /// is read.
    fn cuts(&self, stretches: &[Stretch]) -> Vec<usize> {
        let pairs = stretches.windows(2);
        let cuts = pairs.filter(|pair| {
            let gap = pair[0].positions.end..pair[1].positions.start;
            let first = self.pending.partition_point(|row| row.position < gap.start);
            let first = self.pending.get(first);
            first.is_some_and(|row| row.position < gap.end)
        });
        cuts.map(|pair| pair[1].offset).collect()
    }

    fn emit(&mut self, rows: usize, out: &mut Out) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let rows: Vec<PatchedRow> = self.pending.drain(..rows).collect();
        self.patched_rows.add(rows.len());
        for rows in rows.chunks(super::COMPLETE_ROWS) {
            let batch = in_types_of(&self.patch.complete(rows, &self.columns)?, &self.read)?;
            out.push_back(self.projector.project_batch(&batch)?);
        }
        Ok(())
    }

    fn edits(&self, stretches: &[Stretch]) -> Vec<Vec<Edit>> {
        let cells = self.cells.iter();
        let edits = cells.map(|cells| {
            let mut edits = Vec::new();
            if let Some(cells) = cells {
                stretches
                    .iter()
                    .for_each(|part| cells.edits(&mut edits, part));
            }
            edits
        });
        edits.collect()
    }

    /// The most bytes that a column of texts may have after the edits.
    fn longest_text(&self, batch: &RecordBatch, edits: &[Vec<Edit>]) -> usize {
        let columns = batch.columns().iter().zip(&self.cells).zip(edits);
        let bytes = columns.map(|((array, cells), edits)| match cells {
            Some(cells) if !edits.is_empty() => cells.text_bytes(array, edits),
            _ => 0,
        });
        bytes.max().unwrap_or(0)
    }

    fn patched(
        &self,
        batch: RecordBatch,
        stretches: &[Stretch],
        edits: &[Vec<Edit>],
    ) -> Result<RecordBatch> {
        let most = edits.iter().map(Vec::len).max().unwrap_or(0);
        self.patched_rows.add(most);
        let (schema, arrays, rows) = batch.into_parts();
        let columns = arrays.into_iter().zip(&self.cells).zip(edits);
        let arrays = columns.map(|((array, cells), edits)| match cells {
            Some(cells) => cells.write(array, edits),
            None => Ok(array),
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &rows)?;
        self.without_deleted(batch, stretches)
    }

    fn without_deleted(&self, batch: RecordBatch, stretches: &[Stretch]) -> Result<RecordBatch> {
        let deleted = stretches.iter().flat_map(|stretch| {
            let Range { start, end } = stretch.positions;
            let first = self.deleted.partition_point(|at| *at < start);
            let deleted = self.deleted[first..].iter();
            let deleted = deleted.take_while(move |at| **at < end);
            deleted.map(move |at| stretch.offset + wide(*at - start))
        });
        let mut deleted = deleted.peekable();
        if deleted.peek().is_none() {
            return Ok(batch);
        }
        let mut left = BooleanBufferBuilder::new(batch.num_rows());
        left.append_n(batch.num_rows(), true);
        deleted.for_each(|row| left.set_bit(row, false));
        let left = BooleanArray::new(left.finish(), None);
        Ok(filter_record_batch(&batch, &left)?)
    }
}

/// Some rows of a batch, with where they are.
fn cut(
    batch: &RecordBatch,
    stretches: &[Stretch],
    rows: Range<usize>,
) -> (RecordBatch, Vec<Stretch>) {
    let part = batch.slice(rows.start, rows.len());
    let stretches = stretches.iter().filter_map(|stretch| {
        let all = stretch.offset..stretch.offset + stretch.positions.len();
        let (start, end) = (all.start.max(rows.start), all.end.min(rows.end));
        let narrow = |rows: usize| u32::try_from(rows).expect("a stretch has 32 bits of rows");
        (start < end).then(|| {
            let first = stretch.positions.start + narrow(start - all.start);
            Stretch {
                offset: start - rows.start,
                positions: first..first + narrow(end - start),
            }
        })
    });
    (part, stretches.collect())
}

/// Whether the rows of a file must come in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// They need not.
    Any,
    /// They must.
    OfTheFile,
}

type Out = VecDeque<RecordBatch>;

struct State {
    rewriter: Rewriter,
    batches: BoxStream<'static, Result<RecordBatch>>,
    order: Order,
    ready: Out,
}

impl State {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        if self.order == Order::Any {
            let all = self.rewriter.pending.len();
            self.rewriter.emit(all, &mut self.ready)?;
        }
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some((batch, self)));
            }
            if let Some(batch) = self.batches.next().await {
                self.rewriter.rewrite(batch?, self.order, &mut self.ready)?;
                continue;
            }
            self.rewriter.cursor.end()?;
            let rest = self.rewriter.pending.len();
            self.rewriter.emit(rest, &mut self.ready)?;
            if self.ready.is_empty() {
                return Ok(None);
            }
        }
    }
}
