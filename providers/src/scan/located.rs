//! Where the base has the rows of an overlay, and what they hold.
//!
//! **Invariant:** a row is masked only after its id has been read at its position and is one of those that were asked
//! for: a key index that names too much costs time and no row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::utils::get_available_parallelism;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use lakesync_proto::{RowId, TableSchema, columns};

use super::asked::Asked;
use super::data_file::DataFile;
use super::file_bounds::field_id;
use super::key_indexes::KeyIndexes;
use super::mask::{Masks, only};
use super::patch::Place;
use crate::error::Result;
use crate::files::ParquetTable;
use crate::resolve::{BaseRow, read_rows};

/// The rows of a base that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// What the base has of them, by id.
    pub(crate) rows: BTreeMap<RowId, BaseRow>,
    /// Where it has them.
    pub(crate) places: BTreeMap<RowId, Place>,
    /// Further places of rows that it has more than once, which no base of ours does.
    pub(crate) again: Vec<Place>,
    /// Everything else of the base.
    pub(crate) masks: Masks,
}

/// Finds the rows with these ids in `table`, the base of a table with `schema`. None when that takes more memory than
/// key indexes may have, or a file is not what its manifest says: a join then has to find them.
///
/// Files whose row ids are all above or below those that are asked for are not looked at; as many of the others as there
/// are cores are asked at a time.
///
/// # Errors
/// When a file cannot be read.
pub(crate) async fn locate(
    indexes: &KeyIndexes,
    ctx: &SessionContext,
    table: &ParquetTable,
    schema: &TableSchema,
    ids: &BTreeSet<&RowId>,
) -> Result<Option<Located>> {
    let asked = Asked::new(ids);
    let field = field_id(table.field(columns::ROW_ID)?);
    let all = table.files().iter().enumerate();
    let some = all.filter(|(_, info)| !asked.within_file(info, field).is_empty());
    let some: Vec<usize> = some.map(|(at, _)| at).collect();
    if !indexes.have_room_for(some.iter().map(|at| &table.files()[*at])) {
        return Ok(None);
    }
    let task = ctx.task_ctx();
    let searches = some.into_iter().map(|at| {
        let file = DataFile {
            task: Arc::clone(&task),
            table: table.clone(),
            at,
        };
        search(file, &asked, field, (indexes, schema)).boxed()
    });
    let searches: Vec<BoxFuture<'_, Result<Option<Found>>>> = searches.collect();
    let mut searches = stream::iter(searches).buffered(get_available_parallelism());
    let mut located = Located::default();
    while let Some(found) = searches.try_next().await? {
        let Some(found) = found else {
            return Ok(None);
        };
        located.add(table, found);
    }
    Ok(Some(located))
}

/// The rows that one file has of those that were asked for.
struct Found {
    file: usize,
    row_groups: Arc<[u32]>,
    /// Ascending by position.
    rows: Vec<(u32, RowId, BaseRow)>,
}

impl Located {
    fn add(&mut self, table: &ParquetTable, found: Found) {
        if found.rows.is_empty() {
            return;
        }
        let positions: Vec<u32> = found.rows.iter().map(|(position, ..)| *position).collect();
        let path = &table.files()[found.file].path;
        self.masks.add(path, &found.row_groups, &positions);
        let file = u32::try_from(found.file).expect("a snapshot has no 4 billion files");
        for (position, id, row) in found.rows {
            let place = Place { file, position };
            self.again.extend(self.places.insert(id.clone(), place));
            self.rows.insert(id, row);
        }
    }
}

/// Searches one file; none when it cannot be indexed, or is not what its index says.
async fn search(
    file: DataFile,
    asked: &Asked<'_>,
    field: Option<i32>,
    (indexes, schema): (&KeyIndexes, &TableSchema),
) -> Result<Option<Found>> {
    let info = file.info();
    let mut ranges = vec![asked.within_file(info, field)];
    let mut found = Found {
        file: file.at,
        row_groups: Arc::new([]),
        rows: Vec::new(),
    };
    let known = indexes.known(info);
    if known.is_none() {
        let footer = file.footer().await?;
        ranges = asked.within_groups(ranges[0].clone(), &footer);
        if ranges.is_empty() {
            return Ok(Some(found));
        }
    }
    let index = match known {
        Some(index) => index,
        None => match indexes.get(file.clone()).await? {
            Some(index) => index,
            None => return Ok(None),
        },
    };
    let positions = asked.positions(&ranges, &index, indexes);
    if positions.is_empty() {
        return Ok(Some(found));
    }
    found.row_groups = Arc::clone(index.row_groups());
    let mut batches = file.rows(only(&found.row_groups, &positions))?;
    let mut places = positions.iter();
    while let Some(batch) = batches.try_next().await? {
        for (id, row) in read_rows(schema, &batch)? {
            let Some(position) = places.next() else {
                return Ok(None);
            };
            if asked.has(&id) {
                found.rows.push((*position, id, row));
            }
        }
    }
    Ok(places.next().is_none().then_some(found))
}
