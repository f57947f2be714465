//! Opens the files of a scan, each in its way: as it is, without its masked rows, or patched; and without its dead rows.
//!
//! **Invariant:** what a patched file gives is what a filter that stands above must still see: a row of the file is left
//! out only by its own values, and when the overlay decides one of those that spoke, the row comes from the overlay.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, ParquetFileMetrics, ParquetFileReaderFactory,
};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet};
use futures::{FutureExt as _, StreamExt as _, stream};
use parquet::file::metadata::ParquetMetaData;

use super::file_marks::{FileMarks, Way};
use super::kept::{Cursor, Kept};
use super::prune::{Access, Pruning};
use super::rewrite::{Order, Rewriter};
use super::{FilePatch, PatchedRow, wide};
use crate::scan::mask;

/// So many rows of a file, on average, are read for each run of deleted rows that the reader is told to skip: it skips
/// long runs for nothing, and pays more for a short one than a filter over its batches does.
const ROWS_A_SKIPPED_RUN: usize = 4_096;

/// One partition's opener.
pub(super) struct PatchOpener {
    /// Opens files as they are.
    pub(super) plain: Arc<dyn FileOpener>,
    /// Opens files with a mask: it never stops at a limit, see [`super::source`].
    pub(super) masked: Arc<dyn FileOpener>,
    /// Opens files to be patched: it reads the columns, whole.
    pub(super) bare: Arc<dyn FileOpener>,
    /// All that opening a file needs beside.
    pub(super) scan: Arc<Scan>,
}

/// What is asked of every file.
pub(super) struct Scan {
    /// The columns of the table's schema that are read.
    pub(super) columns: Arc<[usize]>,
    /// Those of them, and those that the predicate speaks of.
    pub(super) needed: Vec<usize>,
    /// Those that the predicate speaks of.
    pub(super) filtered: Vec<usize>,
    /// What is made of the columns; in terms of `read`.
    pub(super) projection: ProjectionExprs,
    /// The columns' schema.
    pub(super) read: SchemaRef,
    /// How rows are left out.
    pub(super) pruning: Pruning,
    /// Whether rows must come in the order of the file.
    pub(super) order: Order,
    /// Opens footers.
    pub(super) readers: Arc<dyn ParquetFileReaderFactory>,
    /// The partition.
    pub(super) partition: usize,
    /// Where it is all counted.
    pub(super) metrics: ExecutionPlanMetricsSet,
    /// Rows with a cell that was written.
    pub(super) patched_rows: Count,
    /// Bytes of columns that were asked for, in row groups that were left out whole.
    pub(super) bytes_skipped: Count,
}

impl FileOpener for PatchOpener {
    fn open(&self, mut file: PartitionedFile) -> Result<FileOpenFuture> {
        let rows = file.extensions.take().map(|known| known.downcast());
        let Some(Ok(rows)) = rows else {
            return self.plain.open(file);
        };
        let rows: Arc<FileMarks> = rows;
        match rows.way(&self.scan.needed) {
            Way::Plain => self.plain.open(file),
            Way::Masked(left) => {
                file.extensions = Some(left);
                self.masked.open(file)
            }
            Way::Rewritten => self.open_rewritten(file, rows),
        }
    }
}

impl PatchOpener {
    fn open_rewritten(
        &self,
        mut file: PartitionedFile,
        rows: Arc<FileMarks>,
    ) -> Result<FileOpenFuture> {
        let scan = Arc::clone(&self.scan);
        let (bare, masked) = (Arc::clone(&self.bare), Arc::clone(&self.masked));
        let hint = file.metadata_size_hint;
        let (partition, metrics) = (scan.partition, &scan.metrics);
        let readers = &scan.readers;
        let mut reader = readers.create_reader(partition, file.clone(), hint, metrics)?;
        let opened = async move {
            let metadata = reader.get_metadata(None).await?;
            let (groups, patch) = (row_groups(&metadata)?, rows.patch());
            let dropped = within(rows.dropped(), &groups);
            let mut needed = scan.needed.iter();
            if !needed.any(|column| patch.decides(*column))
                && skipping_is_cheaper(&dropped, groups.iter().copied().map(wide).sum())
            {
                // Nothing is written, and the reader prunes by more than is done here.
                file.extensions = Some(Arc::new(mask::without(&groups, &dropped)));
                return masked.open(file)?.await;
            }
            let name = file.object_meta.location.as_ref();
            let counted = ParquetFileMetrics::new(scan.partition, name, &scan.metrics);
            let access = scan.pruning.access(&file, reader, &metadata, &counted);
            let mut access = access.await?;
            if !patch.is_whole() {
                // Rows that are left out come from the overlay, which has not all of them whole.
                access.kept = access.mine.clone();
            }
            scan.count_skipped(&access, &metadata);
            let (access, rewriter) = scan.plan(&patch, &dropped, access, &groups)?;
            // The plan says which row groups are this scan's: the range has done its work.
            file.range = None;
            let batches = if access.row_group_indexes().is_empty() {
                stream::empty().boxed()
            } else {
                file.extensions = Some(Arc::new(access));
                bare.open(file)?.await?
            };
            Ok(rewriter.stream(batches, scan.order))
        };
        Ok(opened.boxed())
    }
}

impl Scan {
    /// What the reader is told to give, and how that is rewritten.
    fn plan(
        &self,
        patch: &Arc<FilePatch>,
        dropped: &[u32],
        access: Access,
        groups: &[u32],
    ) -> Result<(ParquetAccessPlan, Rewriter)> {
        let kept = Kept::new(&access.kept, groups);
        let pending = self.pending(patch, &Kept::new(&access.mine, groups), &kept);
        let deleted = kept.of(dropped);
        let (access, kept, deleted) = if skipping_is_cheaper(&deleted, kept.rows()) {
            let left = without(access.kept, groups, &deleted);
            let kept = Kept::new(&left, groups);
            (left, kept, vec![])
        } else {
            (access.kept, kept, deleted)
        };
        let cells = self.columns.iter().map(|column| patch.column(*column));
        let rewriter = Rewriter {
            patch: Arc::clone(patch),
            columns: Arc::clone(&self.columns),
            cells: cells.collect::<Result<_>>()?,
            cursor: Cursor::new(kept),
            deleted,
            pending,
            read: Arc::clone(&self.read),
            projector: self.projection.make_projector(&self.read)?,
            patched_rows: self.patched_rows.clone(),
        };
        Ok((access, rewriter))
    }

    /// The rows that are left out by values of the file that the overlay has replaced.
    fn pending(&self, patch: &FilePatch, mine: &Kept, kept: &Kept) -> VecDeque<PatchedRow> {
        let mut spoken = self.filtered.iter();
        if !spoken.any(|column| patch.decides(*column)) {
            return VecDeque::new();
        }
        let left_out = patch.rows().iter().filter(|row| {
            let mut spoken = self.filtered.iter();
            mine.contains(row.position)
                && !kept.contains(row.position)
                && spoken.any(|column| patch.decides_cell(**row, *column))
        });
        left_out.copied().collect()
    }

    fn count_skipped(&self, access: &Access, metadata: &ParquetMetaData) {
        let names: Vec<&str> = self
            .read
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let groups = access.mine.inner().iter().zip(access.kept.inner());
        for ((mine, kept), group) in groups.zip(metadata.row_groups()) {
            if !mine.should_scan() || kept.should_scan() {
                continue;
            }
            let columns = group.columns().iter();
            let asked = columns.filter(|column| {
                let root = column.column_path().parts().first();
                root.is_some_and(|root| names.contains(&root.as_str()))
            });
            let bytes: i64 = asked.map(|column| column.compressed_size()).sum();
            self.bytes_skipped.add(usize::try_from(bytes).unwrap_or(0));
        }
    }
}

/// The rows of each row group of a file.
fn row_groups(metadata: &ParquetMetaData) -> Result<Vec<u32>> {
    let groups = metadata.row_groups().iter();
    let groups = groups.map(|group| u32::try_from(group.num_rows()));
    let groups: std::result::Result<_, _> = groups.collect();
    groups.map_err(|error| DataFusionError::External(error.into()))
}

/// Those of the positions that the file has: its manifest may have counted more rows than it holds.
fn within<'a>(positions: Cow<'a, [u32]>, groups: &[u32]) -> Cow<'a, [u32]> {
    let rows: usize = groups.iter().copied().map(wide).sum();
    match positions.partition_point(|position| wide(*position) < rows) {
        all if all == positions.len() => positions,
        some => Cow::Owned(positions[..some].to_vec()),
    }
}

/// Whether deleted rows are better skipped by the reader than filtered out of its batches.
fn skipping_is_cheaper(deleted: &[u32], rows: usize) -> bool {
    let gaps = deleted.windows(2).filter(|pair| pair[0] + 1 < pair[1]);
    let runs = gaps.count() + usize::from(!deleted.is_empty());
    runs > 0 && runs * ROWS_A_SKIPPED_RUN <= rows
}

/// What is left of `access` without the deleted rows.
fn without(access: ParquetAccessPlan, groups: &[u32], deleted: &[u32]) -> ParquetAccessPlan {
    let left = mask::without(groups, deleted);
    let both = access.into_inner().into_iter().zip(left.into_inner());
    let both = both.map(|both| match both {
        (RowGroupAccess::Skip, _) | (_, RowGroupAccess::Skip) => RowGroupAccess::Skip,
        (RowGroupAccess::Scan, other) | (other, RowGroupAccess::Scan) => other,
        (RowGroupAccess::Selection(one), RowGroupAccess::Selection(other)) => {
            let both = one.intersection(&other);
            if both.selects_any() {
                RowGroupAccess::Selection(both)
            } else {
                RowGroupAccess::Skip
            }
        }
    });
    ParquetAccessPlan::new(both.collect())
}
