//! A row group whose columns are encoded by a task each.
//!
//! **Invariant:** a column's batches are encoded in the order in which they were sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch, new_empty_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use iceberg::{Error, ErrorKind, Result};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::errors::ParquetError;
use tokio::sync::mpsc;

/// Batches of one column that wait for its task (8,192 rows each, as plans give them): enough that columns that cost
/// more and less do not wait for each other at every batch.
const BATCHES_WAITING: usize = 4;

/// A row group that is being encoded.
pub(super) struct RowGroup {
    columns: Vec<Column>,
    /// Its rows so far.
    pub(super) rows: usize,
}

/// The task that encodes one column.
struct Column {
    /// None once all its rows were sent.
    batches: Option<mpsc::Sender<ArrayRef>>,
    /// What it has encoded, in bytes.
    bytes: Arc<AtomicUsize>,
    task: SpawnedTask<std::result::Result<Vec<ArrowColumnChunk>, ParquetError>>,
}

impl RowGroup {
    /// An empty one; `writers` are those of the columns in the file.
    pub(super) fn begin(schema: &SchemaRef, writers: Vec<ArrowColumnWriter>) -> Self {
        let mut writers = writers.into_iter();
        let columns = schema.fields().iter().map(|field| {
            // A column of structs is several columns in the file.
            let leaves = compute_leaves(field, &new_empty_array(field.data_type()));
            let leaves = leaves.map_or(1, |leaves| leaves.len());
            Column::begin(Arc::clone(field), writers.by_ref().take(leaves).collect())
        });
        Self {
            columns: columns.collect(),
            rows: 0,
        }
    }

    /// Sends rows to the columns' tasks; false when one of them has ended with an error.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> bool {
        self.rows += batch.num_rows();
        for (column, array) in self.columns.iter().zip(batch.columns()) {
            let Some(batches) = &column.batches else {
                return false;
            };
            if batches.send(Arc::clone(array)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Nothing more comes.
    pub(super) fn end(mut self) -> Self {
        self.columns
            .iter_mut()
            .for_each(|column| column.batches = None);
        self
    }

    /// The encoded columns, when their tasks are done.
    pub(super) async fn chunks(self) -> Result<Vec<ArrowColumnChunk>> {
        let mut chunks = Vec::with_capacity(self.columns.len());
        for column in self.columns {
            let ended = column.task.join_unwind().await;
            let ended = ended.map_err(|e| Error::new(ErrorKind::Unexpected, e.to_string()))?;
            let encoded = ended.map_err(|e| {
                Error::new(ErrorKind::Unexpected, "a column cannot be encoded").with_source(e)
            })?;
            chunks.extend(encoded);
        }
        Ok(chunks)
    }

    /// What is encoded, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.columns.iter();
        columns
            .map(|column| column.bytes.load(Ordering::Relaxed))
            .sum()
    }
}

impl Column {
    fn begin(field: FieldRef, mut writers: Vec<ArrowColumnWriter>) -> Self {
        let (sender, mut batches) = mpsc::channel::<ArrayRef>(BATCHES_WAITING);
        let bytes = Arc::new(AtomicUsize::new(0));
        let encoded = Arc::clone(&bytes);
        let task = SpawnedTask::spawn(async move {
            while let Some(array) = batches.recv().await {
                let leaves = compute_leaves(&field, &array)?;
                for (leaf, writer) in leaves.iter().zip(&mut writers) {
                    writer.write(leaf)?;
                }
                let sizes = writers
                    .iter()
                    .map(ArrowColumnWriter::get_estimated_total_bytes);
                encoded.store(sizes.sum(), Ordering::Relaxed);
            }
            writers.into_iter().map(ArrowColumnWriter::close).collect()
        });
        Self {
            batches: Some(sender),
            bytes,
            task,
        }
    }
}
