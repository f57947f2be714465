//! Windows: a span of deltas in parts that memory has room for, ascending.
//!
//! ```text
//!   seqs of files   ├── a ──┤ ├─ b ─┤   ├───── c ─────┤
//!                                          ├── d ──┤        hot
//!   parts           a and b, read as they are │ c and d, sorted │ hot
//! ```
//! Files of the log are sorted by row, so a part that is too large to be sorted here is sorted by DataFusion, which
//! spills, and is cut on the way. Parts follow the bounds of the manifests: a delta is read once.
//!
//! **Invariant:** every delta of the span is in one window, and those of a window are all below those of the next.

use std::collections::VecDeque;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::col;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use iceberg::spec::PrimitiveLiteral;
use lakesync_proto::{Seq, columns};

use super::span::{RowFilter, collect_within, log_rows};
use crate::error::Result;
use crate::lake::DataFileInfo;
use crate::view::ReadView;

/// The most cells of a window, so that wide tables have smaller ones: a few numbers are held for each.
const WINDOW_CELLS: usize = 4 << 20;
/// The fewest deltas that a wide table gets for that.
const WIDE_ROWS: usize = 1_024;

/// How much a replay holds at a time; a session has others than the default as an extension of its configuration.
///
/// ```
/// use datafusion::prelude::SessionConfig;
/// use lakesync_providers::ReplayLimits;
/// let limits = ReplayLimits { rows: 10_000, ..ReplayLimits::default() };
/// let config = SessionConfig::new().with_extension(std::sync::Arc::new(limits));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// The most deltas of a window.
    pub rows: usize,
    /// The most bytes of its deltas, and as much again of each kind of row that was there before them. A single delta
    /// goes in whatever it takes.
    pub bytes: usize,
}

impl Default for ReplayLimits {
    /// 262,144 deltas, 128 MiB.
    fn default() -> Self {
        Self {
            rows: 262_144,
            bytes: 128 << 20,
        }
    }
}

impl ReplayLimits {
    /// For a table with so many columns.
    fn of_columns(self, columns: usize) -> Self {
        let rows = (WINDOW_CELLS / columns.max(1)).max(WIDE_ROWS);
        Self {
            rows: self.rows.min(rows),
            ..self
        }
    }
}

/// The deltas of a window, in no order.
#[derive(Debug)]
pub(in crate::functions) struct Deltas {
    /// Every delta of the table up to this one came before the window's.
    pub(in crate::functions) from: Seq,
    /// At least one.
    pub(in crate::functions) batches: Vec<RecordBatch>,
}

/// The windows of a span.
pub(in crate::functions) struct Windows {
    ctx: SessionContext,
    limits: ReplayLimits,
    from: Seq,
    parts: VecDeque<Part>,
    sorted: Option<SendableRecordBatchStream>,
    /// Windows that were cut in two, the earlier first.
    cut: Vec<Deltas>,
}

/// A part of the span, up to a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It fits in a window.
    Whole(Seq),
    /// It does not, or may not.
    Sorted(Seq),
}

impl Windows {
    /// The windows of `from < seq <= to`.
    pub(in crate::functions) async fn open(
        ctx: SessionContext,
        view: &ReadView,
        (from, to): (Seq, Seq),
        limits: ReplayLimits,
    ) -> Result<Self> {
        let limits = limits.of_columns(view.schema.columns.len());
        let mut runs = Vec::new();
        if view.log.snapshot_id.is_some() && from < view.log.max_seq {
            let schema = view.log.table.metadata().current_schema();
            let seq_id = schema.field_id_by_name(columns::SEQ);
            let log = view.log.scan(&view.warehouse).await?;
            runs.extend(log.files().iter().map(|file| run_of(file, seq_id)));
        }
        runs.extend(view.hot.iter().filter_map(|push| {
            let ends = push.deltas.first().zip(push.deltas.last())?;
            let (least, greatest) = (ends.0.seq, ends.1.seq);
            let rows = push.deltas.len();
            (greatest > view.log.max_seq).then_some(Run {
                least,
                greatest,
                rows,
            })
        }));
        Ok(Self {
            ctx,
            limits,
            from,
            parts: parts(runs, (from, to), limits.rows).into(),
            sorted: None,
            cut: Vec::new(),
        })
    }

    /// The session that reads them.
    pub(in crate::functions) fn session(&self) -> &SessionContext {
        &self.ctx
    }

    /// How much a window may hold.
    pub(in crate::functions) fn limits(&self) -> ReplayLimits {
        self.limits
    }

    /// The next window, unless there is none.
    pub(in crate::functions) async fn next(
        &mut self,
        view: &ReadView,
        rows: &RowFilter,
    ) -> Result<Option<Deltas>> {
        if let Some(part) = self.cut.pop() {
            return Ok(Some(part));
        }
        loop {
            let from = self.from;
            if let Some(batches) = self.next_sorted().await? {
                self.from = greatest(&batches);
                return Ok(Some(Deltas { from, batches }));
            }
            let part = match self.parts.pop_front() {
                None => return Ok(None),
                Some(part) => part,
            };
            let (Part::Whole(to) | Part::Sorted(to)) = part;
            let frame = log_rows(&self.ctx, view, (from, to), rows).await?;
            if part == Part::Sorted(to) {
                let by_seq = vec![col(columns::SEQ).sort(true, false)];
                self.sorted = Some(frame.sort(by_seq)?.execute_stream().await?);
                continue;
            }
            match collect_within(frame, self.limits.rows, self.limits.bytes).await? {
                None => self.parts.push_front(Part::Sorted(to)),
                Some(batches) => {
                    self.from = to;
                    if !batches.is_empty() {
                        return Ok(Some(Deltas { from, batches }));
                    }
                }
            }
        }
    }

    /// Gives a window back as two, because what was there before it takes too much room.
    pub(in crate::functions) fn give_back(&mut self, earlier: Deltas, later: Deltas) {
        self.cut.push(later);
        self.cut.push(earlier);
    }

    /// What of the sorted part fits in a window; none at its end.
    async fn next_sorted(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let Some(stream) = &mut self.sorted else {
            return Ok(None);
        };
        let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while rows < self.limits.rows && bytes < self.limits.bytes {
            let Some(batch) = stream.try_next().await? else {
                self.sorted = None;
                break;
            };
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        Ok((!batches.is_empty()).then_some(batches))
    }
}

/// The greatest seq of batches that have one.
pub(super) fn greatest(batches: &[RecordBatch]) -> Seq {
    let seqs = batches.iter().flat_map(|batch| {
        let seqs = batch.column_by_name(columns::SEQ);
        let seqs = seqs.expect("every frame of the log has the log's columns");
        seqs.as_primitive::<Int64Type>().values().iter().copied()
    });
    seqs.max()
        .and_then(|seq| Seq::from_i64(seq).ok())
        .unwrap_or(Seq::ZERO)
}

/// Deltas that lie together, in a file or in memory.
#[derive(Clone, Copy, Debug)]
struct Run {
    least: Seq,
    greatest: Seq,
    rows: usize,
}

/// A file by its bounds; one without may hold anything.
fn run_of(file: &DataFileInfo, seq_id: Option<i32>) -> Run {
    let bound = |bounds: &std::collections::HashMap<i32, iceberg::spec::Datum>| {
        let datum = bounds.get(&seq_id?)?;
        match datum.literal() {
            PrimitiveLiteral::Long(seq) => Seq::from_i64(*seq).ok(),
            _ => None,
        }
    };
    Run {
        least: bound(&file.lower_bounds).unwrap_or(Seq::ZERO),
        greatest: bound(&file.upper_bounds).unwrap_or(Seq::MAX),
        rows: usize::try_from(file.rows).unwrap_or(usize::MAX),
    }
}

/// The parts of a span: runs that overlap stay together, and small ones join their neighbours.
fn parts(mut runs: Vec<Run>, (from, to): (Seq, Seq), rows_max: usize) -> Vec<Part> {
    runs.retain(|run| run.greatest > from && run.least <= to);
    runs.sort_by_key(|run| run.least);
    let mut apart: Vec<Run> = Vec::new();
    for run in runs {
        match apart.last_mut() {
            Some(last) if run.least <= last.greatest => {
                last.greatest = last.greatest.max(run.greatest);
                last.rows = last.rows.saturating_add(run.rows);
            }
            _ => apart.push(run),
        }
    }
    let mut parts = Vec::new();
    let mut together: Option<Run> = None;
    let part = |run: Run| match run.rows <= rows_max {
        true => Part::Whole(run.greatest.min(to)),
        false => Part::Sorted(run.greatest.min(to)),
    };
    for run in apart {
        together = Some(match together {
            Some(held) if held.rows.saturating_add(run.rows) <= rows_max => Run {
                greatest: run.greatest,
                rows: held.rows + run.rows,
                ..held
            },
            held => {
                parts.extend(held.map(part));
                run
            }
        });
    }
    parts.extend(together.map(part));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::from_u64(number).unwrap()
    }

    fn check(runs: &[(u64, u64, usize)], span: (u64, u64), expected: &[Part]) {
        let runs = runs.iter().map(|(least, greatest, rows)| Run {
            least: seq(*least),
            greatest: seq(*greatest),
            rows: *rows,
        });
        let found = parts(runs.collect(), (seq(span.0), seq(span.1)), 10);
        assert_eq!(found, expected);
    }

    #[test]
    fn small_runs_join_and_large_ones_are_sorted() {
        check(&[], (0, 9), &[]);
        check(&[(1, 4, 4), (5, 9, 5)], (0, 9), &[Part::Whole(seq(9))]);
        check(
            &[(5, 9, 5), (1, 4, 4), (10, 20, 11), (21, 22, 2)],
            (0, 99),
            &[
                Part::Whole(seq(9)),
                Part::Sorted(seq(20)),
                Part::Whole(seq(22)),
            ],
        );
    }

    #[test]
    fn runs_that_overlap_are_one_part() {
        check(
            &[(1, 6, 6), (4, 9, 6), (10, 11, 2)],
            (0, 99),
            &[Part::Sorted(seq(9)), Part::Whole(seq(11))],
        );
    }

    #[test]
    fn what_lies_outside_of_the_span_is_no_part_of_it() {
        check(
            &[(1, 4, 4), (5, 9, 9), (10, 11, 2)],
            (4, 7),
            &[Part::Whole(seq(7))],
        );
    }
}
