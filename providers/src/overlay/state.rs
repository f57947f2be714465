//! What an overlay knows between refreshes, and how it takes what a refresh has made.
//!
//! **Invariant:** it changes only in [`State::take`], which waits for nothing: a refresh that fails or is given up
//! leaves it as it was.

use std::collections::HashMap;
use std::sync::Arc;

use lakesync_proto::{RowId, Seq};

use super::budget::Budget;
use super::candidates::Candidates;
use super::fold::{Home, Made, Shape};
use super::held::{At, Held, due, merged, wide};
use super::resolved::{Resolved, Work};
use super::touched::{Now, Touched};
use crate::error::Result;
use crate::files::ParquetTable;
use crate::scan::{Completion, Place};

/// The overlay of one table over one base, up to some seq.
#[derive(Debug)]
pub(super) struct State {
    /// Every hot delta up to it is in.
    pub(super) seq: Seq,
    /// Whether the base's rows are known by position.
    pub(super) places: Places,
    ids: HashMap<RowId, u32>,
    rows: Vec<Row>,
    /// By number; that of a chunk that went is given out again.
    chunks: Vec<Option<Held>>,
    touched: Touched,
    shown: Option<Arc<Resolved>>,
}

/// Whether touched rows are masked or joined away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// Their positions are known.
    Known,
    /// Those of some are not.
    Unknown,
}

/// A touched row.
#[derive(Debug)]
struct Row {
    candidates: Candidates,
    home: Home,
    /// The chunk, and where in it.
    at: (u32, At),
}

/// A row as a refresh finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Its number.
    pub(super) slot: u32,
    /// Its hot deltas so far.
    pub(super) candidates: &'a Candidates,
    /// Whether the base has it.
    pub(super) home: Home,
    /// The chunk that it is in.
    pub(super) chunk: (u32, &'a Held),
    /// Its row there, if it exists.
    pub(super) row: Option<u32>,
}

/// All that a refresh changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New rows, in the order of their slots, which follow those of the known ones.
    pub(super) new: Vec<(RowId, Candidates)>,
    /// Known rows with more deltas.
    pub(super) more: Vec<(u32, Candidates)>,
    /// Their folded rows.
    pub(super) made: Vec<(Made, Completion)>,
    /// The files that rows were found in, with their row groups.
    pub(super) files: HashMap<u32, Arc<[u32]>>,
    /// Further places of rows that a base has more than once, which no base of ours does.
    pub(super) again: Vec<Place>,
    /// What it took.
    pub(super) work: Work,
}

/// What a refresh works with.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// What rows look like.
    pub(super) shape: Shape,
    /// The base.
    pub(super) table: ParquetTable,
    /// What rows may be kept whole within.
    pub(super) budget: Budget,
}

impl State {
    /// Of a base whose deltas go up to `base_seq`: nothing is touched.
    pub(super) fn new(base_seq: Seq) -> Self {
        Self {
            seq: base_seq,
            places: Places::Known,
            ids: HashMap::new(),
            rows: Vec::new(),
            chunks: Vec::new(),
            touched: Touched::default(),
            shown: None,
        }
    }

    /// What a view of [`State::seq`] sees, when nothing has changed since it was made.
    pub(super) fn shown(&self) -> Option<&Arc<Resolved>> {
        self.shown.as_ref()
    }

    /// A row that is touched already.
    pub(super) fn known(&self, id: &RowId) -> Option<Known<'_>> {
        let slot = *self.ids.get(id)?;
        let row = &self.rows[wide(slot)];
        let (chunk, at) = row.at;
        Some(Known {
            slot,
            candidates: &row.candidates,
            home: row.home,
            chunk: (chunk, self.held(chunk)),
            row: match at {
                At::Row(row) => Some(row),
                At::Gone(_) => None,
            },
        })
    }

    /// The slot of the first row that is not touched yet.
    pub(super) fn next_slot(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("no overlay has 4 billion rows")
    }

    fn held(&self, chunk: u32) -> &Held {
        let held = self.chunks[wide(chunk)].as_ref();
        held.expect("a row is in a chunk that is held")
    }

    /// Takes the changes that bring it to `seq`. It is all work and no waiting.
    ///
    /// # Errors
    /// Arrow's, when memory ends; the state then holds the changes and is shown by the next refresh.
    pub(super) fn take(
        &mut self,
        seq: Seq,
        changes: Changes,
        setting: &Setting,
    ) -> Result<Arc<Resolved>> {
        let mut work = changes.work;
        self.shown = None;
        self.seq = seq;
        for (file, row_groups) in &changes.files {
            self.touched.open(*file, row_groups);
        }
        for place in changes.again {
            self.touched.set(place, Now::Gone);
        }
        for (id, candidates) in changes.new {
            self.ids.insert(id, self.next_slot());
            self.rows.push(Row {
                candidates,
                home: Home::Nowhere,
                at: (u32::MAX, At::Gone(0)),
            });
        }
        for (slot, candidates) in changes.more {
            self.rows[wide(slot)].candidates = candidates;
        }
        for (made, completion) in changes.made {
            self.add(Held::new(made, completion));
        }
        while let Some(parts) = due(&self.chunks) {
            work.rows_moved += self.merge(&parts, &setting.budget)?;
        }
        Ok(self.show(work, setting))
    }

    /// Takes a chunk: its rows are the newest.
    fn add(&mut self, held: Held) {
        let free = self.chunks.iter().position(Option::is_none);
        let free = free.unwrap_or(self.chunks.len());
        let number = u32::try_from(free).expect("chunks are numbered by 32 bits");
        for (slot, home, at) in held.live_at() {
            let row = &mut self.rows[wide(slot)];
            let before = std::mem::replace(&mut row.at, (number, at));
            row.home = home;
            if let Some(Some(before_held)) = self.chunks.get_mut(wide(before.0)) {
                before_held.kill(before.1);
            }
            let now = match at {
                At::Row(row) => Now::Row { chunk: number, row },
                At::Gone(_) => Now::Gone,
            };
            if let Some(place) = home.place() {
                self.touched.set(place, now);
            }
        }
        match self.chunks.get_mut(free) {
            Some(slot) => *slot = Some(held),
            None => self.chunks.push(Some(held)),
        }
    }

    /// Makes one chunk of some; how many rows were moved.
    fn merge(&mut self, parts: &[usize], budget: &Budget) -> Result<u64> {
        let held: Vec<&Held> = parts
            .iter()
            .filter_map(|at| self.chunks[*at].as_ref())
            .collect();
        let one = merged(&held, budget)?;
        let moved = one.live_at().count();
        if moved > 0 {
            self.add(one);
        }
        for at in parts {
            self.chunks[*at] = None;
        }
        Ok(u64::try_from(moved).unwrap_or(u64::MAX))
    }

    fn show(&mut self, work: Work, setting: &Setting) -> Arc<Resolved> {
        let chunks = &self.chunks;
        let chunk = |number| {
            let held = chunks[wide(number)].as_ref();
            Arc::clone(held.expect("a row is in a chunk that is held").chunk())
        };
        let path = |file| setting.table.files()[wide(file)].path.as_str();
        self.touched.settle(chunk, path);
        let located = self.places == Places::Known;
        let shown = Arc::new(Resolved {
            chunks: self.chunks.iter_mut().flatten().map(Held::shown).collect(),
            masks: located.then(|| Arc::clone(self.touched.masks())),
            patches: match located {
                true => self.touched.patches(),
                false => std::collections::BTreeMap::new(),
            },
            work,
        });
        self.shown = Some(Arc::clone(&shown));
        shown
    }
}
