//! A set of Parquet files as a plain table: DataFusion's own scan, nothing in between.
//!
//! **Invariant:** the files are those of one Iceberg snapshot and immutable, so the row count of their
//! manifests is exact and everything may be pushed into the scan.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result as QueryResult, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use iceberg::spec::DataContentType;
use iceberg::table::Table;
use object_store::ObjectMeta;

use crate::error::{Error, Result};
use crate::lake::{DataFileInfo, Warehouse, arrow_schema};

/// The rows of one Iceberg snapshot that has data files only.
#[derive(Debug)]
pub struct ParquetTable {
    warehouse: Warehouse,
    schema: SchemaRef,
    files: Arc<[DataFileInfo]>,
}

impl ParquetTable {
    /// The rows of `files`, which are the live files of a snapshot of `table`.
    ///
    /// # Errors
    /// [`Error::DeleteFiles`] when another engine left delete files; lake errors when the schema has no Arrow form.
    pub fn open(warehouse: &Warehouse, table: &Table, files: Arc<[DataFileInfo]>) -> Result<Self> {
        let deletes = files
            .iter()
            .filter(|f| f.content != DataContentType::Data)
            .count();
        if deletes > 0 {
            return Err(Error::DeleteFiles {
                table: table.identifier().to_string(),
                count: deletes,
            });
        }
        Ok(Self {
            warehouse: warehouse.clone(),
            schema: arrow_schema(table)?,
            files,
        })
    }

    fn statistics(&self) -> Statistics {
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        Statistics {
            num_rows: usize::try_from(rows).map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); self.schema.fields().len()],
        }
    }

    /// The files dealt out to `partitions` groups, so that every core has work.
    fn groups(&self, partitions: usize) -> QueryResult<Vec<FileGroup>> {
        let mut files = Vec::with_capacity(self.files.len());
        for file in self.files.iter() {
            // Whole, because `PartitionedFile::new` would encode an encoded path again.
            files.push(PartitionedFile::new_from_meta(ObjectMeta {
                location: self
                    .warehouse
                    .object_path(&file.path)
                    .map_err(Error::from)?,
                last_modified: DateTime::<Utc>::UNIX_EPOCH,
                size: file.bytes,
                e_tag: None,
                version: None,
            }));
        }
        Ok(FileGroup::new(files).split_files(partitions.max(1)))
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        // The filter stays above the scan and also prunes inside it (physical filter pushdown).
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema.project(columns)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let source =
            ParquetSource::new(Arc::clone(&self.schema)).with_table_parquet_options(options);
        let source = Arc::new(source);
        let url = self.warehouse.object_store_url().clone();
        let config = FileScanConfigBuilder::new(url, source)
            .with_file_groups(self.groups(state.config().target_partitions())?)
            .with_statistics(self.statistics())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
