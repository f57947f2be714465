//! Whether rows are where they are said to be, asked in the order of places.
//!
//! Of a file that much of is asked for the row ids are read through, beside the questions; of the others those at the
//! asked positions.
//!
//! **Invariant:** a place is confirmed only after its row's id was read there.

use arrow::array::{Array as _, BooleanArray, StringArray};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use super::data_file::{DataFile, row_groups};
use super::key_index::wide;
use super::locator::Columns;
use super::mask::only;
use super::places::Places;
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::resolve::ids_of;

/// From one asked row of so many on, all row ids of a file are read: with fewer, most pages have none.
const DENSE: u64 = 20;

/// Reads what is at places.
pub struct PlaceCheck {
    base: ParquetTable,
    ctx: SessionContext,
    by_file: Vec<u64>,
    open: Option<Reading>,
}

/// The ids of a file, from its first row on.
struct Reading {
    file: usize,
    batches: BoxStream<'static, Result<StringArray>>,
    batch: Option<StringArray>,
    /// The position of the batch's first row.
    first: u64,
}

impl std::fmt::Debug for PlaceCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlaceCheck").finish_non_exhaustive()
    }
}

impl PlaceCheck {
    /// Of rows in the files of `base`, about so many of each file.
    #[must_use]
    pub fn new(ctx: &SessionContext, base: &ParquetTable, by_file: Vec<u64>) -> Self {
        Self {
            base: base.clone(),
            ctx: ctx.clone(),
            by_file,
            open: None,
        }
    }

    /// Whether the base has the rows with these ids where their keys say, which are not descending, from one call to the next
    /// either. A key that says no place is not confirmed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn confirm(&mut self, keys: &[i64], ids: &StringArray) -> Result<BooleanArray> {
        let mut confirmed = vec![false; keys.len()];
        let file_of = |key: &i64| Places::of_key(*key).map(|(file, _)| file);
        let mut start = 0;
        for run in keys.chunk_by(|a, b| file_of(a) == file_of(b)) {
            let end = start + run.len();
            if let Some(file) = file_of(&run[0]) {
                let ids = ids.slice(start, run.len());
                let file = usize::try_from(file).expect("it was the place in a list");
                self.in_file(file, (run, &ids), &mut confirmed[start..end])
                    .await?;
            }
            start = end;
        }
        Ok(BooleanArray::from(confirmed))
    }

    async fn in_file(
        &mut self,
        file: usize,
        (keys, ids): (&[i64], &StringArray),
        confirmed: &mut [bool],
    ) -> Result<()> {
        let asked = self.by_file.get(file).copied().unwrap_or(0);
        if asked.saturating_mul(DENSE) < self.base.files()[file].rows {
            let file = self.file(file);
            return at_positions(&file, (keys, ids), confirmed).await;
        }
        let mut reading = match self.open.take() {
            Some(reading) if reading.file == file => reading,
            _ => Reading {
                file,
                batches: self.file(file).ids()?,
                batch: None,
                first: 0,
            },
        };
        for (at, key) in keys.iter().enumerate() {
            let known = reading.at(position(*key)).await?;
            confirmed[at] = known == Some(ids.value(at));
        }
        self.open = Some(reading);
        Ok(())
    }

    fn file(&self, at: usize) -> DataFile {
        DataFile {
            task: self.ctx.task_ctx(),
            table: self.base.clone(),
            at,
        }
    }
}

/// Reads the ids at the positions that `keys` say.
async fn at_positions(
    file: &DataFile,
    (keys, ids): (&[i64], &StringArray),
    confirmed: &mut [bool],
) -> Result<()> {
    let groups = row_groups(file.footer().await?.as_ref());
    let groups = groups.ok_or_else(|| Error::ForeignFile {
        table: file.info().path.clone(),
        reason: "a row group of it has more rows than can be counted".to_owned(),
    })?;
    let mut positions: Vec<u32> = keys.iter().map(|key| position(*key)).collect();
    positions.dedup();
    // What is beyond the file is no row of it.
    let rows: u64 = groups.iter().copied().map(u64::from).sum();
    positions.retain(|position| u64::from(*position) < rows);
    let mut batches = file.rows(only(&groups, &positions), Columns::RowId)?;
    let mut left = positions.into_iter();
    let mut at = 0;
    while let Some(batch) = batches.try_next().await? {
        for (id, place) in ids_of(&batch)?.iter().zip(&mut left) {
            while keys.get(at).is_some_and(|key| position(*key) == place) {
                confirmed[at] = id == Some(ids.value(at));
                at += 1;
            }
        }
    }
    Ok(())
}

impl Reading {
    /// The id at this position, which is not before the last one that was asked for.
    async fn at(&mut self, position: u32) -> Result<Option<&str>> {
        let position = u64::from(position);
        loop {
            let rows = self.batch.as_ref().map_or(0, StringArray::len);
            let end = self.first + u64::try_from(rows).unwrap_or(u64::MAX);
            if position < end {
                break;
            }
            let Some(next) = self.batches.try_next().await? else {
                return Ok(None);
            };
            self.first = end;
            self.batch = Some(next);
        }
        let Some(batch) = &self.batch else {
            return Ok(None);
        };
        let row = wide(u32::try_from(position - self.first).expect("a batch is short"));
        Ok(batch.is_valid(row).then(|| batch.value(row)))
    }
}

/// The position that a key says, which says a place.
fn position(key: i64) -> u32 {
    let place = Places::of_key(key).and_then(|(_, position)| u32::try_from(position).ok());
    place.expect("keys of a file have positions of 32 bits")
}
