//! Plans one after the other: the next begins when the last has given its last row.
//!
//! A `UnionExec` would run all of them at once, and their memory would add up to what they were cut into parts for.
//!
//! **Invariant:** every batch has the declared schema; a part that gives something else is an error.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Parts of one table's rows, one after the other.
#[derive(Debug)]
pub(super) struct PartsExec {
    parts: Vec<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
    label: Arc<str>,
    properties: Arc<PlanProperties>,
}

impl PartsExec {
    /// The rows of `parts` with this schema; `label` is what `EXPLAIN` says.
    pub(super) fn new(
        parts: Vec<Arc<dyn ExecutionPlan>>,
        schema: SchemaRef,
        label: Arc<str>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            parts,
            schema,
            label,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for PartsExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartsExec: {}", self.label)
    }
}

impl ExecutionPlan for PartsExec {
    fn name(&self) -> &'static str {
        "PartsExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.parts.iter().collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; self.parts.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.parts.len()]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (schema, label) = (Arc::clone(&self.schema), Arc::clone(&self.label));
        Ok(Arc::new(Self::new(children, schema, label)))
    }

    fn execute(
        &self,
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let declared = move |batch: RecordBatch| {
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &rows);
            Ok(batch?)
        };
        let rows = stream::iter(self.parts.clone())
            .map(move |part| part.execute(0, Arc::clone(&context)))
            .try_flatten()
            .map(move |batch| batch.and_then(&declared));
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
