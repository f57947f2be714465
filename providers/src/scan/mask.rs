//! Masks: which rows of which file a scan leaves out, as what the Parquet reader skips.
//!
//! ```text
//!   positions  3, 4, 9     of a file with row groups of 8, 8 and 8 rows
//!   without    select 3, skip 2, select 3 │ select 1, skip 1, select 6 │ all
//!   only       skip 3, select 2, skip 3   │ skip 1, select 1, skip 6   │ nothing
//! ```
//! **Invariant:** `without` and `only` divide a file: every row is in one of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::key_index::wide;

/// The masks of one view's base, by the path of the file; a file without one is read whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks {
    files: HashMap<Arc<str>, Arc<FileMask>>,
}

impl Masks {
    /// Masks a file in this way, and in no other.
    pub(crate) fn put(&mut self, path: &str, mask: FileMask) {
        self.files.insert(path.into(), Arc::new(mask));
    }

    /// How a file is masked; none when all of it is read.
    pub(crate) fn of(&self, path: &str) -> Option<&Arc<FileMask>> {
        self.files.get(path)
    }
}

/// The rows that are left out of one file.
#[derive(Debug)]
pub(crate) struct FileMask {
    row_groups: Arc<[u32]>,
    positions: Box<[u32]>,
    /// Made when somebody reads the file without them: most views are never asked.
    left: OnceLock<Arc<ParquetAccessPlan>>,
}

impl FileMask {
    /// Leaves the rows at `positions`, ascending and one at least, out of a file with these row groups.
    pub(crate) fn new(row_groups: Arc<[u32]>, positions: Box<[u32]>) -> Self {
        Self {
            row_groups,
            positions,
            left: OnceLock::new(),
        }
    }

    /// What is left of the file.
    pub(crate) fn left(&self) -> Arc<ParquetAccessPlan> {
        let left = self
            .left
            .get_or_init(|| Arc::new(without(&self.row_groups, &self.positions)));
        Arc::clone(left)
    }

    /// The rows that are left out, ascending.
    pub(super) fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// How many those are.
    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.positions.len()).expect("32 bits count them")
    }
}

/// Every row but those at `positions`, which are ascending.
pub(super) fn without(row_groups: &[u32], positions: &[u32]) -> ParquetAccessPlan {
    each_group(row_groups, positions, |hits: Hits<'_>| match hits {
        Hits::None => RowGroupAccess::Scan,
        Hits::All => RowGroupAccess::Skip,
        Hits::Some(group) => selection(&group, RowSelector::skip, RowSelector::select),
    })
}

/// The rows at `positions`, which are ascending, and no other.
pub(super) fn only(row_groups: &[u32], positions: &[u32]) -> ParquetAccessPlan {
    each_group(row_groups, positions, |hits: Hits<'_>| match hits {
        Hits::None => RowGroupAccess::Skip,
        Hits::All => RowGroupAccess::Scan,
        Hits::Some(group) => selection(&group, RowSelector::select, RowSelector::skip),
    })
}

/// What the positions are of one row group.
enum Hits<'a> {
    None,
    All,
    Some(Group<'a>),
}

/// A row group that some positions are in.
struct Group<'a> {
    first: u32,
    rows: u32,
    positions: &'a [u32],
}

fn each_group(
    row_groups: &[u32],
    positions: &[u32],
    access: impl Fn(Hits<'_>) -> RowGroupAccess,
) -> ParquetAccessPlan {
    let mut first = 0_u32;
    let mut rest = positions;
    let mut accesses = Vec::with_capacity(row_groups.len());
    for &rows in row_groups {
        let end = first + rows;
        let (within, after) = rest.split_at(rest.partition_point(|position| *position < end));
        accesses.push(access(match within.len() {
            0 => Hits::None,
            all if all == wide(rows) => Hits::All,
            _ => Hits::Some(Group {
                first,
                rows,
                positions: within,
            }),
        }));
        (first, rest) = (end, after);
    }
    assert!(rest.is_empty(), "every position is in a row group");
    ParquetAccessPlan::new(accesses)
}

/// The rows of a group in their order: `hit` for those at a position, `miss` for what is between.
fn selection(
    group: &Group<'_>,
    hit: fn(usize) -> RowSelector,
    miss: fn(usize) -> RowSelector,
) -> RowGroupAccess {
    let mut runs = Vec::with_capacity(group.positions.len() * 2 + 1);
    let mut next = group.first;
    for &position in group.positions {
        runs.push(miss(wide(position - next)));
        runs.push(hit(1));
        next = position + 1;
    }
    runs.push(miss(wide(group.first + group.rows - next)));
    // Neighbours of one kind become one, and empty ones go.
    RowGroupAccess::Selection(RowSelection::from(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The positions that a plan lets through, each row group's rows counted.
    fn selected(plan: &ParquetAccessPlan, row_groups: &[u32]) -> Vec<u32> {
        let mut selected = Vec::new();
        let mut first = 0_u32;
        for (access, rows) in plan.inner().iter().zip(row_groups) {
            let mut at = first;
            match access {
                RowGroupAccess::Skip => at += rows,
                RowGroupAccess::Scan => {
                    selected.extend(at..at + rows);
                    at += rows;
                }
                RowGroupAccess::Selection(selection) => {
                    for run in selection.iter() {
                        let end = at + u32::try_from(run.row_count).unwrap();
                        assert!(end > at, "no run is empty");
                        if !run.skip {
                            selected.extend(at..end);
                        }
                        at = end;
                    }
                }
            }
            assert_eq!(at, first + rows, "a selection is as long as its group");
            first = at;
        }
        selected
    }

    fn check(row_groups: &[u32], positions: &[u32]) {
        let rows: u32 = row_groups.iter().sum();
        let others: Vec<u32> = (0..rows).filter(|row| !positions.contains(row)).collect();
        assert_eq!(
            selected(&only(row_groups, positions), row_groups),
            positions
        );
        assert_eq!(
            selected(&without(row_groups, positions), row_groups),
            others
        );
    }

    #[test]
    fn every_set_of_positions_divides_small_files_in_two() {
        for row_groups in [vec![5], vec![2, 1, 2], vec![1, 0, 3], vec![3, 2, 0]] {
            let rows: u32 = row_groups.iter().sum();
            for set in 0_u32..1 << rows {
                let positions: Vec<u32> = (0..rows).filter(|row| set & (1 << row) != 0).collect();
                check(&row_groups, &positions);
            }
        }
    }

    #[test]
    fn a_group_without_a_hit_and_one_that_is_hit_whole_need_no_selection() {
        let plan = without(&[2, 2, 2], &[2, 3, 4]);
        assert!(matches!(
            plan.inner(),
            [
                RowGroupAccess::Scan,
                RowGroupAccess::Skip,
                RowGroupAccess::Selection(_)
            ]
        ));
    }

    #[test]
    #[should_panic(expected = "every position is in a row group")]
    fn a_position_beyond_the_file_is_a_defect() {
        let _ = only(&[2, 2], &[4]);
    }
}
