//! One data file by itself: its footer, its row ids, and the rows at some positions.
//!
//! **Invariant:** rows come in the order of the file, so the n-th is at the n-th of the positions that were asked for.
//! All rows of the file come, dead ones too: who reads it by position knows which those are.

use std::sync::Arc;

use arrow::array::{AsArray as _, StringArray};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan as _;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use lakesync_proto::columns;
use parquet::file::metadata::ParquetMetaData;

use super::footers::Footers;
use super::locator::Columns;
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::lake::DataFileInfo;

/// One of a table's data files, with the session that it is read in. A clone is cheap.
#[derive(Clone, Debug)]
pub(super) struct DataFile {
    /// The session's part in it.
    pub(super) task: Arc<TaskContext>,
    /// The table.
    pub(super) table: ParquetTable,
    /// Which of its files.
    pub(super) at: usize,
}

impl DataFile {
    /// What its manifest says.
    pub(super) fn info(&self) -> &DataFileInfo {
        &self.table.files()[self.at]
    }

    /// Its footer.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn footer(&self) -> Result<Arc<ParquetMetaData>> {
        let store = self.table.warehouse().object_store();
        let file = self.table.partitioned_file(self.at)?;
        let footer = Footers::of_process().get(&store, &file.object_meta).await;
        Ok(footer.map_err(DataFusionError::from)?)
    }

    /// The row ids, a batch at a time.
    ///
    /// # Errors
    /// When the file cannot be opened; the stream's, when it cannot be read.
    pub(super) fn ids(&self) -> Result<BoxStream<'static, Result<StringArray>>> {
        let projection = vec![self.table.column(columns::ROW_ID)?];
        let ids = self.read(None, Some(projection))?.map(move |batch| {
            let batch = batch?;
            let ids = batch.column(0).as_string_opt::<i32>().ok_or_else(|| {
                ArrowError::SchemaError("a row id is a text in every table".to_owned())
            })?;
            Ok(ids.clone())
        });
        Ok(ids.boxed())
    }

    /// Some columns of all rows, by their numbers in the table's schema, a batch at a time.
    ///
    /// # Errors
    /// As [`Self::ids`].
    pub(super) fn columns(
        &self,
        columns: Vec<usize>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        self.read(None, Some(columns))
    }

    /// The rows that `access` lets through, with these columns, a batch at a time.
    ///
    /// # Errors
    /// As [`Self::ids`].
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
        // With the page index at hand, pages without a wanted row are not read at all.
        file.extensions = access.map(|access| Arc::new(access) as _);
        let source = self.table.source(TableParquetOptions::default());
        let config = self
            .table
            .config(source, vec![vec![file].into()])
            .with_projection_indices(projection)?
            .build();
        let leaf = DataSourceExec::from_data_source(config);
        let batches = leaf.execute(0, Arc::clone(&self.task))?;
        Ok(batches.map_err(Error::from).boxed())
    }
}

/// The rows of each row group; none when one has more than 32 bits count.
pub(super) fn row_groups(footer: &ParquetMetaData) -> Option<Arc<[u32]>> {
    let groups = footer.row_groups().iter();
    groups
        .map(|group| u32::try_from(group.num_rows()).ok())
        .collect()
}
