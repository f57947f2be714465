//! One data file by itself: its row groups, the hashes of its row ids, and the rows at some positions.
//!
//! **Invariant:** rows come in the order of the file, so the n-th is at the n-th of the positions that were asked for.

use std::sync::{Arc, LazyLock};

use arrow::array::AsArray as _;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetAccessPlan,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::cache::DefaultFilesMetadataCache;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::ExecutionPlan as _;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use lakesync_proto::columns;

use super::locator::Columns;
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::lake::DataFileInfo;

/// How many bytes of footers, with their page indexes, the process keeps (32 MiB).
const FOOTER_BYTES_MAX: usize = 32 << 20;

/// Footers by path. A file is never written twice, so one is never stale.
static FOOTERS: LazyLock<Arc<dyn FileMetadataCache>> =
    LazyLock::new(|| Arc::new(DefaultFilesMetadataCache::new(FOOTER_BYTES_MAX)));

/// One of a table's data files, with the session that it is read in.
#[derive(Clone, Copy)]
pub(super) struct DataFile<'a> {
    /// The session.
    pub(super) ctx: &'a SessionContext,
    /// The table.
    pub(super) table: &'a ParquetTable,
    /// Which of its files.
    pub(super) at: usize,
}

impl DataFile<'_> {
    /// What its manifest says.
    pub(super) fn info(&self) -> &DataFileInfo {
        &self.table.files()[self.at]
    }

    /// The rows of each of its row groups; none when one has more than 32 bits count.
    ///
    /// # Errors
    /// When the footer cannot be read.
    pub(super) async fn row_groups(&self) -> Result<Option<Arc<[u32]>>> {
        let store = self.table.warehouse().object_store();
        let file = self.table.partitioned_file(self.at)?;
        let metadata = DFParquetMetadata::new(store.as_ref(), &file.object_meta)
            .with_file_metadata_cache(Some(Arc::clone(&FOOTERS)))
            .fetch_metadata()
            .await?;
        let groups = metadata.row_groups().iter();
        let rows = groups.map(|group| u32::try_from(group.num_rows()).ok());
        Ok(rows.collect())
    }

    /// The row ids by `hash`, a batch at a time.
    ///
    /// # Errors
    /// When the file cannot be opened; the stream's, when it cannot be read.
    pub(super) fn hashed_ids<'h>(
        &self,
        hash: impl Fn(&str) -> u64 + Send + 'h,
    ) -> Result<BoxStream<'h, Result<Vec<u64>>>> {
        let projection = vec![self.table.column(columns::ROW_ID)?];
        let hashes = self.read(None, Some(projection))?.map(move |batch| {
            let batch = batch?;
            let ids = batch.column(0).as_string_opt::<i32>().ok_or_else(|| {
                ArrowError::SchemaError("a row id is a text in every table".to_owned())
            })?;
            let ids = ids.iter().flatten();
            Ok(ids.map(&hash).collect())
        });
        Ok(hashes.boxed())
    }

    /// The rows that `access` lets through, with these columns, a batch at a time.
    ///
    /// # Errors
    /// As [`Self::hashed_ids`].
    pub(super) fn rows(
        &self,
        access: ParquetAccessPlan,
        wanted: Columns,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let projection = match wanted {
            Columns::All => None,
            Columns::RowId => Some(vec![self.table.column(columns::ROW_ID)?]),
        };
        self.read(Some(access), projection)
    }

    fn read(
        &self,
        access: Option<ParquetAccessPlan>,
        projection: Option<Vec<usize>>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut file = self.table.partitioned_file(self.at)?;
        file.extensions = access.map(|access| Arc::new(access) as _);
        // With the page index at hand, pages without a wanted row are not read at all.
        let store = self.table.warehouse().object_store();
        let reader = CachedParquetFileReaderFactory::new(store, Arc::clone(&FOOTERS));
        let options = TableParquetOptions::default();
        let source = self
            .table
            .source(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let config = self
            .table
            .config(source, vec![vec![file].into()])
            .with_projection_indices(projection)?
            .build();
        let leaf = DataSourceExec::from_data_source(config);
        let batches = leaf.execute(0, self.ctx.task_ctx())?;
        Ok(batches.map_err(Error::from).boxed())
    }
}
