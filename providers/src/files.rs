//! A set of Parquet files as a table: DataFusion's own scan, whole or without the rows of some masks.
//!
//! **Invariant:** the files are those of one Iceberg snapshot and immutable, so the row count of their manifests is
//! exact, and less the masked rows it is still; everything but a limit may be pushed into a scan with masks.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
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
use crate::scan::{LakeReaders, LimitInside, Masks, ViewSource, file_bounds};

/// The rows of one Iceberg snapshot that has data files only. A clone is cheap.
#[derive(Clone, Debug)]
pub struct ParquetTable {
    warehouse: Warehouse,
    schema: SchemaRef,
    files: Arc<[DataFileInfo]>,
    part: Part,
}

/// Which rows of the files are read.
#[derive(Clone, Debug)]
enum Part {
    /// All of them; nothing is said of a view.
    All,
    /// All of them, with this said in `EXPLAIN`.
    Labelled(Arc<str>),
    /// All but the masked ones, with this said in `EXPLAIN`.
    Masked(Arc<Masks>, Arc<str>),
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
            part: Part::All,
        })
    }

    /// With `label` in `EXPLAIN`.
    #[must_use]
    pub(crate) fn labelled(mut self, label: String) -> Self {
        self.part = Part::Labelled(label.into());
        self
    }

    /// Without the rows of `masks`, and with `label` in `EXPLAIN`.
    #[must_use]
    pub(crate) fn without(mut self, masks: Arc<Masks>, label: String) -> Self {
        self.part = Part::Masked(masks, label.into());
        self
    }

    /// The lake that the files are in.
    pub(crate) fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// The files.
    pub(crate) fn files(&self) -> &[DataFileInfo] {
        &self.files
    }

    /// The place of a column.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn column(&self, name: &str) -> Result<usize> {
        Ok(self.schema.index_of(name)?)
    }

    /// A column.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn field(&self, name: &str) -> Result<&Field> {
        Ok(self.schema.field_with_name(name)?)
    }

    /// The file at `at` as DataFusion knows files, whole.
    ///
    /// # Errors
    /// When it is outside the lake.
    pub(crate) fn partitioned_file(&self, at: usize) -> Result<PartitionedFile> {
        let file = &self.files[at];
        // Whole, because `PartitionedFile::new` would encode an encoded path again.
        Ok(PartitionedFile::new_from_meta(ObjectMeta {
            location: self.warehouse.object_path(&file.path)?,
            last_modified: DateTime::<Utc>::UNIX_EPOCH,
            size: file.bytes,
            e_tag: None,
            version: None,
        }))
    }

    /// How its files are read.
    pub(crate) fn source(&self, options: TableParquetOptions) -> ParquetSource {
        let readers = LakeReaders::new(self.warehouse.object_store());
        ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers))
    }

    /// A scan of these groups of its files.
    pub(crate) fn config(
        &self,
        source: ParquetSource,
        groups: Vec<FileGroup>,
    ) -> FileScanConfigBuilder {
        let url = self.warehouse.object_store_url().clone();
        FileScanConfigBuilder::new(url, Arc::new(source)).with_file_groups(groups)
    }

    fn masks(&self) -> Option<&Masks> {
        match &self.part {
            Part::Masked(masks, _) => Some(masks),
            Part::All | Part::Labelled(_) => None,
        }
    }

    /// Rows exactly; of values nothing, so that none of a masked row can be taken for one of the table.
    fn statistics(&self) -> Statistics {
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let rows = rows - self.masks().map_or(0, Masks::rows);
        Statistics {
            num_rows: usize::try_from(rows).map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); self.schema.fields().len()],
        }
    }

    /// The files dealt out to `partitions` groups, so that every core has work.
    fn groups(&self, partitions: usize) -> Result<Vec<FileGroup>> {
        let mut files = Vec::with_capacity(self.files.len());
        for (at, info) in self.files.iter().enumerate() {
            let mut file = self.partitioned_file(at)?;
            let access = self.masks().and_then(|masks| masks.access(&info.path));
            file.extensions = access.map(|access| access as _);
            if let Some(bounds) = file_bounds(&self.schema, info) {
                file = file.with_statistics(Arc::new(bounds));
            }
            files.push(file);
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
        let groups = self.groups(state.config().target_partitions())?;
        let config = self
            .config(self.source(options), groups)
            .with_statistics(self.statistics())
            .with_projection_indices(projection.cloned())?;
        let leaf = match &self.part {
            Part::All => DataSourceExec::from_data_source(config.with_limit(limit).build()),
            Part::Masked(masks, label) if masks.rows() > 0 => {
                let config = Arc::new(config.build());
                ViewSource::exec(config, Arc::clone(label), LimitInside::Never)
            }
            Part::Masked(_, label) | Part::Labelled(label) => {
                let config = Arc::new(config.with_limit(limit).build());
                ViewSource::exec(config, Arc::clone(label), LimitInside::Allowed)
            }
        };
        Ok(leaf)
    }
}
