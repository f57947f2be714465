//! What of a file's rows a predicate leaves out by what the file says of itself: by row group, by statistics and bloom
//! filters, and by page.
//!
//! DataFusion's reader does this too, but then nobody knows which rows it gives. So it is done here with the same
//! functions, and the reader is told the outcome.
//!
//! **Invariant:** no row that is left out holds, as the file has it, values that the predicate is true for.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::{
    PagePruningAccessPlanFilter, ParquetAccessPlan, RowGroupAccessPlanFilter,
    apply_file_schema_type_coercions,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::ParquetMetaData;

/// How a scan prunes.
#[derive(Debug)]
pub(super) struct Pruning {
    /// What is wanted, in terms of the table's schema.
    pub(super) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The table's schema.
    pub(super) schema: SchemaRef,
    /// Turns expressions over the table into expressions over a file.
    pub(super) adapter: Arc<dyn PhysicalExprAdapterFactory>,
    /// Whether statistics of row groups are used.
    pub(super) by_row_group: Setting,
    /// Whether bloom filters of row groups are used.
    pub(super) by_bloom_filter: Setting,
    /// Whether statistics of pages are used.
    pub(super) by_page: Setting,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl From<bool> for Setting {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// What reads the bloom filters of a file.
pub(super) type Reader = Box<dyn AsyncFileReader>;

/// What one file is asked.
struct OfFile<'a> {
    /// In terms of `schema`.
    predicate: Arc<dyn PhysicalExpr>,
    /// The file's own.
    schema: SchemaRef,
    metadata: &'a Arc<ParquetMetaData>,
    metrics: &'a ParquetFileMetrics,
}

/// What of a file a scan reads.
#[derive(Debug)]
pub(super) struct Access {
    /// The row groups that are this scan's: all those whose beginning is in the file's range.
    pub(super) mine: ParquetAccessPlan,
    /// What of them is left.
    pub(super) kept: ParquetAccessPlan,
}

impl Pruning {
    /// What of `file`, which `reader` reads, is read.
    ///
    /// # Errors
    /// When the file's schema cannot be read as the table's.
    pub(super) async fn access(
        &self,
        file: &PartitionedFile,
        reader: Reader,
        metadata: &Arc<ParquetMetaData>,
        metrics: &ParquetFileMetrics,
    ) -> Result<Access> {
        let groups = metadata.row_groups();
        let all = ParquetAccessPlan::new_all(groups.len());
        let mut mine = RowGroupAccessPlanFilter::new(all);
        if let Some(range) = &file.range {
            mine.prune_by_range(groups, range);
        }
        let mine = mine.build();
        let mut kept = mine.clone();
        if let Some(predicate) = &self.predicate {
            let schema = self.physical_schema(metadata)?;
            let predicate = self.adapted(predicate, &schema)?;
            let of_file = OfFile {
                predicate,
                schema,
                metadata,
                metrics,
            };
            kept = self.pruned(kept, &of_file, reader).await?;
        }
        Ok(Access { mine, kept })
    }

    async fn pruned(
        &self,
        access: ParquetAccessPlan,
        of_file: &OfFile<'_>,
        reader: Reader,
    ) -> Result<ParquetAccessPlan> {
        let OfFile {
            predicate,
            schema,
            metadata,
            metrics,
        } = of_file;
        let columns = metadata.file_metadata().schema_descr();
        let mut kept = RowGroupAccessPlanFilter::new(access);
        // What no predicate over statistics can be made of prunes nothing.
        let by_group = PruningPredicate::try_new(Arc::clone(predicate), Arc::clone(schema)).ok();
        let by_group = by_group.filter(|predicate| !predicate.always_true());
        if let (Some(predicate), Setting::On) = (&by_group, self.by_row_group) {
            let groups = metadata.row_groups();
            kept.prune_by_statistics(schema, columns, groups, predicate, metrics);
        }
        if let (Some(predicate), Setting::On) = (&by_group, self.by_bloom_filter)
            && !kept.is_empty()
        {
            let options = ArrowReaderOptions::new();
            let known = ArrowReaderMetadata::try_new(Arc::clone(metadata), options)?;
            let mut filters = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, known);
            kept.prune_by_bloom_filters(schema, &mut filters, predicate, metrics)
                .await;
        }
        let kept = kept.build();
        let indexed = metadata.column_index().is_some() && metadata.offset_index().is_some();
        if self.by_page == Setting::Off || !indexed {
            return Ok(kept);
        }
        let by_page = PagePruningAccessPlanFilter::new(predicate, Arc::clone(schema));
        if by_page.filter_number() == 0 {
            return Ok(kept);
        }
        Ok(by_page.prune_plan_with_page_index(kept, schema, columns, metadata, metrics))
    }

    fn adapted(
        &self,
        predicate: &Arc<dyn PhysicalExpr>,
        physical: &SchemaRef,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let adapter = self
            .adapter
            .create(Arc::clone(&self.schema), Arc::clone(physical))?;
        let rewritten = adapter.rewrite(Arc::clone(predicate))?;
        PhysicalExprSimplifier::new(physical).simplify(rewritten)
    }

    /// The schema that the reader gives the file's columns in.
    fn physical_schema(&self, metadata: &Arc<ParquetMetaData>) -> Result<Arc<Schema>> {
        let read = ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new())?;
        let coerced = apply_file_schema_type_coercions(&self.schema, read.schema());
        Ok(coerced.map_or_else(|| Arc::clone(read.schema()), Arc::new))
    }
}
