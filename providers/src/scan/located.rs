//! Where the base has the rows of an overlay, and what they hold.
//!
//! **Invariant:** a row is masked only after its id has been read at its position and is one of those that were asked
//! for: a key index that names too much costs time and no row.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use lakesync_proto::{RowId, TableSchema};

use super::data_file::DataFile;
use super::key_index::KeyIndex;
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
/// # Errors
/// When a file cannot be read.
pub(crate) async fn locate<S: BuildHasher + Sync>(
    indexes: &KeyIndexes<S>,
    ctx: &SessionContext,
    table: &ParquetTable,
    schema: &TableSchema,
    ids: &BTreeSet<&RowId>,
) -> Result<Option<Located>> {
    if !indexes.have_room_for(table.files()) {
        return Ok(None);
    }
    let hashes: Vec<u64> = ids.iter().map(|id| indexes.hash(id.as_str())).collect();
    let mut located = Located::default();
    for at in 0..table.files().len() {
        let file = DataFile { ctx, table, at };
        let Some(index) = indexes.get(file).await? else {
            return Ok(None);
        };
        let candidates = candidates(&index, &hashes);
        let Some(rows) = rows_at(file, schema, &index, &candidates).await? else {
            return Ok(None);
        };
        let asked = rows.into_iter().zip(candidates);
        let mut positions = Vec::new();
        for ((id, row), position) in asked {
            if ids.contains(&id) {
                positions.push(position);
                let file = u32::try_from(at).expect("a snapshot has no 4 billion files");
                let place = Place { file, position };
                located
                    .again
                    .extend(located.places.insert(id.clone(), place));
                located.rows.insert(id, row);
            }
        }
        if !positions.is_empty() {
            let masks = &mut located.masks;
            masks.add(&file.info().path, index.row_groups(), &positions);
        }
    }
    Ok(Some(located))
}

/// The rows at these positions, in their order; none when there are not as many of them.
async fn rows_at(
    file: DataFile<'_>,
    schema: &TableSchema,
    index: &KeyIndex,
    positions: &[u32],
) -> Result<Option<Vec<(RowId, BaseRow)>>> {
    let mut rows = Vec::with_capacity(positions.len());
    if positions.is_empty() {
        return Ok(Some(rows));
    }
    let mut batches = file.rows(only(index.row_groups(), positions))?;
    while let Some(batch) = batches.try_next().await? {
        rows.extend(read_rows(schema, &batch)?);
    }
    Ok((rows.len() == positions.len()).then_some(rows))
}

/// The positions of the rows that may be asked for, ascending.
fn candidates(index: &KeyIndex, hashes: &[u64]) -> Vec<u32> {
    let found = hashes.iter().flat_map(|hash| index.find(*hash));
    let mut positions: Vec<u32> = found.collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}
