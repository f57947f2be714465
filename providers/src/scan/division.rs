//! How a query's rows are divided between the files of the base and the overlay.
//!
//! ```text
//!   file        the base gives               the overlay gives
//!   plain       all rows                     nothing
//!   patched     the rows as the view has     nothing
//!   masked      the rows that no delta       the touched rows that exist, complete
//!               touches
//! ```
//! Rows that the snapshot's delete files take away are given by nobody, however their file is read.
//!
//! A touched file is patched, unless the bounds of its values show that the filter holds for none of its rows as they
//! are: then nobody need open it, and the overlay has what the deltas made of it. A file of which deltas deleted much is
//! masked too, for the reader then leaves out whole pages.
//!
//! **Invariant:** every row of the view is given once: by its file, or by the overlay.

use std::any::Any;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};

use super::dead::Dead;
use super::mask::Masks;
use super::patch::{FileMarks, LiveChunk, Place, Touch};
use super::split::Split;
use crate::files::ParquetTable;
use crate::overlay::Resolved;

/// A file is masked when one of so many of its rows is deleted, or more.
const MASKED_FROM: u64 = 8;

/// The division of one view's rows for one query.
#[derive(Debug)]
pub(crate) struct Division {
    files: Vec<Touch>,
    dead: Arc<Dead>,
    of: Of,
}

/// What is divided.
#[derive(Debug)]
enum Of {
    /// A read view.
    View(Split),
    /// Files, of which delete files take away rows.
    Files,
}

/// Which files are patched at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patching {
    /// Those where it is best.
    WhereBest,
    /// None: what patched reads are compared with.
    Never,
}

impl Division {
    /// Divides the rows of `base`, of whose files a filter leaves out those that `left_out` names, whole.
    pub(crate) fn choose(
        split: Split,
        resolved: &Resolved,
        masks: &Masks,
        base: &ParquetTable,
        choice: (Patching, &[bool]),
    ) -> Self {
        let (patching, left_out) = choice;
        let files = base.files().iter().enumerate().map(|(at, info)| {
            let number = u32::try_from(at).expect("a snapshot has no 4 billion files");
            let Some(patch) = resolved.patches.get(&number) else {
                return Touch::Nothing;
            };
            let deleted = wider(patch.deleted().len());
            let pays = left_out.get(at).copied().unwrap_or(false)
                || deleted.saturating_mul(MASKED_FROM) >= info.rows;
            // Rows that are not held whole are read for a patch anyhow, and for a mask once more.
            let masked = patching == Patching::Never || (pays && patch.is_whole());
            match masks.of(&info.path).filter(|_| masked) {
                Some(mask) => Touch::Masked(Arc::clone(mask)),
                None => Touch::Patched(Arc::clone(patch)),
            }
        });
        Self {
            files: files.collect(),
            dead: Arc::clone(base.dead()),
            of: Of::View(split),
        }
    }

    /// All rows of so many files but the dead ones.
    pub(crate) fn without(dead: Arc<Dead>, files: usize) -> Self {
        Self {
            files: vec![Touch::Nothing; files],
            dead,
            of: Of::Files,
        }
    }

    /// What the source has to know of a file.
    pub(crate) fn extension(&self, file: usize) -> Option<Arc<dyn Any + Send + Sync>> {
        let rows = FileMarks {
            touched: self.files[file].clone(),
            dead: self.dead.at(file).map(Arc::clone),
        };
        match (&rows.touched, &rows.dead) {
            (Touch::Nothing, None) => None,
            _ => Some(Arc::new(rows)),
        }
    }

    /// How many rows of the files are not given because the overlay says so.
    fn masked_rows(&self) -> u64 {
        let rows = self.files.iter().map(|file| match file {
            Touch::Nothing => 0,
            Touch::Patched(patch) => wider(patch.deleted().len()),
            Touch::Masked(mask) => mask.rows(),
        });
        rows.sum()
    }

    /// How many rows of the files are not given.
    pub(crate) fn missing_rows(&self) -> u64 {
        self.masked_rows() + self.dead.rows()
    }

    /// Whether some file may be patched.
    pub(crate) fn patches(&self) -> bool {
        let mut files = self.files.iter();
        files.any(|file| matches!(file, Touch::Patched(_)))
    }

    /// Whether this file may be patched.
    pub(crate) fn patches_file(&self, file: usize) -> bool {
        matches!(self.files[file], Touch::Patched(_))
    }

    /// Whether the batches of some file may be rewritten: then a filter may not have seen their rows.
    pub(crate) fn rewrites(&self) -> bool {
        !self.dead.is_empty() || self.patches()
    }

    /// Whether some file may be patched in this column of the schema.
    pub(crate) fn patches_column(&self, column: usize) -> bool {
        let mut files = self.files.iter();
        files.any(|file| matches!(file, Touch::Patched(patch) if patch.decides(column)))
    }

    /// The rows that the overlay gives, of these of its chunks.
    pub(crate) fn overlay(&self, chunks: &[LiveChunk]) -> Vec<LiveChunk> {
        let mut given = Vec::new();
        for LiveChunk { chunk, live } in chunks {
            let places = chunk.places.iter();
            let mine: BooleanBuffer = places.map(|place| self.is_overlays(*place)).collect();
            let mine = match live {
                Some(live) => &mine & live,
                None => mine,
            };
            let count = mine.count_set_bits();
            if count > 0 {
                given.push(LiveChunk {
                    chunk: Arc::clone(chunk),
                    live: (count < mine.len()).then_some(mine),
                });
            }
        }
        given
    }

    fn is_overlays(&self, place: Option<Place>) -> bool {
        place.is_none_or(|place| {
            let file = self.files.get(super::key_index::wide(place.file));
            matches!(file, Some(Touch::Masked(_)))
        })
    }

    /// With so many rows from the overlay.
    #[must_use]
    pub(crate) fn with_overlay_rows(mut self, rows: usize) -> Self {
        if let Of::View(split) = &mut self.of {
            split.overlay_rows = rows;
        }
        self
    }

    /// What `EXPLAIN` says to one who reads these columns.
    pub(crate) fn label(&self, columns: &[usize]) -> String {
        let (mut plain, mut patched, mut masked, mut patched_rows) = (0, 0, 0, 0);
        for (at, file) in self.files.iter().enumerate() {
            match file {
                Touch::Patched(patch) if patch.changes(columns.iter().copied()) => {
                    patched += 1;
                    patched_rows += patch.rows().len();
                }
                Touch::Masked(_) => masked += 1,
                Touch::Nothing | Touch::Patched(_) if self.dead.at(at).is_some() => masked += 1,
                Touch::Nothing | Touch::Patched(_) => plain += 1,
            }
        }
        let dead = match self.dead.rows() {
            0 => String::new(),
            rows => format!(", dead_rows={rows}"),
        };
        match &self.of {
            Of::Files => format!("files_plain={plain}, files_masked={masked}{dead}"),
            Of::View(view) => format!(
                "files_plain={plain}, files_patched={patched}, files_masked={masked}, masked_rows={}, \
                 patched_rows={patched_rows}{dead}, {view}",
                self.masked_rows()
            ),
        }
    }

    /// Puts what is known before a row is read among the metrics.
    pub(crate) fn count(&self, metrics: &ExecutionPlanMetricsSet) {
        let gauge = |name| MetricBuilder::new(metrics).global_gauge(name);
        let narrow = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        gauge("masked_rows").set(narrow(self.masked_rows()));
        if !self.dead.is_empty() {
            gauge("dead_rows").set(narrow(self.dead.rows()));
        }
        let Of::View(split) = &self.of else {
            return;
        };
        gauge("overlay_rows").set(split.overlay_rows);
        if let Some(age) = split.freshness_ms {
            gauge("freshness_ms").set(narrow(age));
        }
    }
}

fn wider(rows: usize) -> u64 {
    u64::try_from(rows).expect("no larger machine than 64 bits is built for")
}
