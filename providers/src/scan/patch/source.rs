//! DataFusion's Parquet source, patching: the source that a scan of a base with touched rows has.
//!
//! Everything but opening a file is the inner source's. A file whose rows the overlay changes, as far as the scan looks,
//! is read whole by a source of its own that knows nothing of filters and expressions; both come after the patch.
//!
//! DataFusion 53.1 replaces the rows that a file may give by whole row groups when their statistics prove that a filter
//! holds for all of their rows and a limit is in the scan (datafusion#22941): masked rows would be back. So files with
//! masks are opened by an opener without a limit; the stream of the files ends at the limit all the same.
//!
//! **Invariant:** as long as a file may be rewritten, no filter counts as applied.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileOpener, FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::ObjectStore;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_adapter::DefaultPhysicalExprAdapterFactory;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};

use super::opener::{PatchOpener, Scan};
use super::prune::Pruning;
use super::rewrite::Order;
use crate::scan::division::Division;

/// A Parquet source over a divided base.
#[derive(Clone)]
pub(crate) struct PatchSource {
    /// What DataFusion has made of the source, with projection and predicate.
    inner: Arc<dyn FileSource>,
    /// The source as it was: what patched files are read with.
    bare: ParquetSource,
    division: Arc<Division>,
    batch_rows: Option<usize>,
}

impl PatchSource {
    /// `source`, which has no projection and no predicate yet, over files as `division` divides them.
    pub(crate) fn new(source: ParquetSource, division: Arc<Division>) -> Self {
        division.count(FileSource::metrics(&source));
        Self {
            inner: Arc::new(source.clone()),
            bare: source,
            division,
            batch_rows: None,
        }
    }

    fn around(&self, inner: Arc<dyn FileSource>) -> Self {
        Self {
            inner,
            ..self.clone()
        }
    }

    fn schema(&self) -> &SchemaRef {
        self.table_schema().table_schema()
    }

    /// The columns that are read, ascending.
    fn columns(&self) -> Vec<usize> {
        match self.inner.projection() {
            Some(projection) => projection.column_indices(),
            None => (0..self.schema().fields().len()).collect(),
        }
    }

    /// The columns that the predicate speaks of, ascending.
    fn filtered(&self) -> Vec<usize> {
        let predicate = self.inner.filter();
        let named = predicate.iter().flat_map(collect_columns);
        let indices = named.filter_map(|column| self.schema().index_of(column.name()).ok());
        let indices: BTreeSet<usize> = indices.collect();
        indices.into_iter().collect()
    }

    /// The columns that the source looks at.
    fn needed(&self) -> Vec<usize> {
        let both = self.columns().into_iter().chain(self.filtered());
        let both: BTreeSet<usize> = both.collect();
        both.into_iter().collect()
    }

    fn scan(
        &self,
        readers: Arc<dyn ParquetFileReaderFactory>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Scan> {
        let columns = self.columns();
        let read = Arc::new(self.schema().project(&columns)?);
        let all = ProjectionExprs::from_indices(&columns, self.schema());
        let projection = self.inner.projection().cloned().unwrap_or(all);
        let adapter = config.expr_adapter_factory.as_ref();
        let adapter = adapter.map_or_else(
            || Arc::new(DefaultPhysicalExprAdapterFactory) as _,
            Arc::clone,
        );
        let options = &self.bare.table_parquet_options().global;
        let metrics = self.metrics().clone();
        Ok(Scan {
            needed: self.needed(),
            filtered: self.filtered(),
            projection: projection.try_map_exprs(|expr| reassign_expr_columns(expr, &read))?,
            read,
            pruning: Pruning {
                predicate: self.inner.filter(),
                schema: Arc::clone(self.schema()),
                adapter,
                by_row_group: options.pruning.into(),
                by_bloom_filter: options.bloom_filter_on_read.into(),
                by_page: options.enable_page_index.into(),
            },
            order: if config.preserve_order || !config.output_ordering.is_empty() {
                Order::OfTheFile
            } else {
                Order::Any
            },
            readers,
            partition,
            patched_rows: MetricBuilder::new(&metrics).counter("patched_rows", partition),
            bytes_skipped: MetricBuilder::new(&metrics).counter("bytes_skipped", partition),
            metrics,
            columns: columns.into(),
        })
    }
}

impl From<PatchSource> for Arc<dyn FileSource> {
    fn from(source: PatchSource) -> Self {
        Arc::new(source)
    }
}

impl FileSource for PatchSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let readers = self.bare.parquet_file_reader_factory();
        let readers = readers.map_or_else(
            || {
                Arc::new(DefaultParquetFileReaderFactory::new(Arc::clone(
                    &object_store,
                ))) as _
            },
            Arc::clone,
        );
        let scan = self.scan(readers, config, partition)?;
        let mut unlimited = config.clone();
        unlimited.limit = None;
        let rows = self
            .batch_rows
            .unwrap_or_else(|| ConfigOptions::new().execution.batch_size);
        let bare = ProjectionExprs::from_indices(&scan.columns, self.schema());
        let bare = self.bare.try_pushdown_projection(&bare)?;
        let bare = bare.unwrap_or_else(|| Arc::new(self.bare.clone()));
        let bare = bare.with_batch_size(rows);
        let open = |source: &dyn FileSource, config| {
            source.create_file_opener(Arc::clone(&object_store), config, partition)
        };
        Ok(Arc::new(PatchOpener {
            plain: open(self.inner.as_ref(), config)?,
            masked: open(self.inner.as_ref(), &unlimited)?,
            bare: open(bare.as_ref(), &unlimited)?,
            scan: Arc::new(scan),
        }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self {
            batch_rows: Some(batch_size),
            ..self.around(self.inner.with_batch_size(batch_size))
        })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(t, f)?;
        let label = self.division.label(&self.needed());
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(f, ", {label}"),
            DisplayFormatType::TreeRender => {
                let mut parts = label.split(", ");
                parts.try_for_each(|part| writeln!(f, "{part}"))
            }
        }
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let count = filters.len();
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let filters = match self.division.rewrites() {
            // A rewritten file gives rows that the filter has not seen.
            true => vec![PushedDown::No; count],
            false => pushed.filters,
        };
        let updated = pushed.updated_node;
        Ok(FilterPushdownPropagation {
            filters,
            updated_node: updated.map(|inner| Arc::new(self.around(inner)) as _),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_sort(order, eq_properties)?;
        let around = |inner| Arc::new(self.around(inner)) as Arc<dyn FileSource>;
        Ok(match pushed {
            // Rewritten files are read from the front still, which is as inexact.
            SortOrderPushdownResult::Exact { inner } if self.division.rewrites() => {
                SortOrderPushdownResult::Inexact {
                    inner: around(inner),
                }
            }
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact {
                inner: around(inner),
            },
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact {
                inner: around(inner),
            },
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_projection(projection)?;
        Ok(pushed.map(|inner| Arc::new(self.around(inner)) as _))
    }
}
