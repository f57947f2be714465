//! The order in which a base's rows are written: by partition, then as the table says.
//!
//! **Invariant**: rows are sorted over all parts of a fold, in memory as far as the process has it, then on disk; a table
//! without partitions and order is not sorted at all.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakesync_providers::lake::write_order;
use lakesync_providers::proto::TableSchema;

/// The rows of all `parts`, which are one at least, as they are to be written.
pub(crate) fn in_write_order(
    ctx: &SessionContext,
    schema: &TableSchema,
    mut parts: Vec<DataFrame>,
) -> Result<DataFrame> {
    let order = write_order(schema);
    let rows = match parts.len() {
        1 => parts.remove(0),
        _ => {
            let arrow = Arc::new(parts[0].schema().as_arrow().clone());
            let parts = Parts {
                schema: Arc::clone(&arrow),
                parts,
            };
            ctx.read_table(Arc::new(StreamingTable::try_new(
                arrow,
                vec![Arc::new(parts)],
            )?))?
        }
    };
    match order.is_empty() {
        true => Ok(rows),
        false => rows.sort(order),
    }
}

/// Parts of a fold as one stream: only one part's state is in memory at a time.
#[derive(Debug)]
struct Parts {
    schema: SchemaRef,
    parts: Vec<DataFrame>,
}

impl PartitionStream for Parts {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = stream::iter(self.parts.clone())
            .then(DataFrame::execute_stream)
            .try_flatten();
        let schema = Arc::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}
