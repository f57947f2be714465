//! Deltas in the order of their rows' keys, as a table: what folds them needs no more memory than one row's deltas.
//!
//! ```text
//!   parts of the rows, one after another ── divided by key and row id ── each sorted by key, spilling ── `deltas`
//! ```
//! It is a leaf of the plan above it, whose optimizer would take away a sort that no result asks for.
//!
//! **Invariant:** all deltas of one row are in one partition, one after another.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::expressions::{Column, col};
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Deltas by key, as a table.
#[derive(Debug)]
pub(crate) struct DeltasByKey(Arc<ByKeyExec>);

impl DeltasByKey {
    /// The rows of `deltas`, which have the columns `_key` and `row_id`, in so many partitions.
    pub(crate) fn new(deltas: Arc<dyn PartitionStream>, partitions: usize) -> Result<Self> {
        let schema = Arc::clone(deltas.schema());
        let mut rows: Arc<dyn ExecutionPlan> = Arc::new(StreamingTableExec::try_new(
            Arc::clone(&schema),
            vec![deltas],
            None,
            [],
            false,
            None,
        )?);
        let by: Vec<Arc<dyn PhysicalExpr>> = vec![col("_key", &schema)?, col("row_id", &schema)?];
        let key = PhysicalSortExpr::new_default(Arc::clone(&by[0]));
        let order = LexOrdering::from([key.asc().nulls_last()]);
        let partitioning = Partitioning::Hash(by, partitions);
        if partitions > 1 {
            rows = Arc::new(RepartitionExec::try_new(rows, partitioning.clone())?);
        }
        let sorted = SortExec::new(order.clone(), rows).with_preserve_partitioning(true);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, [order]),
            partitioning,
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self(Arc::new(ByKeyExec {
            sorted: Arc::new(sorted),
            properties: Arc::new(properties),
        })))
    }
}

#[async_trait]
impl TableProvider for DeltasByKey {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let leaf = Arc::clone(&self.0) as Arc<dyn ExecutionPlan>;
        let schema: SchemaRef = leaf.schema();
        let all = 0..schema.fields().len();
        match projection {
            Some(some) if !some.iter().copied().eq(all) => {
                let columns = some.iter().map(|at| column(&schema, *at));
                Ok(Arc::new(ProjectionExec::try_new(
                    columns.collect::<Vec<_>>(),
                    leaf,
                )?))
            }
            _ => Ok(leaf),
        }
    }
}

fn column(schema: &Schema, at: usize) -> (Arc<dyn PhysicalExpr>, String) {
    let name = schema.field(at).name();
    (Arc::new(Column::new(name, at)), name.clone())
}

#[derive(Debug)]
struct ByKeyExec {
    sorted: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for ByKeyExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions = self.properties.output_partitioning().partition_count();
        write!(f, "DeltasByKey: partitions={partitions}, sorted by _key")
    }
}

impl ExecutionPlan for ByKeyExec {
    fn name(&self) -> &'static str {
        "DeltasByKey"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.sorted.execute(partition, context)
    }
}
