//! Position-delete files, written beside the merge.
//!
//! **Invariant:** a data file has one position-delete file at most, with all its dead rows: the new one takes the place of
//! the one before in the same commit.

use std::collections::VecDeque;

use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use lakesync_providers::BaseSnapshot;
use lakesync_providers::lake::{
    DataFile, DataFileInfo, LakeError, PositionDeletes, WriteOptions, delete_written,
    write_position_deletes,
};

use crate::error::Result;

/// Delete files that are written at once: a churn over the whole table makes as many as there are data files, and each
/// waits for the disk.
const WRITES_AT_ONCE: usize = 8;

/// The delete files of a merge.
pub(super) struct Deletes<'a> {
    base: &'a BaseSnapshot,
    writing: VecDeque<SpawnedTask<std::result::Result<Vec<DataFile>, LakeError>>>,
    done: Vec<DataFile>,
}

impl<'a> Deletes<'a> {
    pub(super) fn of(base: &'a BaseSnapshot) -> Self {
        Self {
            base,
            writing: VecDeque::new(),
            done: Vec::new(),
        }
    }

    /// Deletes the rows at these positions, ascending: `dead` before this merge, `new` by it.
    pub(super) async fn add(
        &mut self,
        file: &DataFileInfo,
        dead: &[u32],
        new: &[u32],
    ) -> Result<()> {
        while self.writing.len() >= WRITES_AT_ONCE {
            self.finish_one().await?;
        }
        let positions = dead.iter().chain(new);
        let deletes = PositionDeletes {
            path: file.path.clone(),
            partition: file.partition.clone(),
            positions: positions.map(|position| u64::from(*position)).collect(),
        };
        let table = self.base.table.clone();
        self.writing.push_back(SpawnedTask::spawn(async move {
            write_position_deletes(&table, &[deletes], &WriteOptions::new("deletes")).await
        }));
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<()> {
        if let Some(task) = self.writing.pop_front() {
            let ended = task.join_unwind().await;
            let ended = ended.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
            self.done.extend(ended?);
        }
        Ok(())
    }

    /// The files, durable. After an error nothing of them is left.
    pub(super) async fn close(mut self) -> Result<Vec<DataFile>> {
        while !self.writing.is_empty() {
            if let Err(error) = self.finish_one().await {
                self.discard().await;
                return Err(error);
            }
        }
        Ok(self.done)
    }

    /// Deletes what was written.
    pub(super) async fn discard(mut self) {
        while !self.writing.is_empty() {
            // Of one that failed nothing is left.
            drop(self.finish_one().await);
        }
        delete_written(&self.base.table, &self.done).await;
    }
}
