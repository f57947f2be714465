//! Reading ahead, so that files are decoded while rows are merged and encoded.

use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use lakesync_providers::Error as ReadError;
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Batches that are read and not merged yet.
const BATCHES_AHEAD: usize = 2;

/// A stream that a task of its own reads.
pub(super) struct Ahead {
    batches: mpsc::Receiver<std::result::Result<RecordBatch, ReadError>>,
    task: Option<SpawnedTask<()>>,
}

/// Reads a stream ahead.
pub(super) fn ahead(
    mut rows: BoxStream<'static, std::result::Result<RecordBatch, ReadError>>,
) -> Ahead {
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    let task = SpawnedTask::spawn(async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    Ahead {
        batches,
        task: Some(task),
    }
}

impl Ahead {
    /// The next batch; none at the end. A panic of the task is the caller's.
    pub(super) async fn recv(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch.map_err(Error::from));
        }
        let ended = self.task.take()?.join_unwind().await;
        let stopped = ended.err()?;
        Some(Err(DataFusionError::ExecutionJoin(Box::new(stopped)).into()))
    }
}

/// Changes, or a file, that do not fit the base.
pub(super) fn misfit(what: &str) -> Error {
    DataFusionError::Internal(what.to_owned()).into()
}
