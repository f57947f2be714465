//! Rows of the overlay as a table.
//!
//! **Invariant:** it is DataFusion's own table in memory; only its leaf says where the rows are from.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::view_source::ViewSource;
use crate::union::in_memory;

/// Complete rows in memory.
#[derive(Debug)]
pub(crate) struct OverlayTable {
    rows: Arc<dyn TableProvider>,
    label: Arc<str>,
}

impl OverlayTable {
    /// These rows, with `label` in `EXPLAIN`.
    ///
    /// # Errors
    /// When a batch has another schema.
    pub(crate) fn new(
        schema: SchemaRef,
        rows: &[RecordBatch],
        label: String,
    ) -> crate::error::Result<Self> {
        Ok(Self {
            rows: in_memory(schema, rows)?,
            label: label.into(),
        })
    }
}

#[async_trait]
impl TableProvider for OverlayTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.rows.scan(state, projection, filters, limit).await?;
        let Some(leaf) = plan.as_any().downcast_ref::<DataSourceExec>() else {
            return Ok(plan);
        };
        let source = Arc::clone(leaf.data_source());
        Ok(ViewSource::exec(source, Arc::clone(&self.label)))
    }
}
