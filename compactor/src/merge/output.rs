//! Where the rows of new base files go.
//!
//! ```text
//!   table without an order   rewritten rows ─► files of their own, those of one old file together
//!                            other rows     ─► files of their own
//!   table with an order      all rows ─► sort (spilling) ─► files by partition, in the table's order
//! ```
//! **Invariant:** of rows that were written for nothing no file is left, but after a crash.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::SortExpr;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;
use lakesync_providers::lake::{
    DataFile, DataFiles, LakeError, WriteOptions, delete_written, sort_order_id, write_data_stream,
    write_order,
};

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
pub(super) enum Output {
    /// In the order in which the rows come.
    Plain(Box<Plain>),
    /// By partition and in the table's order.
    Sorted(Sorted),
}

impl Output {
    pub(super) async fn open(into: &MergeInto<'_>, options: &MergeOptions) -> Result<Self> {
        let order = write_order(into.schema);
        let target = usize::try_from(options.target_file_bytes).unwrap_or(usize::MAX);
        let mut write = WriteOptions::new("base").with_keys();
        write.target_file_bytes = target;
        if order.is_empty() {
            return Ok(Self::Plain(Box::new(Plain::open(into, write, options).await?)));
        }
        let write = write.with_write_order(sort_order_id(&into.base.table, into.schema));
        Ok(Self::Sorted(Sorted::open(into, order, write)?))
    }

    /// Says that the rows that come next are those of an old file of so many bytes.
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

    /// The files, durable.
    pub(super) async fn close(self) -> Result<Vec<DataFile>> {
        match self {
            Self::Plain(plain) => plain.close().await,
            Self::Sorted(sorted) => sorted.close().await,
        }
    }

    /// Deletes what was written.
    pub(super) async fn discard(self) {
        match self {
            Self::Plain(plain) => plain.discard().await,
            Self::Sorted(sorted) => sorted.discard().await,
        }
    }
}

/// Files in the order in which rows come.
pub(super) struct Plain {
    table: iceberg_table::Table,
    rewritten: DataFiles,
    other: DataFiles,
    write: WriteOptions,
    target_bytes: u64,
    /// Bytes of the old files whose rows are in the file that is open for rewritten ones.
    old_bytes: u64,
    done: Vec<DataFile>,
}
