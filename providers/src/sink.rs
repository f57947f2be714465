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
use lakesync_proto::{ColumnName, RowId, TableSchema, Value, columns, limits};
use thiserror::Error;

use crate::columnar::value_at;
use crate::error::Error;
use crate::view::ReadView;

/// The rows of one INSERT.
#[derive(Debug)]
pub struct InsertRows {
    /// The view that the statement read.
    pub view: Arc<ReadView>,
    /// The rows: an explicit row id, if the statement gave one, and a value for every column.
    pub rows: Vec<(Option<RowId>, BTreeMap<ColumnName, Value>)>,
}

/// Why nothing was written: the text is the answer that the statement's author reads.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The statement is at fault.
    #[error("{reason}")]
    Refused {
        /// What was wrong, where, and what to do.
        reason: String,
    },
    /// The statement is sound, but it cannot be written now.
    #[error("{reason}")]
    Unavailable {
        /// What is in the way and what to do.
        reason: String,
    },
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
            // Its rows are one push, accepted whole or refused whole; the rest is not waited for.
            if rows.len() + batch.num_rows() > limits::PUSH_DELTAS_MAX {
                return Err(refused(format!(
                    "an INSERT into `{}` may hold {} rows, this one has more; split it, or load the file with `lakesync push`",
                    self.view.table(),
                    limits::PUSH_DELTAS_MAX
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

fn refused(reason: String) -> DataFusionError {
    DataFusionError::External(Box::new(WriteError::Refused { reason }))
}

fn read(schema: &TableSchema, batch: &RecordBatch, rows: &mut Rows) -> QueryResult<()> {
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
                let value = match value_at(array.as_ref(), row, column.column_type)? {
                    // The text is as its author wrote it; values are in normal form.
                    Value::Json(text) => Value::json(&text).map_err(|error| {
                        let (row, column) = (rows.len() + 1, &column.name);
                        refused(format!(
                            "row {row} of the INSERT, column `{column}`: {error}"
                        ))
                    })?,
                    value => value,
                };
                values.insert(column.name.clone(), value);
            }
        }
        rows.push((id, values));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use lakesync_proto::TableDefinition;

    use super::*;

    fn read_json(texts: &[Option<&str>]) -> Result<Vec<Value>, String> {
        let definition = br#"{"table": "t", "columns": [{"name": "v", "type": "json"}]}"#;
        let definition = TableDefinition::from_json(definition).unwrap();
        let schema = TableSchema::from_definition(&definition).unwrap();
        let column = Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("v", column)]).unwrap();
        let mut rows = Rows::new();
        read(&schema, &batch, &mut rows).map_err(|error| error.to_string())?;
        let values = rows
            .into_iter()
            .flat_map(|(_, values)| values.into_values());
        Ok(values.collect())
    }

    #[test]
    fn json_is_taken_as_people_write_it_and_kept_in_normal_form() {
        let texts = [Some(r#"{ "b": 1.0, "a": [ ] }"#), Some("null"), None];
        let normal = Value::Json(r#"{"a":[],"b":1}"#.to_owned());
        assert_eq!(
            read_json(&texts).unwrap(),
            [normal, Value::Null, Value::Null]
        );
    }

    #[test]
    fn text_that_is_no_json_is_refused_by_row_and_column() {
        let error = read_json(&[Some("{}"), Some("{oops")]).unwrap_err();
        assert!(
            error.contains("row 2 of the INSERT, column `v`") && error.contains("oops"),
            "{error}"
        );
    }
}
