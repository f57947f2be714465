//! The rows of a base that are asked for, found file by file and read batch by batch: however many they are, what is
//! held at a time is a batch.
//!
//! **Invariant:** a row is given only after its id has been read at its position and is one of those that were asked
//! for: a key index that names too much costs time and no row.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use lakesync_proto::RowId;

use super::data_file::DataFile;
use super::key_index::KeyIndex;
use super::key_indexes::KeyIndexes;
use super::mask::only;
use super::patch::Place;
use crate::error::Result;
use crate::files::ParquetTable;
use crate::resolve::ids_of;

/// Which columns of the rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// All of the table.
    All,
    /// The row id by itself.
    RowId,
}

/// Some rows of one file.
#[derive(Debug)]
pub(crate) struct Found {
    /// The rows of each row group of their file.
    pub(crate) row_groups: Arc<[u32]>,
    /// The rows, in the order of the file.
    pub(crate) rows: RecordBatch,
    /// For each of them where it is, and which of those that were asked for.
    pub(crate) places: Vec<(Place, u32)>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// These rows.
    Rows(Found),
    /// Nothing: all that the base has of them has been given.
    End,
    /// A file is not what its manifest says, or has more rows than can be counted: a join has to find the rows.
    Unknown,
}

/// A search for rows in the files of a table.
pub(crate) struct Locator<'a, S> {
    indexes: &'a KeyIndexes<S>,
    ctx: &'a SessionContext,
    table: &'a ParquetTable,
    asked: &'a HashMap<RowId, u32>,
    at: usize,
    open: Option<Open>,
}

/// The file that is read.
struct Open {
    file: u32,
    index: Arc<KeyIndex>,
    /// Positions whose rows have not come yet, the next one last.
    positions: Vec<u32>,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl<'a, S: BuildHasher + Sync> Locator<'a, S> {
    /// A search for the rows with these ids; the numbers are given back with them. None when it takes more memory than
    /// key indexes may have.
    pub(crate) fn new(
        indexes: &'a KeyIndexes<S>,
        ctx: &'a SessionContext,
        table: &'a ParquetTable,
        asked: &'a HashMap<RowId, u32>,
    ) -> Option<Self> {
        indexes.have_room_for(table.files()).then_some(Self {
            indexes,
            ctx,
            table,
            asked,
            at: 0,
            open: None,
        })
    }

    /// Reads on until some of the rows have been found. Dropped before it is done, it has lost its place: the search
    /// is to be dropped with it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) async fn next(&mut self, columns: Columns) -> Result<Next> {
        loop {
            let Some(open) = &mut self.open else {
                if self.at == self.table.files().len() {
                    return Ok(Next::End);
                }
                if !self.open_next(columns).await? {
                    return Ok(Next::Unknown);
                }
                continue;
            };
            match open.batches.try_next().await? {
                Some(batch) if batch.num_rows() > open.positions.len() => return Ok(Next::Unknown),
                Some(batch) => {
                    let found = open.asked_for(batch, self.asked)?;
                    if !found.places.is_empty() {
                        return Ok(Next::Rows(found));
                    }
                }
                None if open.positions.is_empty() => self.open = None,
                None => return Ok(Next::Unknown),
            }
        }
    }

    /// Opens the next file when it may have a row; false when it cannot be searched.
    async fn open_next(&mut self, columns: Columns) -> Result<bool> {
        let file = DataFile {
            ctx: self.ctx,
            table: self.table,
            at: self.at,
        };
        self.at += 1;
        let Some(index) = self.indexes.get(file).await? else {
            return Ok(false);
        };
        let ids = self.asked.keys().map(RowId::as_str);
        let mut positions: Vec<u32> = ids
            .flat_map(|id| index.find(self.indexes.hash(id)))
            .collect();
        positions.sort_unstable_by(|one, other| other.cmp(one));
        positions.dedup();
        if positions.is_empty() {
            return Ok(true);
        }
        positions.reverse();
        let access = only(index.row_groups(), &positions);
        positions.reverse();
        let batches = file.rows(access, columns)?;
        self.open = Some(Open {
            file: u32::try_from(file.at).expect("a snapshot has no 4 billion files"),
            index,
            positions,
            batches,
        });
        Ok(true)
    }
}

impl Open {
    /// Those rows of the next batch that were asked for.
    fn asked_for(&mut self, batch: RecordBatch, asked: &HashMap<RowId, u32>) -> Result<Found> {
        let ids = ids_of(&batch)?;
        let mut places = Vec::with_capacity(batch.num_rows());
        let mut hits = Vec::with_capacity(batch.num_rows());
        for id in &ids {
            let position = self.positions.pop().expect("the batch has no more rows");
            let place = Place {
                file: self.file,
                position,
            };
            let hit = id.and_then(|id| asked.get(id));
            hits.push(hit.is_some());
            places.extend(hit.map(|asked| (place, *asked)));
        }
        let all = places.len() == batch.num_rows();
        Ok(Found {
            row_groups: Arc::clone(self.index.row_groups()),
            rows: match all {
                true => batch,
                false => filter_record_batch(&batch, &BooleanArray::from(hits))?,
            },
            places,
        })
    }
}
