//! The clocks of rows: which fact wrote, and which deleted, a row last.
//!
//! **Invariant:** [`Clocks::before`] is the state that base and evidence make, as `row_states` makes it by row; every
//! [`Step`] merges one delta into it.

use arrow::array::{Array, make_comparator};
use arrow::compute::SortOptions;

use super::facts::Facts;
use super::{NONE, place};
use crate::error::Result;

/// A delta with the clocks of its row.
#[derive(Clone, Copy, Debug)]
pub(in crate::functions) struct Step {
    /// The delta.
    pub(in crate::functions) fact: u32,
    /// Whether it is a DELETE.
    pub(in crate::functions) is_delete: bool,
    /// Its row.
    pub(super) group: u32,
    /// The newest DELETE before and after it.
    pub(super) deleted: (u32, u32),
    /// Whether the row existed before it and exists after it.
    pub(in crate::functions) exists: (bool, bool),
}

/// The clocks of all rows, and what cells show, where a window's facts begin.
#[derive(Debug)]
pub(in crate::functions) struct Clocks {
    written: Vec<u32>,
    deleted: Vec<u32>,
    /// By column and group, the newest write that can still show; none when that is the base row everywhere.
    cells: Option<Vec<Vec<u32>>>,
}

impl Clocks {
    /// What was there before any delta above the base.
    ///
    /// # Errors
    /// When values cannot be compared.
    pub(in crate::functions) fn before(facts: &Facts) -> Result<Self> {
        let mut clocks = Self {
            written: facts.base_of.clone(),
            deleted: vec![NONE; facts.groups],
            cells: None,
        };
        if !facts.evidence.is_empty() {
            clocks.settle(facts)?;
        }
        Ok(clocks)
    }

    /// The newest write of a column by group.
    pub(super) fn cells(&self, facts: &Facts, at: usize) -> Vec<u32> {
        match &self.cells {
            Some(cells) => cells[at].clone(),
            None => facts.base_of.clone(),
        }
    }

    /// The deltas above the base in the order of their arrival, each with its row's clocks.
    pub(in crate::functions) fn steps(mut self, facts: &Facts) -> (Vec<Step>, Self) {
        let mut steps = Vec::with_capacity(facts.arrivals.len());
        for &fact in &facts.arrivals {
            let group = facts.group[place(fact)];
            let at = place(group);
            let (deleted, existed) = (self.deleted[at], self.exists(facts, at));
            self.raise(facts, fact);
            steps.push(Step {
                fact,
                is_delete: facts.is_delete(fact),
                group,
                deleted: (deleted, self.deleted[at]),
                exists: (existed, self.exists(facts, at)),
            });
        }
        (steps, self)
    }

    /// The newest DELETE of the group.
    pub(in crate::functions) fn deleted(&self, group: usize) -> u32 {
        self.deleted[group]
    }

    /// Whether the row of the group exists.
    pub(in crate::functions) fn exists(&self, facts: &Facts, group: usize) -> bool {
        facts.newer(self.written[group], self.deleted[group])
    }

    fn raise(&mut self, facts: &Facts, fact: u32) {
        let group = place(facts.group[place(fact)]);
        let clock = match facts.is_delete(fact) {
            true => &mut self.deleted[group],
            false => &mut self.written[group],
        };
        if facts.newer(fact, *clock) {
            *clock = fact;
        }
    }

    /// Merges the evidence, then lets the base decide where they differ: the log has forgotten a later write, or a later
    /// delete.
    fn settle(&mut self, facts: &Facts) -> Result<()> {
        self.written.fill(NONE);
        let mut cells = vec![vec![NONE; facts.groups]; facts.values.len()];
        for &fact in &facts.evidence {
            self.raise(facts, fact);
            if facts.is_delete(fact) {
                continue;
            }
            let group = place(facts.group[place(fact)]);
            for (cells, column) in cells.iter_mut().zip(&facts.schema.columns) {
                if facts.sets(fact, column.number) && facts.newer(fact, cells[group]) {
                    cells[group] = fact;
                }
            }
        }
        let mut witnessed = vec![false; facts.groups];
        for &fact in &facts.evidence {
            witnessed[place(facts.group[place(fact)])] = true;
        }
        let same = Same::of(facts)?;
        for (group, witnessed) in witnessed.into_iter().enumerate() {
            let base = facts.base_of[group];
            let exists = self.exists(facts, group);
            if base == NONE {
                if exists {
                    self.forget(group, &mut cells);
                }
                continue;
            }
            if !witnessed || !exists {
                self.forget(group, &mut cells);
                self.written[group] = base;
            }
            self.base_decides(facts, (group, base), &same, &mut cells);
        }
        self.cells = Some(cells);
        Ok(())
    }

    fn forget(&mut self, group: usize, cells: &mut [Vec<u32>]) {
        (self.written[group], self.deleted[group]) = (NONE, NONE);
        cells.iter_mut().for_each(|cells| cells[group] = NONE);
    }

    fn base_decides(
        &mut self,
        facts: &Facts,
        (group, base): (usize, u32),
        same: &Same,
        cells: &mut [Vec<u32>],
    ) {
        let deleted = self.deleted[group];
        let settled: Vec<usize> = (0..cells.len())
            .filter(|at| {
                let cell = cells[*at][group];
                let shown = if facts.newer(cell, deleted) {
                    cell
                } else {
                    NONE
                };
                !same.values(*at, shown, base)
            })
            .collect();
        let is_key = |at: &usize| {
            let name = &facts.schema.columns[*at].name;
            facts.schema.primary_key.contains(name)
        };
        let contradicted = settled
            .iter()
            .any(|at| !is_key(at) && facts.values[*at].is_valid(place(base)));
        if contradicted {
            for cells in cells.iter_mut() {
                if !facts.newer(cells[group], deleted) {
                    cells[group] = NONE;
                }
            }
            self.deleted[group] = NONE;
        }
        for at in settled {
            cells[at][group] = base;
        }
    }
}

/// Whether two facts have one value in a column.
struct Same {
    columns: Vec<(arrow::array::DynComparator, arrow::array::ArrayRef)>,
}

impl Same {
    fn of(facts: &Facts) -> Result<Self> {
        let columns = facts.values.iter().map(|values| {
            let compare = make_comparator(values, values, SortOptions::default())?;
            Ok((compare, std::sync::Arc::clone(values)))
        });
        Ok(Self {
            columns: columns.collect::<Result<_>>()?,
        })
    }

    /// Nothing shows as null.
    fn values(&self, at: usize, one: u32, other: u32) -> bool {
        let (compare, values) = &self.columns[at];
        let is_null = |fact: u32| fact == NONE || values.is_null(place(fact));
        match (is_null(one), is_null(other)) {
            (false, false) => compare(place(one), place(other)).is_eq(),
            (one, other) => one == other,
        }
    }
}
