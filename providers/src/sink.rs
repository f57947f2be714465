//! The write sink: what makes a table writable from SQL.
//!
//! `providers` defines the seam and turns an INSERT's rows into values; the gateway implements it and
//! makes deltas of them, through the same path as a push.
//!
//! **Invariant:** a statement is written whole or not at all, and the count it reports is durable.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::Result as QueryResult;
use datafusion::datasource::sink::DataSink;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::TryStreamExt;
use lakesync_proto::{ColumnName, RowId, TableSchema, Value, columns};
use thiserror::Error;

use crate::columnar::value_at;
use crate::error::{Error, Result};
use crate::view::ReadView;

/// How many rows one INSERT may hold: its rows are one batch, accepted whole or refused whole.
const INSERT_ROWS_MAX: usize = 1_000_000;

/// The rows of one INSERT.
#[derive(Debug)]
pub struct InsertRows {
    /// The view that the statement read.
    pub view: Arc<ReadView>,
    /// The rows: an explicit row id, if the statement gave one, and a value for every column.
    pub rows: Vec<(Option<RowId>, BTreeMap<ColumnName, Value>)>,
}

/// Why a write was refused: the text is the answer that the statement's author reads.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct WriteError {
    /// What was wrong, where, and what to do.
    pub reason: String,
}

/// Where the rows of SQL writes go.
#[async_trait]
pub trait WriteSink: Send + Sync + fmt::Debug {
    /// Writes new rows durably and returns how many.
    ///
    /// # Errors
    /// When a row exists already, a value is refused, or the log cannot be written; then nothing is.
    async fn insert(&self, rows: InsertRows) -> Result<u64, WriteError>;
}

/// DataFusion's side of an INSERT.
pub(crate) struct InsertSink {
    view: Arc<ReadView>,
    schema: SchemaRef,
    sink: Arc<dyn WriteSink>,
}

impl InsertSink {
    pub(crate) fn new(view: Arc<ReadView>, schema: SchemaRef, sink: Arc<dyn WriteSink>) -> Self {
        Self { view, schema, sink }
    }
}

impl fmt::Debug for InsertSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InsertSink({})", self.view.table())
    }
}

impl DisplayAs for InsertSink {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "InsertSink: table={}, seq={}",
            self.view.table(),
            self.view.seq
        )
    }
}

#[async_trait]
impl DataSink for InsertSink {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        mut data: SendableRecordBatchStream,
        _context: &Arc<TaskContext>,
    ) -> QueryResult<u64> {
        let mut rows = Vec::new();
        while let Some(batch) = data.try_next().await? {
            if rows.len() + batch.num_rows() > INSERT_ROWS_MAX {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "an INSERT may hold {INSERT_ROWS_MAX} rows; split the statement, or push the rows from a file"
                )));
            }
            read(&self.view.schema, &batch, &mut rows)?;
        }
        let rows = InsertRows {
            view: Arc::clone(&self.view),
            rows,
        };
        let written = self.sink.insert(rows).await;
        written.map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

type Rows = Vec<(Option<RowId>, BTreeMap<ColumnName, Value>)>;

fn read(schema: &TableSchema, batch: &RecordBatch, rows: &mut Rows) -> Result<()> {
    let ids = batch.column_by_name(columns::ROW_ID).map(Arc::clone);
    for row in 0..batch.num_rows() {
        let id = ids
            .as_ref()
            .filter(|ids| !ids.is_null(row))
            .map(|ids| ids.as_string::<i32>().value(row));
        let id = match id {
            None | Some("") => None,
            Some(id) => Some(RowId::parse(id).map_err(|error| Error::RowId {
                reason: error.to_string(),
            })?),
        };
        let mut values = BTreeMap::new();
        for column in &schema.columns {
            if let Some(array) = batch.column_by_name(column.name.as_ref()) {
                values.insert(
                    column.name.clone(),
                    value_at(array.as_ref(), row, column.column_type)?,
                );
            }
        }
        rows.push((id, values));
    }
    Ok(())
}
