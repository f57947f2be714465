//! The rows of one data file by their position, for maintenance: all of them, dead ones too, or those at some positions.
//!
//! **Invariant:** rows come in the order of the file and none is left out: the n-th is at the n-th of the positions that
//! were asked for.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::execution::TaskContext;
use futures::stream::BoxStream;

use super::data_file::{DataFile, row_groups};
use super::locator::Columns;
use super::mask::only;
use crate::error::{Error, Result};
use crate::files::ParquetTable;

/// One data file of a table.
#[derive(Clone, Debug)]
pub struct FileRows {
    file: DataFile,
    row_groups: Arc<[u32]>,
}

impl FileRows {
    /// The data file of `table` with this number in its list, read in the session of `task`.
    ///
    /// # Errors
    /// When its footer cannot be read, or names another number of rows than its manifest.
    pub async fn open(table: &ParquetTable, at: usize, task: Arc<TaskContext>) -> Result<Self> {
        let file = DataFile {
            task,
            table: table.clone(),
            at,
        };
        let groups = row_groups(file.footer().await?.as_ref());
        let rows = |groups: &Arc<[u32]>| groups.iter().copied().map(u64::from).sum::<u64>();
        let groups = groups.filter(|groups| rows(groups) == file.info().rows);
        let row_groups = groups.ok_or_else(|| Error::ForeignFile {
            table: file.info().path.clone(),
            reason: "it has another number of rows than its manifest says".to_owned(),
        })?;
        Ok(Self { file, row_groups })
    }

    /// All its rows, a batch at a time.
    ///
    /// # Errors
    /// When the file cannot be opened; the stream's, when it cannot be read.
    pub fn all(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let access = ParquetAccessPlan::new_all(self.row_groups.len());
        self.file.rows(access, Columns::All)
    }

    /// Its rows at `positions`, a batch at a time. Positions are ascending, each there once.
    ///
    /// # Errors
    /// As [`Self::all`]; when a position is no row of the file.
    pub fn at(&self, positions: &[u32]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let beyond = positions
            .last()
            .is_some_and(|last| u64::from(*last) >= self.file.info().rows);
        if beyond {
            return Err(Error::ForeignFile {
                table: self.file.info().path.clone(),
                reason: "it has fewer rows than somebody counted".to_owned(),
            });
        }
        self.file
            .rows(only(&self.row_groups, positions), Columns::All)
    }
}
