//! The touched rows of each base file, by position: what a scan leaves out of it, or changes in it.
//!
//! **Invariant:** only files that a refresh touches are gone through; what was shown of the others is shown again. A
//! position that was touched stays touched as long as the overlay lives.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::held::wide;
use crate::scan::{Chunk, FileMask, FilePatch, Masks, PatchedRow, Place};

/// What became of a row of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// It is this row of this chunk of the overlay.
    Row {
        /// The chunk's number in the overlay.
        chunk: u32,
        /// Which row.
        row: u32,
    },
    /// It does not exist any more.
    Gone,
}

/// The touched rows of all files.
#[derive(Debug, Default)]
pub(super) struct Touched {
    files: BTreeMap<u32, File>,
    changed: BTreeSet<u32>,
    masks: Arc<Masks>,
}

#[derive(Debug)]
struct File {
    row_groups: Arc<[u32]>,
    /// Ascending by position.
    rows: Vec<(u32, Now)>,
    /// What changed since it was shown, in the order in which it did.
    changes: Vec<(u32, Now)>,
    shown: Arc<FilePatch>,
}

impl Touched {
    /// Makes room for rows of a file with these row groups.
    pub(super) fn open(&mut self, file: u32, row_groups: &Arc<[u32]>) {
        self.files.entry(file).or_insert_with(|| File {
            row_groups: Arc::clone(row_groups),
            rows: Vec::new(),
            changes: Vec::new(),
            shown: Arc::new(FilePatch::new(Vec::new(), Vec::new(), Vec::new())),
        });
    }

    /// The row at a place, of a file that was opened, has become something else.
    pub(super) fn set(&mut self, place: Place, now: Now) {
        let file = self.files.get_mut(&place.file);
        let file = file.expect("a file is opened before a row of it is found");
        file.changes.push((place.position, now));
        self.changed.insert(place.file);
    }

    /// What is to be left out of the files.
    pub(super) fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }

    /// What is to be changed in each file.
    pub(super) fn patches(&self) -> BTreeMap<u32, Arc<FilePatch>> {
        let files = self.files.iter();
        files
            .map(|(number, file)| (*number, Arc::clone(&file.shown)))
            .collect()
    }

    /// Brings what is shown up to date. `chunk` gives the overlay's chunks by number, `path` a file's path.
    pub(super) fn settle<'p>(
        &mut self,
        chunk: impl Fn(u32) -> Arc<Chunk>,
        path: impl Fn(u32) -> &'p str,
    ) {
        for number in std::mem::take(&mut self.changed) {
            let Some(file) = self.files.get_mut(&number) else {
                continue;
            };
            let known = file.rows.len();
            file.settle();
            file.shown = Arc::new(shown(&file.rows, &chunk));
            if file.rows.len() > known {
                let positions = file.rows.iter().map(|(position, _)| *position);
                let mask = FileMask::new(Arc::clone(&file.row_groups), positions.collect());
                Arc::make_mut(&mut self.masks).put(path(number), mask);
            }
        }
    }
}

impl File {
    fn settle(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        // Stable: of two changes of a position the later one is behind.
        changes.sort_by_key(|(position, _)| *position);
        let mut settled = Vec::with_capacity(self.rows.len() + changes.len());
        let mut known = std::mem::take(&mut self.rows).into_iter().peekable();
        let mut changes = changes.into_iter().peekable();
        while let Some((position, now)) = changes.next() {
            if changes.peek().is_some_and(|(next, _)| *next == position) {
                continue;
            }
            while let Some(row) = known.next_if(|(known, _)| *known < position) {
                settled.push(row);
            }
            known.next_if(|(known, _)| known.cmp(&position) == Ordering::Equal);
            settled.push((position, now));
        }
        settled.extend(known);
        self.rows = settled;
    }
}

/// The rows of a file as a scan takes them; it holds just the chunks that it names.
fn shown(rows: &[(u32, Now)], chunk: &impl Fn(u32) -> Arc<Chunk>) -> FilePatch {
    // The overlay's number of a chunk → the patch's.
    let mut numbers: Vec<Option<u32>> = Vec::new();
    let mut chunks = Vec::new();
    let (mut patched, mut deleted) = (Vec::with_capacity(rows.len()), Vec::new());
    for (position, now) in rows {
        let Now::Row { chunk: number, row } = *now else {
            deleted.push(*position);
            continue;
        };
        if numbers.len() <= wide(number) {
            numbers.resize(wide(number) + 1, None);
        }
        let own = *numbers[wide(number)].get_or_insert_with(|| {
            chunks.push(chunk(number));
            u32::try_from(chunks.len() - 1).expect("chunks are numbered by 32 bits")
        });
        patched.push(PatchedRow {
            position: *position,
            chunk: own,
            row,
        });
    }
    FilePatch::new(chunks, patched, deleted)
}
