//! The search for touched rows in the files of a base: one file after another, so that one key index is in memory at a
//! time.
//!
//! A file that has a key index is asked by it, every touched row in the order of hashes, which is the index's own. Of a
//! file that has none the row ids are read, and each is looked up among the touched rows: they will be rewritten or
//! indexed for readers anyway.
//!
//! **Invariant:** every live row of the base whose id has the hash of a touched row is found.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use futures::TryStreamExt as _;
use tokio::task::spawn_blocking;

use super::data_file::{DataFile, row_groups};
use super::dead::DeadRows;
use super::key_index::KeyIndex;
use super::locator::Columns;
use super::mask::only;
use super::places::{LATE, Places, SEVERAL, Slots, UNPLACED, file, place, position};
use super::seed::Seed;
use super::touched_rows::TouchedRows;
use crate::error::{Error, Result};
use crate::resolve::ids_of;

/// So many rows of a base may have the hash of another that is touched (a million): by chance none has, so a base with
/// more has rows twice.
const SEVERAL_MAX: usize = 1_000_000;

/// What is found so far.
struct Search {
    slots: Slots,
    /// Further places of entries that have one.
    further: Vec<(usize, u64)>,
}

/// Where the base has them.
pub(super) async fn search(mut touched: TouchedRows) -> Result<Places> {
    let mut search = Search {
        slots: Slots::new(std::mem::take(&mut touched.entries)),
        further: Vec::new(),
    };
    for at in 0..touched.base.files().len() {
        if !touched.reached[at] || touched.base.is_all_dead(at) {
            continue;
        }
        search = in_file(search, &touched, at).await?;
        if search.further.len() > SEVERAL_MAX {
            let table = touched.base.files()[at].path.clone();
            let reason = format!("more than {SEVERAL_MAX} of its rows are in the base twice");
            return Err(Error::ForeignFile { table, reason });
        }
    }
    let several = several(&mut search, &touched).await?;
    let files = touched.base.files().len();
    let found = Places::found(
        (touched.indexes, touched.seed),
        search.slots,
        several,
        (files, touched.memory),
    );
    Ok(found)
}

impl Search {
    /// The row of entry `entry` may be at `place`.
    fn hit(&mut self, entry: usize, place: u64) {
        let slot = &mut self.slots.entries[entry].1;
        if *slot & UNPLACED != 0 {
            *slot = place | (*slot & LATE);
        } else {
            *slot |= SEVERAL;
            self.further.push((entry, place));
        }
    }

    fn by_index(&mut self, index: &KeyIndex, (of_file, dead): (u32, Option<&DeadRows>)) {
        for entry in 0..self.slots.entries.len() {
            let found = index.find(self.slots.entries[entry].0);
            for position in found.filter(|at| dead.is_none_or(|dead| !dead.contains(*at))) {
                self.hit(entry, place(of_file, position));
            }
        }
    }
}

async fn in_file(mut search: Search, touched: &TouchedRows, at: usize) -> Result<Search> {
    let indexes = &touched.indexes;
    let of_file = u32::try_from(at).expect("a snapshot has no 4 billion files");
    let source = data_file(touched, at);
    let dead = touched.base.dead().at(at).map(Arc::clone);
    let index = indexes.kept_index(source.clone()).await;
    if let Some(index) = index.filter(|index| index.seed() == touched.seed) {
        let found = spawn_blocking(move || {
            search.by_index(&index, (of_file, dead.as_deref()));
            search
        });
        return Ok(found.await.map_err(stopped)?);
    }
    let seed: Seed = touched.seed;
    let mut ids = source.ids()?;
    let mut next = 0_u32;
    while let Some(batch) = ids.try_next().await? {
        for id in &batch {
            let hash = id.map(|id| indexes.hash(seed, id));
            let is_dead = |at| dead.as_ref().is_some_and(|dead| dead.contains(at));
            if let Some(entry) = hash.and_then(|hash| search.slots.find(hash))
                && !is_dead(next)
            {
                search.hit(entry, place(of_file, next));
            }
            next = next.checked_add(1).ok_or_else(|| too_long(&source))?;
        }
    }
    Ok(search)
}

/// The ids of the rows whose hashes meet, by hash.
async fn several(
    search: &mut Search,
    touched: &TouchedRows,
) -> Result<HashMap<u64, Vec<(Box<str>, u64)>>> {
    let entries = &search.slots.entries;
    let mut wanted: Vec<u64> = Vec::new();
    for (entry, further) in &search.further {
        wanted.extend([*further, entries[*entry].1 & !(LATE | SEVERAL)]);
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut found: HashMap<u64, Vec<(Box<str>, u64)>> = HashMap::new();
    for places in wanted.chunk_by(|a, b| file(*a) == file(*b)) {
        let source = data_file(touched, file(places[0]));
        let groups = row_groups(source.footer().await?.as_ref());
        let groups = groups.ok_or_else(|| too_long(&source))?;
        let positions: Vec<u32> = places.iter().map(|place| position(*place)).collect();
        let mut rows = source.rows(only(&groups, &positions), Columns::RowId)?;
        let mut places = places.iter();
        while let Some(batch) = rows.try_next().await? {
            for (id, place) in ids_of(&batch)?.iter().zip(&mut places) {
                let id = id.unwrap_or_default();
                let hash = touched.indexes.hash(touched.seed, id);
                found.entry(hash).or_default().push((id.into(), *place));
            }
        }
    }
    Ok(found)
}

fn data_file(touched: &TouchedRows, at: usize) -> DataFile {
    DataFile {
        task: touched.ctx.task_ctx(),
        table: touched.base.clone(),
        at,
    }
}

fn too_long(file: &DataFile) -> Error {
    Error::ForeignFile {
        table: file.info().path.clone(),
        reason: "it has more rows than can be counted".to_owned(),
    }
}

fn stopped(error: tokio::task::JoinError) -> DataFusionError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => DataFusionError::ExecutionJoin(Box::new(error)),
    }
}
