//! How a query's rows are divided between the files of the base and the overlay.
//!
//! ```text
//!   file        the base gives               the overlay gives
//!   plain       all rows                     nothing
//!   patched     the rows as the view has     nothing
//!   masked      the rows that no delta       the touched rows that exist, complete
//!               touches
//! ```
//! A touched file is patched, unless the bounds of its values show that the filter holds for none of its rows as they
//! are: then nobody need open it, and the overlay has what the deltas made of it. A file of which deltas deleted much is
//! masked too, for the reader then leaves out whole pages.
//!
//! **Invariant:** every row of the view is given once: by its file, or by the overlay.

use std::any::Any;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};

use super::mask::Masks;
use super::patch::{FilePatch, LiveChunk, Place};
use super::split::Split;
use crate::lake::DataFileInfo;
use crate::overlay::Resolved;

/// A file is masked when one of so many of its rows is deleted, or more.
const MASKED_FROM: u64 = 8;

/// How one file is read.
#[derive(Clone, Debug)]
enum How {
    Plain,
    Patched(Arc<FilePatch>),
    Masked {
        left: Arc<ParquetAccessPlan>,
        rows: u64,
    },
}

/// The division of one view's rows for one query.
#[derive(Debug)]
pub(crate) struct Division {
    files: Vec<How>,
    of: Of,
}

/// What is divided.
#[derive(Debug)]
enum Of {
    /// A read view.
    View(Split),
    /// Something that has no overlay: what `EXPLAIN` says of it.
    Files(String),
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
    /// Divides the rows of `files`, of which a filter leaves out those that `left_out` names, whole.
    pub(crate) fn choose(
        split: Split,
        resolved: &Resolved,
        masks: &Masks,
        files: &[DataFileInfo],
        choice: (Patching, &[bool]),
    ) -> Self {
        let (patching, left_out) = choice;
        let files = files.iter().enumerate().map(|(at, info)| {
            let number = u32::try_from(at).expect("a snapshot has no 4 billion files");
            let Some(patch) = resolved.patches.get(&number) else {
                return How::Plain;
            };
            let deleted = wider(patch.deleted().len());
            let pays = left_out.get(at).copied().unwrap_or(false)
                || deleted.saturating_mul(MASKED_FROM) >= info.rows;
            // Rows that are not held whole are read for a patch anyhow, and for a mask once more.
            let masked = patching == Patching::Never || (pays && patch.is_whole());
            match masks.access(&info.path).filter(|_| masked) {
                Some(left) => How::Masked {
                    left,
                    rows: wider(patch.touched()),
                },
                None => How::Patched(Arc::clone(patch)),
            }
        });
        Self {
            files: files.collect(),
            of: Of::View(split),
        }
    }

    /// `files` without the rows of `masks`, which nobody gives instead.
    pub(crate) fn masked(masks: &Masks, files: &[DataFileInfo], said: String) -> Self {
        let files = files.iter().map(|info| match masks.access(&info.path) {
            Some(left) => How::Masked {
                left,
                rows: masks.rows_of(&info.path),
            },
            None => How::Plain,
        });
        Self {
            files: files.collect(),
            of: Of::Files(said),
        }
    }

    /// What the source has to know of a file.
    pub(crate) fn extension(&self, file: usize) -> Option<Arc<dyn Any + Send + Sync>> {
        match &self.files[file] {
            How::Plain => None,
            How::Patched(patch) => Some(Arc::clone(patch) as _),
            How::Masked { left, .. } => Some(Arc::clone(left) as _),
        }
    }

    /// How many rows of the files are not given.
    pub(crate) fn masked_rows(&self) -> u64 {
        let rows = self.files.iter().map(|file| match file {
            How::Plain => 0,
            How::Patched(patch) => wider(patch.deleted().len()),
            How::Masked { rows, .. } => *rows,
        });
        rows.sum()
    }

    /// Whether some file may be patched.
    pub(crate) fn patches(&self) -> bool {
        let mut files = self.files.iter();
        files.any(|file| matches!(file, How::Patched(_)))
    }

    /// Whether some file may be patched in this column of the schema.
    pub(crate) fn patches_column(&self, column: usize) -> bool {
        let mut files = self.files.iter();
        files.any(|file| matches!(file, How::Patched(patch) if patch.decides(column)))
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
            matches!(file, Some(How::Masked { .. }))
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
        for file in &self.files {
            match file {
                How::Masked { .. } => masked += 1,
                How::Patched(patch) if patch.changes(columns.iter().copied()) => {
                    patched += 1;
                    patched_rows += patch.rows().len();
                }
                How::Plain | How::Patched(_) => plain += 1,
            }
        }
        let left_out = self.masked_rows();
        let split = format!(
            "files_plain={plain}, files_patched={patched}, files_masked={masked}, masked_rows={left_out}, \
             patched_rows={patched_rows}"
        );
        match &self.of {
            Of::View(view) => format!("{split}, {view}"),
            Of::Files(said) => format!("{split}, {said}"),
        }
    }

    /// Puts what is known before a row is read among the metrics.
    pub(crate) fn count(&self, metrics: &ExecutionPlanMetricsSet) {
        let gauge = |name| MetricBuilder::new(metrics).global_gauge(name);
        let masked = usize::try_from(self.masked_rows()).unwrap_or(usize::MAX);
        gauge("masked_rows").set(masked);
        let Of::View(split) = &self.of else {
            return;
        };
        gauge("overlay_rows").set(split.overlay_rows);
        if let Some(age) = split.freshness_ms {
            gauge("freshness_ms").set(usize::try_from(age).unwrap_or(usize::MAX));
        }
    }
}

fn wider(rows: usize) -> u64 {
    u64::try_from(rows).expect("no larger machine than 64 bits is built for")
}
