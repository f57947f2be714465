//! Where the rows of new base files go.
//!
//! ```text
//!   table without an order   rewritten rows ─► files of their own, those of one old file together
//!                            other rows     ─► files of their own
//!   table with an order      all rows ─► sort (spilling) ─► files by partition, in the table's order
//! ```
//! **Invariant:** of rows that were written for nothing no file is left, but after a crash.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::SortExpr;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;
use lakesync_providers::BaseSnapshot;
use lakesync_providers::lake::{
    DataFile, DataFiles, WriteOptions, arrow_schema, delete_written, sort_order_id,
    write_data_stream, write_order,
};
use tokio::sync::mpsc::Sender;

use super::{MergeInto, MergeOptions};
use crate::error::{Error, Result};

/// Batches between the merge and the sort.
const BATCHES_WAITING: usize = 2;

/// Which rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those that a rewritten file had.
    Rewritten,
    /// Replacements, and new ones.
    Other,
}

/// The new data files of a merge.
pub(super) enum Output<'a> {
    /// In the order in which the rows come.
    Plain(Box<Plain<'a>>),
    /// By partition and in the table's order.
    Sorted(Sorted<'a>),
}

impl<'a> Output<'a> {
    pub(super) async fn open(into: &MergeInto<'a>, options: &MergeOptions) -> Result<Self> {
        let order = write_order(into.schema);
        let mut write = WriteOptions::new("base").with_keys();
        write.target_file_bytes = usize::try_from(options.target_file_bytes).unwrap_or(usize::MAX);
        if order.is_empty() {
            let plain = Plain::open(into.base, write, options.target_file_bytes).await?;
            return Ok(Self::Plain(Box::new(plain)));
        }
        let write = write.with_write_order(sort_order_id(&into.base.table, into.schema));
        Ok(Self::Sorted(Sorted::open(into, order, write)?))
    }

    /// Says that the rewritten rows that come next are those of an old file of so many bytes.
    pub(super) async fn begin_file(&mut self, bytes: u64) -> Result<()> {
        match self {
            Self::Plain(plain) => plain.begin_file(bytes).await,
            Self::Sorted(_) => Ok(()),
        }
    }

    pub(super) async fn write(&mut self, kind: Rows, rows: RecordBatch) -> Result<()> {
        match (self, kind) {
            (Self::Plain(plain), Rows::Rewritten) => Ok(plain.rewritten.write(&rows).await?),
            (Self::Plain(plain), Rows::Other) => Ok(plain.other.write(&rows).await?),
            (Self::Sorted(sorted), _) => sorted.write(rows).await,
        }
    }

    /// The files, durable. After an error nothing of them is left.
    pub(super) async fn close(self) -> Result<Vec<DataFile>> {
        match self {
            Self::Plain(plain) => plain.close().await,
            Self::Sorted(sorted) => sorted.close().await,
        }
    }

    /// Deletes what was written, because of `reason`; another one when that is a consequence of it.
    pub(super) async fn discard(self, reason: Error) -> Error {
        match self {
            Self::Plain(plain) => {
                plain.discard().await;
                reason
            }
            Self::Sorted(sorted) => sorted.discard(reason).await,
        }
    }
}

/// Files in the order in which rows come.
pub(super) struct Plain<'a> {
    base: &'a BaseSnapshot,
    rewritten: DataFiles,
    other: DataFiles,
    /// How rewritten rows are written.
    write: WriteOptions,
    target_bytes: u64,
    /// Bytes of the old files whose rows are in the open file of rewritten ones.
    old_bytes: u64,
    done: Vec<DataFile>,
}

impl<'a> Plain<'a> {
    async fn open(base: &'a BaseSnapshot, write: WriteOptions, target_bytes: u64) -> Result<Self> {
        let other = DataFiles::open(&base.table, &write).await?;
        let mut write = write;
        // A file that has grown a little stays one file, instead of leaving a small one beside it.
        write.target_file_bytes = write
            .target_file_bytes
            .saturating_add(write.target_file_bytes / 4);
        Ok(Self {
            base,
            rewritten: DataFiles::open(&base.table, &write).await?,
            other,
            write,
            target_bytes,
            old_bytes: 0,
            done: Vec::new(),
        })
    }

    /// Old files share a new one while they fit into it.
    async fn begin_file(&mut self, bytes: u64) -> Result<()> {
        let together = self.old_bytes.saturating_add(bytes);
        if self.old_bytes == 0 || together <= self.target_bytes {
            self.old_bytes = together;
            return Ok(());
        }
        self.old_bytes = bytes;
        let next = DataFiles::open(&self.base.table, &self.write).await?;
        let full = std::mem::replace(&mut self.rewritten, next);
        self.done.extend(full.close().await?);
        Ok(())
    }

    async fn close(mut self) -> Result<Vec<DataFile>> {
        let table = &self.base.table;
        match self.rewritten.close().await {
            Ok(files) => self.done.extend(files),
            Err(error) => {
                self.other.discard().await;
                delete_written(table, &self.done).await;
                return Err(error.into());
            }
        }
        match self.other.close().await {
            Ok(files) => self.done.extend(files),
            Err(error) => {
                delete_written(table, &self.done).await;
                return Err(error.into());
            }
        }
        Ok(self.done)
    }

    async fn discard(self) {
        self.rewritten.discard().await;
        self.other.discard().await;
        delete_written(&self.base.table, &self.done).await;
    }
}

/// A task that sorts the rows and writes them.
pub(super) struct Sorted<'a> {
    base: &'a BaseSnapshot,
    rows: Sender<DataFusionResult<RecordBatch>>,
    files: SpawnedTask<Result<Vec<DataFile>>>,
}

impl<'a> Sorted<'a> {
    fn open(into: &MergeInto<'a>, order: Vec<SortExpr>, write: WriteOptions) -> Result<Self> {
        let schema = arrow_schema(&into.base.table)?;
        let channel = RecordBatchReceiverStream::builder(Arc::clone(&schema), BATCHES_WAITING);
        let rows = channel.tx();
        let source = Once {
            schema: Arc::clone(&schema),
            rows: Mutex::new(Some(channel.build())),
        };
        let source = StreamingTable::try_new(schema, vec![Arc::new(source)])?;
        let sorted = into.ctx.read_table(Arc::new(source))?.sort(order)?;
        let table = into.base.table.clone();
        let files = SpawnedTask::spawn(async move {
            let rows = sorted.execute_stream().await?;
            Ok(write_data_stream(&table, rows, &write).await?)
        });
        Ok(Self {
            base: into.base,
            rows,
            files,
        })
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        let sent = self.rows.send(Ok(rows)).await;
        sent.map_err(|_| DataFusionError::Execution(STOPPED.to_owned()).into())
    }

    async fn close(self) -> Result<Vec<DataFile>> {
        drop(self.rows);
        ended(self.files.join_unwind().await)
    }

    async fn discard(self, reason: Error) -> Error {
        // The writer deletes what it has written when its rows fail.
        let failure = DataFusionError::Execution(STOPPED.to_owned());
        let told = self.rows.send(Err(failure)).await.is_ok();
        drop(self.rows);
        match ended(self.files.join_unwind().await) {
            Ok(files) => {
                delete_written(&self.base.table, &files).await;
                reason
            }
            Err(error) if !told => error,
            Err(_) => reason,
        }
    }
}

const STOPPED: &str = "the rows to be written came to an end";

fn ended<E: std::error::Error + Send + Sync + 'static>(
    ended: std::result::Result<Result<Vec<DataFile>>, E>,
) -> Result<Vec<DataFile>> {
    ended.unwrap_or_else(|error| Err(DataFusionError::External(Box::new(error)).into()))
}

/// A stream as a table that is read once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self
            .rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        rows.unwrap_or_else(|| {
            let again = DataFusionError::Internal("the rows of a merge are read once".to_owned());
            let schema = Arc::clone(&self.schema);
            let rows = stream::once(std::future::ready(Err(again)));
            Box::pin(RecordBatchStreamAdapter::new(schema, rows))
        })
    }
}
