//! The cells of one column: which fact shows in them, delta by delta.
//!
//! **Invariant:** a cell shows its newest write, if that is newer than the row's newest DELETE; the cells of the key show
//! what the row id says, as long as the row exists.

use super::clocks::{Clocks, Step};
use super::facts::Facts;
use super::{NONE, place};

/// What a delta made of one cell of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::functions) struct Cell {
    /// The fact that showed before, and the one that shows after.
    pub(in crate::functions) shown: (u32, u32),
    /// What the cell was decided by before: its newest write or the newest DELETE; a base row stands for whoever is
    /// forgotten.
    pub(in crate::functions) decided: u32,
    /// Whether the delta writes the cell.
    pub(in crate::functions) written: bool,
}

impl Facts {
    /// The cells of the column at `at`, for every delta of the window in order; the newest writes at its end.
    pub(in crate::functions) fn cells(
        &self,
        (clocks, steps): (&Clocks, &[Step]),
        at: usize,
        mut each: impl FnMut(&Step, Cell),
    ) -> Vec<u32> {
        if let Some((_, key)) = self.keys.iter().find(|(column, _)| *column == at) {
            for step in &steps[self.first..] {
                let value = key[place(step.group)];
                let shown = |exists: bool| if exists { value } else { NONE };
                each(
                    step,
                    Cell {
                        shown: (shown(step.exists.0), shown(step.exists.1)),
                        decided: NONE,
                        written: false,
                    },
                );
            }
            return key.clone();
        }
        let mut cells = clocks.cells(self, at);
        let column_number = self.schema.columns[at].number;
        for (nth, step) in steps.iter().enumerate() {
            let cell = &mut cells[place(step.group)];
            let before = *cell;
            let written = !step.is_delete && self.sets(step.fact, column_number);
            if written && self.newer(step.fact, before) {
                *cell = step.fact;
            }
            if nth < self.first {
                continue;
            }
            let (old, new) = step.deleted;
            let decided = if self.newer(old, before) { old } else { before };
            let cell = Cell {
                shown: (self.shown(before, old), self.shown(*cell, new)),
                decided,
                written,
            };
            each(step, cell);
        }
        cells
    }

    /// The fact that shows: the newest write, if no DELETE hides it.
    pub(in crate::functions) fn shown(&self, newest: u32, deleted: u32) -> u32 {
        if deleted == NONE || self.newer(newest, deleted) {
            newest
        } else {
            NONE
        }
    }

    /// The deltas of the window in the order of their arrival.
    pub(in crate::functions) fn window(&self) -> &[u32] {
        &self.arrivals[self.first..]
    }

    /// Where the window begins among the steps.
    pub(in crate::functions) fn first(&self) -> usize {
        self.first
    }

    /// Whether the column at `at` is one of the key.
    pub(in crate::functions) fn is_key(&self, at: usize) -> bool {
        self.keys.iter().any(|(column, _)| *column == at)
    }
}
