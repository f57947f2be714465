//! The rows of a base that are asked for, found file by file and read batch by batch: however many they are, what is
//! held at a time is a batch.
//!
//! Files whose row ids are all above or below those that are asked for are not looked at; as many of the others as there
//! are cores are asked at a time.
//!
//! **Invariant:** a row is given only after its id has been read at its position and is one of those that were asked
//! for: a key index that names too much costs time and no row. A dead row is given to nobody.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::common::utils::get_available_parallelism;
use datafusion::execution::TaskContext;
use datafusion::prelude::SessionContext;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use lakesync_proto::{RowId, columns};

use super::asked::Asked;
use super::data_file::DataFile;
use super::file_bounds::field_id;
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
pub(crate) struct Locator<'a> {
    asked: Arc<Asked<'a>>,
    searches: BoxStream<'a, Result<Option<Hits>>>,
    open: Option<Open>,
}

/// Where a file may have rows.
struct Hits {
    file: DataFile,
    row_groups: Arc<[u32]>,
    /// Ascending.
    positions: Vec<u32>,
}

/// The file that is read.
struct Open {
    file: u32,
    row_groups: Arc<[u32]>,
    /// Positions whose rows have not come yet.
    positions: std::vec::IntoIter<u32>,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl<'a> Locator<'a> {
    /// A search for the rows with these ids, which are ascending and each there once. None when it takes more memory
    /// than key indexes may have.
    ///
    /// # Errors
    /// When the table has no row id.
    pub(crate) fn new(
        indexes: &'a KeyIndexes,
        ctx: &SessionContext,
        table: &ParquetTable,
        ids: Vec<&'a RowId>,
    ) -> Result<Option<Self>> {
        Self::among(indexes, &ctx.task_ctx(), table, (ids, &|_| true))
    }

    /// The same in those of the table's files that `among` takes, by their numbers.
    ///
    /// # Errors
    /// As [`Locator::new`].
    pub(super) fn among(
        indexes: &'a KeyIndexes,
        task: &Arc<TaskContext>,
        table: &ParquetTable,
        (ids, among): (Vec<&'a RowId>, &dyn Fn(usize) -> bool),
    ) -> Result<Option<Self>> {
        let asked = Arc::new(Asked::new(ids));
        let field = field_id(table.field(columns::ROW_ID)?);
        let all = table.files().iter().enumerate();
        let all = all.filter(|(at, _)| among(*at) && !table.is_all_dead(*at));
        let some = all.filter(|(_, info)| !asked.within_file(info, field).is_empty());
        let some: Vec<usize> = some.map(|(at, _)| at).collect();
        if !indexes.have_room_for(some.iter().map(|at| &table.files()[*at])) {
            return Ok(None);
        }
        let searches = some.into_iter().map(|at| {
            let file = DataFile {
                task: Arc::clone(task),
                table: table.clone(),
                at,
            };
            search(file, Arc::clone(&asked), field, indexes).boxed()
        });
        let searches: Vec<_> = searches.collect();
        let searches = stream::iter(searches).buffered(get_available_parallelism());
        Ok(Some(Self {
            asked,
            searches: searches.boxed(),
            open: None,
        }))
    }

    /// Reads on until some of the rows have been found. Dropped before it is done, it has lost its place: the search
    /// is to be dropped with it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) async fn next(&mut self, wanted: Columns) -> Result<Next> {
        loop {
            let Some(open) = &mut self.open else {
                match self.searches.try_next().await? {
                    None => return Ok(Next::End),
                    Some(None) => return Ok(Next::Unknown),
                    Some(Some(hits)) if hits.positions.is_empty() => {}
                    Some(Some(hits)) => self.open = Some(Open::new(hits, wanted)?),
                }
                continue;
            };
            match open.batches.try_next().await? {
                Some(batch) if batch.num_rows() > open.positions.len() => return Ok(Next::Unknown),
                Some(batch) => {
                    let found = open.asked_for(batch, &self.asked)?;
                    if !found.places.is_empty() {
                        return Ok(Next::Rows(found));
                    }
                }
                None if open.positions.len() == 0 => self.open = None,
                None => return Ok(Next::Unknown),
            }
        }
    }
}

/// Searches one file; none when it cannot be indexed.
async fn search(
    file: DataFile,
    asked: Arc<Asked<'_>>,
    field: Option<i32>,
    indexes: &KeyIndexes,
) -> Result<Option<Hits>> {
    let info = file.info();
    let mut ranges = vec![asked.within_file(info, field)];
    let known = indexes.known(info);
    if known.is_none() {
        let footer = file.footer().await?;
        ranges = asked.within_groups(ranges[0].clone(), &footer);
        if ranges.is_empty() {
            return Ok(Some(Hits {
                file,
                row_groups: Arc::new([]),
                positions: Vec::new(),
            }));
        }
    }
    let index = match known {
        Some(index) => index,
        None => match indexes.get(file.clone()).await? {
            Some(index) => index,
            None => return Ok(None),
        },
    };
    let mut positions = asked.positions(&ranges, &index, indexes);
    if let Some(dead) = file.table.dead().at(file.at) {
        dead.take_from(&mut positions);
    }
    Ok(Some(Hits {
        row_groups: Arc::clone(index.row_groups()),
        file,
        positions,
    }))
}

impl Open {
    fn new(hits: Hits, wanted: Columns) -> Result<Self> {
        let access = only(&hits.row_groups, &hits.positions);
        Ok(Self {
            file: u32::try_from(hits.file.at).expect("a snapshot has no 4 billion files"),
            row_groups: hits.row_groups,
            positions: hits.positions.into_iter(),
            batches: hits.file.rows(access, wanted)?,
        })
    }

    /// Those rows of the next batch that were asked for.
    fn asked_for(&mut self, batch: RecordBatch, asked: &Asked<'_>) -> Result<Found> {
        let ids = ids_of(&batch)?;
        let mut places = Vec::with_capacity(batch.num_rows());
        let mut hits = Vec::with_capacity(batch.num_rows());
        for (id, position) in ids.iter().zip(&mut self.positions) {
            let place = Place {
                file: self.file,
                position,
            };
            let hit = id.and_then(|id| asked.place(id));
            hits.push(hit.is_some());
            places.extend(hit.map(|asked| (place, asked)));
        }
        let all = places.len() == batch.num_rows();
        Ok(Found {
            row_groups: Arc::clone(&self.row_groups),
            rows: match all {
                true => batch,
                false => filter_record_batch(&batch, &BooleanArray::from(hits))?,
            },
            places,
        })
    }
}
