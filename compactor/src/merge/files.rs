//! The files of a base that a merge starts from.
//!
//! **Invariant:** data files are numbered as changes number them.

use std::sync::Arc;

use lakesync_providers::lake::DataFileInfo;
use lakesync_providers::{Dead, FileRows, ParquetTable};

use super::MergeInto;
use super::decide::{FileState, Layout};
use crate::error::Result;
use crate::fold::ChangeCounts;

/// The data files of a base, with their dead rows and delete files.
pub(super) struct Files {
    table: ParquetTable,
    data: Arc<[DataFileInfo]>,
    dead: Arc<Dead>,
    spec_id: i32,
}

impl Files {
    pub(super) async fn of(into: &MergeInto<'_>) -> Result<Self> {
        Ok(Self {
            table: into.base.scan(into.warehouse).await?,
            data: into.base.data_files(into.warehouse).await?,
            dead: into.base.dead(into.warehouse).await?,
            spec_id: into.base.table.metadata().default_partition_spec_id(),
        })
    }

    /// What is known of each before it is read.
    pub(super) fn states(&self, counts: &ChangeCounts) -> Vec<FileState> {
        let files = self.data.iter().enumerate();
        let states = files.map(|(at, file)| FileState {
            rows: file.rows,
            bytes: file.bytes,
            dead: self.dead.at(at).map_or(0, |dead| dead.rows()),
            touched: counts.by_file.get(at).copied().unwrap_or(0),
            layout: match file.spec_id == self.spec_id {
                true => Layout::Current,
                false => Layout::Older,
            },
        });
        states.collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Which file has this path.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.data.iter().position(|file| file.path == path)
    }

    pub(super) fn get(&self, at: usize) -> Option<&DataFileInfo> {
        self.data.get(at)
    }

    /// The rows of a file.
    pub(super) async fn open(&self, at: usize, into: &MergeInto<'_>) -> Result<FileRows> {
        Ok(FileRows::open(&self.table, at, into.ctx.task_ctx()).await?)
    }

    /// The positions of the dead rows of a file, ascending.
    pub(super) fn dead(&self, at: usize) -> &[u32] {
        self.dead.at(at).map_or(&[], |dead| dead.positions())
    }

    /// The paths of the delete files that are for this data file only.
    pub(super) fn deletes_of(&self, path: &str) -> Vec<String> {
        let deletes = self.dead.deletes_of(path);
        deletes.map(|delete| delete.path.clone()).collect()
    }

    /// The paths of the equality-delete files that take nothing away from any data file that is left when those at
    /// `gone` are not.
    pub(super) fn spent_deletes(&self, gone: &[usize]) -> Vec<String> {
        let left = self
            .data
            .iter()
            .enumerate()
            .filter(|(at, _)| !gone.contains(at));
        let oldest = left.map(|(_, file)| file.sequence_number).min();
        let equality = self
            .dead
            .delete_files()
            .iter()
            .filter(|delete| !delete.equality_ids.is_empty());
        let spent =
            equality.filter(|delete| oldest.is_none_or(|oldest| oldest >= delete.sequence_number));
        spent.map(|delete| delete.path.clone()).collect()
    }
}
