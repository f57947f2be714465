//! A set of Parquet files as a table: DataFusion's own scan, whole or without the rows of some masks.
//!
//! **Invariant:** the files are those of one Iceberg snapshot and immutable, so the row count of their manifests is
//! exact, and less the masked and the dead rows it is still; everything but a limit may be pushed into a scan with masks.
//! A dead row is in no scan.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{Result as QueryResult, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::MetricBuilder;
use iceberg::spec::DataContentType;
use iceberg::table::Table;
use object_store::ObjectMeta;

use crate::error::{Error, Result};
use crate::foreign::Layout;
use crate::lake::{DataFileInfo, Warehouse, arrow_schema};
use crate::pins::Pin;
use crate::scan::{
    Dead, Division, FieldIds, GuardedSource, KnownFiles, LakeReaders, PatchSource, ViewSource,
    as_asked_for, in_order,
};
use crate::text_views::with_text_views;

/// The rows of some data files of one Iceberg snapshot. A clone is cheap.
#[derive(Clone, Debug)]
pub struct ParquetTable {
    warehouse: Warehouse,
    schema: SchemaRef,
    ids: Arc<FieldIds>,
    files: Arc<KnownFiles>,
    /// The rows that delete files take away.
    dead: Arc<Dead>,
    /// All rows but those; none when there are none.
    alive: Option<Arc<Division>>,
    part: Part,
    /// Held by whoever reads the files.
    pin: Option<Arc<Pin>>,
}

/// Which rows of the files are read.
#[derive(Clone, Debug)]
enum Part {
    /// All that are not dead; nothing is said of a view.
    All,
    /// The same, with this said in `EXPLAIN`.
    Labelled(Arc<str>),
    /// As a view divides them between files and overlay.
    Divided(Arc<Division>),
}

impl ParquetTable {
    /// All rows of `files`, which are live data files of a snapshot of `table`.
    ///
    /// # Errors
    /// [`Error::DeleteFiles`] when there are delete files among them, which nobody applies; lake errors when the schema
    /// has no Arrow form.
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
        let schema = arrow_schema(table)?;
        Ok(Self {
            warehouse: warehouse.clone(),
            ids: Arc::default(),
            files: Arc::new(KnownFiles::new(table, &schema, files)),
            schema,
            dead: Arc::default(),
            alive: None,
            part: Part::All,
            pin: None,
        })
    }

    /// The rows of `files`, all of them data, with the columns of a layout.
    pub(crate) fn of_files(
        warehouse: &Warehouse,
        layout: &Layout,
        files: Arc<[DataFileInfo]>,
    ) -> Self {
        Self {
            warehouse: warehouse.clone(),
            schema: Arc::clone(layout.read()),
            ids: Arc::clone(layout.ids()),
            files: Arc::new(KnownFiles::foreign(files)),
            dead: Arc::default(),
            alive: None,
            part: Part::All,
            pin: None,
        }
    }

    /// Whose scans hold this pin until they end.
    #[must_use]
    pub(crate) fn pinned(mut self, pin: Option<&Arc<Pin>>) -> Self {
        self.pin = pin.map(Arc::clone);
        self
    }

    /// Without the rows that are dead in its files.
    #[must_use]
    pub(crate) fn without(mut self, dead: Dead) -> Self {
        self.dead = Arc::new(dead);
        let alive = || Division::without(Arc::clone(&self.dead), self.files().len());
        self.alive = (!self.dead.is_empty()).then(|| Arc::new(alive()));
        self
    }

    /// With its texts as views, as queries read them.
    #[must_use]
    pub(crate) fn with_text_views(mut self) -> Self {
        self.schema = with_text_views(&self.schema);
        self
    }

    /// With `label` in `EXPLAIN`.
    #[must_use]
    pub(crate) fn labelled(mut self, label: String) -> Self {
        self.part = Part::Labelled(label.into());
        self
    }

    /// As a view divides its rows between files and overlay.
    #[must_use]
    pub(crate) fn divided(mut self, division: Division) -> Self {
        self.part = Part::Divided(Arc::new(division));
        self
    }

    /// The lake that the files are in.
    pub(crate) fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// The files.
    pub(crate) fn files(&self) -> &[DataFileInfo] {
        self.files.infos()
    }

    /// How many bytes a row of its files takes on average, as they are written.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        let files = self.files().iter();
        let (bytes, rows) = files.fold((0_u64, 0_u64), |(bytes, rows), file| {
            (bytes + file.bytes, rows + file.rows)
        });
        bytes / rows.max(1)
    }

    /// The files, to keep.
    pub(crate) fn shared_files(&self) -> &Arc<[DataFileInfo]> {
        self.files.shared_infos()
    }

    /// The rows that delete files take away from them.
    pub(crate) fn dead(&self) -> &Arc<Dead> {
        &self.dead
    }

    /// Whether no row of this file is left.
    pub(crate) fn is_all_dead(&self, file: usize) -> bool {
        let dead = self.dead.at(file);
        dead.is_some_and(|dead| dead.rows() >= self.files()[file].rows)
    }

    /// Of each file whether one of these filters holds for none of its rows; nothing when that is not known of any.
    pub(crate) fn left_out(&self, state: &dyn Session, filters: &[Expr]) -> Vec<bool> {
        self.files.left_out(state, &self.schema, filters)
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
        let file = &self.files()[at];
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
        let readers = LakeReaders::new(self.warehouse.object_store(), self.pin.as_ref());
        ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers))
    }

    /// A scan of these groups of its files.
    pub(crate) fn config(
        &self,
        source: impl Into<Arc<dyn FileSource>>,
        groups: Vec<FileGroup>,
    ) -> FileScanConfigBuilder {
        let url = self.warehouse.object_store_url().clone();
        FileScanConfigBuilder::new(url, source.into())
            .with_file_groups(groups)
            .with_expr_adapter(Some(Arc::clone(&self.ids) as _))
    }

    fn division(&self) -> Option<&Arc<Division>> {
        match &self.part {
            Part::Divided(division) => Some(division),
            Part::All | Part::Labelled(_) => self.alive.as_ref(),
        }
    }

    /// Rows exactly, without a filter; of values what is so of all rows, and an estimate where some are masked, dead or
    /// patched.
    fn statistics(&self, left_out: usize) -> Statistics {
        let total = self.files.total(&self.schema).clone();
        let Some(division) = self.division() else {
            return if left_out > 0 {
                total.to_inexact()
            } else {
                total
            };
        };
        let missing = division.missing_rows();
        if missing == 0 && !division.patches() && left_out == 0 {
            return total;
        }
        let rows: u64 = self.files().iter().map(|file| file.rows).sum();
        let left = usize::try_from(rows.saturating_sub(missing))
            .map_or(Precision::Absent, Precision::Exact);
        let mut statistics = total.to_inexact();
        if left_out == 0 {
            statistics.num_rows = left;
            // Those of all rows may be more than the rows that are left, and DataFusion 53.1 subtracts without a look.
            for column in &mut statistics.column_statistics {
                column.null_count = Precision::Absent;
            }
        }
        statistics
    }

    /// The files that a scan with these filters opens, and how many of them the filters spare. One stays at least: a plan
    /// needs a leaf.
    fn opened(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<(Vec<PartitionedFile>, usize)> {
        let left_out = self.left_out(state, filters);
        let mut files = Vec::with_capacity(self.files().len());
        let mut spared = 0;
        for at in 0..self.files().len() {
            let division = self.division();
            // The rows of a patched file are not those that its bounds speak of.
            let patched = division.is_some_and(|files| files.patches_file(at));
            let last = at + 1 == self.files().len() && files.is_empty();
            if left_out.get(at).copied().unwrap_or(false) && !patched && !last {
                spared += 1;
                continue;
            }
            if self.is_all_dead(at) && !last {
                continue;
            }
            let mut file = self.partitioned_file(at)?;
            file.extensions = division.and_then(|files| files.extension(at));
            file.statistics = self.files.bounds(&self.schema, at);
            files.push(file);
        }
        Ok((files, spared))
    }

    /// The files dealt out to groups, so that every core has work, and the order of the rows in each group.
    fn groups(
        &self,
        state: &dyn Session,
        files: Vec<PartitionedFile>,
    ) -> (Vec<FileGroup>, Option<LexOrdering>) {
        let partitions = state.config().target_partitions().max(1);
        let mut files = files;
        if let Some(order) = self.order() {
            let split_from = state.config_options().optimizer.repartition_file_min_size;
            match in_order(files, order, partitions, split_from) {
                Ok(groups) => {
                    let order = as_asked_for(order, &groups);
                    return (groups, Some(order));
                }
                Err(back) => files = back,
            }
        }
        (FileGroup::new(files).split_files(partitions), None)
    }

    /// The order of the rows of each file as they are given: a patch that sets a sorted column takes it away.
    fn order(&self) -> Option<&LexOrdering> {
        let order = self.files.order()?;
        let columns = order.iter().map(|field| field.expr.as_any().downcast_ref());
        let patched = |column: Option<&Column>| {
            let column = column.map(Column::index);
            let division = self.division();
            division.is_some_and(|files| column.is_none_or(|column| files.patches_column(column)))
        };
        (!columns.into_iter().any(patched)).then_some(order)
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        if self.files().is_empty() {
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
        let (files, spared) = self.opened(state, filters)?;
        let (groups, order) = self.groups(state, files);
        let source = self.source(options);
        let metrics = MetricBuilder::new(FileSource::metrics(&source));
        metrics.global_gauge("files_left_out").set(spared);
        let source: Arc<dyn FileSource> = match self.division() {
            Some(division) => PatchSource::new(source, Arc::clone(division)).into(),
            None => source.into(),
        };
        let config = self
            .config(GuardedSource::around(source), groups)
            .with_statistics(self.statistics(spared))
            .with_output_ordering(order.into_iter().collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        let leaf = match &self.part {
            Part::All | Part::Divided(_) => DataSourceExec::from_data_source(config),
            Part::Labelled(label) => ViewSource::exec(Arc::new(config), Arc::clone(label)),
        };
        Ok(leaf)
    }
}
