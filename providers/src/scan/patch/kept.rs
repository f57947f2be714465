//! Which rows of a file a reader is told to give, and so where each row that it gives is.
//!
//! ```text
//!   row groups of 4, 4 and 4 rows     skip │ select 1, skip 2, select 1 │ all
//!   runs                                     4..5          7..8           8..12    → 4..5, 7..12
//!   a batch of 4 rows                        4             7              8, 9
//! ```
//! **Invariant:** a reader gives the selected rows in the order of the file and no other, so the n-th row that comes is
//! the n-th of the runs; who is given more rows than that, or fewer, has an error.

use std::ops::Range;

use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};

use super::wide;

/// Some rows of a file: runs of positions, ascending; no two of them meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    runs: Vec<Range<u32>>,
}

impl Kept {
    /// The rows that `access` lets through, of a file with these row groups (rows of each).
    pub(super) fn new(access: &ParquetAccessPlan, row_groups: &[u32]) -> Self {
        let mut kept = Self::default();
        let mut first = 0_u32;
        for (access, rows) in access.inner().iter().zip(row_groups) {
            match access {
                RowGroupAccess::Skip => {}
                RowGroupAccess::Scan => kept.push(first..first + rows),
                RowGroupAccess::Selection(selection) => {
                    let mut at = first;
                    for run in selection.iter() {
                        let rows = u32::try_from(run.row_count)
                            .expect("a selection is no longer than its row group");
                        if !run.skip {
                            kept.push(at..at + rows);
                        }
                        at += rows;
                    }
                }
            }
            first += rows;
        }
        kept
    }

    fn push(&mut self, run: Range<u32>) {
        match self.runs.last_mut() {
            _ if run.is_empty() => {}
            Some(last) if last.end == run.start => last.end = run.end,
            _ => self.runs.push(run),
        }
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.runs.iter().map(|run| wide(run.end - run.start)).sum()
    }

    /// Whether the row at `position` is one of them.
    pub(super) fn contains(&self, position: u32) -> bool {
        let after = self.runs.partition_point(|run| run.end <= position);
        let run = self.runs.get(after);
        run.is_some_and(|run| run.start <= position)
    }
}

impl Kept {
    /// Those of these positions, which are ascending, that are kept.
    pub(super) fn of(&self, positions: &[u32]) -> Vec<u32> {
        let mut kept = Vec::new();
        let mut rest = positions;
        for run in &self.runs {
            rest = &rest[rest.partition_point(|position| *position < run.start)..];
            let (within, after) = rest.split_at(rest.partition_point(|at| *at < run.end));
            kept.extend_from_slice(within);
            rest = after;
        }
        kept
    }
}

/// A part of a batch whose rows are neighbours in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Where in the batch it begins.
    pub(super) offset: usize,
    /// Its rows' positions.
    pub(super) positions: Range<u32>,
}

/// The place of the next row that comes.
#[derive(Debug)]
pub(super) struct Cursor {
    kept: Kept,
    /// The run that the next row is in.
    run: usize,
    /// How many rows of it have come.
    come: u32,
}

impl Cursor {
    /// Before the first row.
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept,
            run: 0,
            come: 0,
        }
    }

    /// Where the next `rows` rows are.
    ///
    /// # Errors
    /// When that are more than were told to come.
    pub(super) fn next(&mut self, rows: usize) -> Result<Vec<Stretch>> {
        let mut stretches = Vec::new();
        let mut offset = 0;
        while offset < rows {
            let Some(run) = self.kept.runs.get(self.run) else {
                return internal_err!("the Parquet reader gave rows that are not selected");
            };
            let start = run.start + self.come;
            let left = u32::try_from(rows - offset).unwrap_or(u32::MAX);
            let end = run.end.min(start.saturating_add(left));
            stretches.push(Stretch {
                offset,
                positions: start..end,
            });
            offset += wide(end - start);
            if end == run.end {
                (self.run, self.come) = (self.run + 1, 0);
            } else {
                self.come = end - run.start;
            }
        }
        Ok(stretches)
    }

    /// That nothing is missing.
    ///
    /// # Errors
    /// When a selected row did not come.
    pub(super) fn end(&self) -> Result<()> {
        if self.run < self.kept.runs.len() {
            return internal_err!("the Parquet reader left out rows that are selected");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

    use super::*;

    fn kept() -> Kept {
        let some = RowSelection::from(vec![
            RowSelector::select(1),
            RowSelector::skip(2),
            RowSelector::select(1),
        ]);
        let access = ParquetAccessPlan::new(vec![
            RowGroupAccess::Skip,
            RowGroupAccess::Selection(some),
            RowGroupAccess::Scan,
        ]);
        Kept::new(&access, &[4, 4, 4])
    }

    fn stretch(offset: usize, positions: Range<u32>) -> Stretch {
        Stretch { offset, positions }
    }

    #[test]
    fn neighbours_are_one_run_over_the_borders_of_row_groups() {
        assert_eq!(kept().runs, [4..5, 7..12]);
        assert_eq!(kept().rows(), 6);
        let within: Vec<u32> = (0..20).filter(|at| kept().contains(*at)).collect();
        assert_eq!(within, [4, 7, 8, 9, 10, 11]);
        assert_eq!(kept().of(&within), within);
        assert_eq!(kept().of(&[0, 4, 5, 6, 8, 12]), [4, 8]);
        assert!(kept().of(&[0, 1, 2, 3]).is_empty());
    }

    #[test]
    fn batches_of_any_size_are_placed() {
        let mut cursor = Cursor::new(kept());
        assert_eq!(
            cursor.next(4).unwrap(),
            [stretch(0, 4..5), stretch(1, 7..10)]
        );
        assert!(cursor.end().is_err());
        assert_eq!(cursor.next(0).unwrap(), []);
        assert_eq!(cursor.next(2).unwrap(), [stretch(0, 10..12)]);
        cursor.end().unwrap();
        assert!(cursor.next(1).is_err());
    }
}
