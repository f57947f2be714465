//! Equality deletes by row id: where the rows are that they name.
//!
//! Row ids are taken from a delete file some at a time, sought in the data files that it applies to (by their key
//! indexes, else by reading their row ids), and forgotten: what is kept is positions.
//!
//! **Invariant:** a row of a data file that is as young as the delete file, or younger, stays: it is what replaced the
//! deleted one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::DataType;
use futures::TryStreamExt as _;
use lakesync_proto::{RowId, columns};

use super::Reading;
use super::sorted::{applies, broken, unreadable};
use crate::error::Result;
use crate::files::ParquetTable;
use crate::foreign::Layout;
use crate::lake::DataFileInfo;
use crate::scan::data_file::DataFile;
use crate::scan::file_bounds::field_id;
use crate::scan::key_index::wide;
use crate::scan::key_indexes::KeyIndexes;
use crate::scan::locator::{Columns, Locator, Next};

/// So many row ids are sought at once, about 100 bytes each.
const IDS_AT_ONCE: usize = 1 << 20;

impl Reading<'_> {
    /// Reads these files, whose columns must be the row id.
    pub(super) async fn equality(&mut self, deletes: &[DataFileInfo]) -> Result<()> {
        for delete in deletes {
            let files = self.table.files().iter();
            let older: Vec<bool> = files.map(|data| applies(delete, data)).collect();
            if older.contains(&true) {
                self.equality_of(delete, &older).await?;
            }
        }
        Ok(())
    }

    async fn equality_of(&mut self, delete: &DataFileInfo, older: &[bool]) -> Result<()> {
        let id = self.table.field(columns::ROW_ID).ok().and_then(field_id);
        let (Some(id), [by]) = (id, delete.equality_ids.as_slice()) else {
            return Err(self.by_other_columns(delete));
        };
        if *by != id {
            return Err(self.by_other_columns(delete));
        }
        let layout = Layout::only(vec![Layout::column(id, columns::ROW_ID, DataType::Utf8)]);
        let file = DataFile {
            task: Arc::clone(self.task),
            table: ParquetTable::of_files(
                self.table.warehouse(),
                &layout,
                Arc::from([delete.clone()]),
            ),
            at: 0,
        };
        let mut ids = BTreeSet::new();
        let mut batches = file.columns(vec![0])?;
        while let Some(batch) = batches.try_next().await? {
            let column = batch.column(0).as_string::<i32>();
            if column.null_count() > 0 {
                return Err(broken(self.name, delete, "a row without a row id"));
            }
            // What is no row id is the id of no row.
            ids.extend(
                column
                    .iter()
                    .flatten()
                    .filter_map(|id| RowId::parse(id).ok()),
            );
            if ids.len() >= IDS_AT_ONCE {
                self.seek(&std::mem::take(&mut ids), older).await?;
            }
        }
        self.seek(&ids, older).await
    }

    fn by_other_columns(&self, delete: &DataFileInfo) -> crate::error::Error {
        unreadable(
            self.name,
            format!(
                "its delete file {} names rows by other columns than {}; rewrite its data files with the program that \
                 deleted them",
                delete.path,
                columns::ROW_ID
            ),
        )
    }

    /// Finds the rows with these ids in the older files.
    async fn seek(&mut self, ids: &BTreeSet<RowId>, older: &[bool]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        match self.locate(ids, older).await? {
            Some(found) => {
                for (file, positions) in found.into_iter().enumerate() {
                    self.take(file, positions)?;
                }
                Ok(())
            }
            None => self.read_all(ids, older).await,
        }
    }

    /// Their positions by data file; none when key indexes do not know them.
    async fn locate(&self, ids: &BTreeSet<RowId>, older: &[bool]) -> Result<Option<Vec<Vec<u32>>>> {
        let asked: Vec<&RowId> = ids.iter().collect();
        let indexes = KeyIndexes::of_process();
        let among = |file: usize| older[file];
        let locator = Locator::among(indexes, self.task, self.table, (asked, &among))?;
        let Some(mut locator) = locator else {
            return Ok(None);
        };
        let mut found = vec![Vec::new(); older.len()];
        loop {
            match locator.next(Columns::RowId).await? {
                Next::Rows(rows) => {
                    for (place, _) in rows.places {
                        found[wide(place.file)].push(place.position);
                    }
                }
                Next::End => return Ok(Some(found)),
                Next::Unknown => return Ok(None),
            }
        }
    }

    /// Reads the row ids of the older files.
    async fn read_all(&mut self, ids: &BTreeSet<RowId>, older: &[bool]) -> Result<()> {
        let asked: Vec<&str> = ids.iter().map(RowId::as_str).collect();
        for at in (0..older.len()).filter(|at| older[*at]) {
            let file = DataFile {
                task: Arc::clone(self.task),
                table: self.table.clone(),
                at,
            };
            let mut found = Vec::new();
            let mut position = 0_u32;
            let mut batches = file.ids()?;
            while let Some(batch) = batches.try_next().await? {
                for id in &batch {
                    if id.is_some_and(|id| asked.binary_search(&id).is_ok()) {
                        found.push(position);
                    }
                    position = position.checked_add(1).ok_or_else(|| {
                        let path = &file.info().path;
                        unreadable(
                            self.name,
                            format!("{path} has more rows than can be counted"),
                        )
                    })?;
                }
            }
            self.take(at, found)?;
        }
        Ok(())
    }
}
