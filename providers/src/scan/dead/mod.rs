//! The dead rows of a snapshot: those that its delete files take away, by position in their data files.
//!
//! ```text
//!   position deletes   (data file, position)            ─ read ────────────────────────┐
//!   equality deletes   row ids ─ key indexes of older data files ─ positions, proven ──┴─► Dead: by data file, ascending
//! ```
//! A position delete applies to data files of its own commit and older, an equality delete to older ones only; an
//! equality delete of a partition applies in that partition, one without a partition everywhere.
//!
//! **Invariant:** what is dead in a snapshot never changes, and every reader of its files passes it over: the same row id
//! may be dead in one file, or in several, and live in another. Positions are rows of their file.

mod equality;
mod positions;
mod shared;
mod sorted;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::TaskContext;

use crate::error::Result;
use crate::files::ParquetTable;
use crate::lake::DataFileInfo;

use shared::Shared;
pub(crate) use sorted::{Sorted, applies};

/// How many dead rows a snapshot may have, 4 bytes each in memory (256 MiB).
const DEAD_ROWS_MAX: usize = 64 << 20;

/// The dead rows of one data file.
#[derive(Debug, PartialEq, Eq)]
pub struct DeadRows {
    positions: Box<[u32]>,
}

impl DeadRows {
    /// Those at `positions`, in any order, of a file with so many rows; none when none of them is a row.
    fn new(mut positions: Vec<u32>, rows: u64) -> Option<Self> {
        positions.sort_unstable();
        positions.dedup();
        let within = positions.partition_point(|position| u64::from(*position) < rows);
        positions.truncate(within);
        (within > 0).then(|| Self {
            positions: positions.into(),
        })
    }

    /// Where they are in the file, counted from 0 over all row groups; ascending, one at least.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Whether the row at `position` is dead.
    #[must_use]
    pub fn contains(&self, position: u32) -> bool {
        self.positions.binary_search(&position).is_ok()
    }

    /// How many they are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        u64::try_from(self.positions.len()).expect("32 bits count them")
    }

    /// Takes the dead ones out of some positions, which are ascending.
    pub(crate) fn take_from(&self, positions: &mut Vec<u32>) {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return;
        };
        let start = self.positions.partition_point(|dead| dead < first);
        let end = self.positions.partition_point(|dead| dead <= last);
        let mut dead = self.positions[start..end].iter().peekable();
        positions.retain(|position| {
            while dead.next_if(|dead| *dead < position).is_some() {}
            dead.peek() != Some(&position)
        });
    }
}

/// The dead rows of all files of a snapshot.
#[derive(Debug, Default)]
pub struct Dead {
    /// By the number of the data file in the snapshot's list; shorter than the list, or empty, when the rest has none.
    by_file: Vec<Option<Arc<DeadRows>>>,
    by_path: HashMap<String, Arc<DeadRows>>,
    delete_files: Arc<[DataFileInfo]>,
    rows: u64,
}

impl Dead {
    /// Those that the delete files of `sorted` name in the files of `table`, whose data files are the sorted ones in
    /// their order. Equality deletes must be by the row id.
    ///
    /// # Errors
    /// When a delete file cannot be read or names more rows than may be held.
    pub(crate) async fn read(
        task: &Arc<TaskContext>,
        table: &ParquetTable,
        sorted: &Sorted,
    ) -> Result<Self> {
        let mut reading = Reading::new(task, table, sorted);
        reading.positions(&sorted.positions).await?;
        reading.equality(&sorted.equality).await?;
        Ok(reading.finish(&sorted.deletes()))
    }

    /// Those that the position deletes of `sorted` name; who asks applies the equality deletes.
    ///
    /// # Errors
    /// As [`Dead::read`].
    pub(crate) async fn by_position(
        task: &Arc<TaskContext>,
        table: &ParquetTable,
        sorted: &Sorted,
    ) -> Result<Self> {
        let mut reading = Reading::new(task, table, sorted);
        reading.positions(&sorted.positions).await?;
        Ok(reading.finish(&sorted.positions))
    }

    /// Those of some of the data files, by their numbers among them.
    #[must_use]
    pub(crate) fn among(&self, files: &[DataFileInfo]) -> Self {
        let by_file = files.iter().map(|file| self.of(&file.path).map(Arc::clone));
        Self::new(by_file.collect(), files, Arc::clone(&self.delete_files))
    }

    fn new(
        by_file: Vec<Option<Arc<DeadRows>>>,
        files: &[DataFileInfo],
        delete_files: Arc<[DataFileInfo]>,
    ) -> Self {
        let named = by_file.iter().zip(files);
        let named =
            named.filter_map(|(dead, file)| Some((file.path.clone(), Arc::clone(dead.as_ref()?))));
        Self {
            by_path: named.collect(),
            rows: by_file.iter().flatten().map(|dead| dead.rows()).sum(),
            delete_files,
            by_file,
        }
    }

    /// The dead rows of the data file with this number in the snapshot's list of data files; none when all rows live.
    #[must_use]
    pub fn at(&self, file: usize) -> Option<&Arc<DeadRows>> {
        self.by_file.get(file)?.as_ref()
    }

    /// The dead rows of the data file at `path`, its full URI; none when all rows live.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<&Arc<DeadRows>> {
        self.by_path.get(path)
    }

    /// How many rows are dead.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether no row is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// All delete files of the snapshot, also those that take nothing away any more.
    #[must_use]
    pub fn delete_files(&self) -> &[DataFileInfo] {
        &self.delete_files
    }

    /// The position-delete files that are for the data file at `path` and for no other.
    pub fn deletes_of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a DataFileInfo> {
        let of_file =
            move |file: &&DataFileInfo| file.referenced_data_file.as_deref() == Some(path);
        self.delete_files.iter().filter(of_file)
    }
}

/// The dead rows of a snapshot that are being read.
struct Reading<'a> {
    task: &'a Arc<TaskContext>,
    /// The data files with all their rows.
    table: &'a ParquetTable,
    name: &'a str,
    /// What was found, by data file.
    found: Vec<Found<'a>>,
    /// How many rows that are.
    count: usize,
}

/// What was found of one data file.
#[derive(Clone, Debug)]
enum Found<'a> {
    /// Positions in any order, some of them more than once.
    Positions(Vec<u32>),
    /// All that its only delete file names; which that is.
    Alone(Arc<DeadRows>, &'a str),
}

impl Found<'_> {
    fn add(&mut self, mut more: Vec<u32>) {
        let known = match self {
            Self::Positions(known) => std::mem::take(known),
            Self::Alone(rows, _) => rows.positions.to_vec(),
        };
        if more.is_empty() {
            more = known;
        } else {
            more.extend(known);
        }
        *self = Self::Positions(more);
    }
}

impl<'a> Reading<'a> {
    fn new(task: &'a Arc<TaskContext>, table: &'a ParquetTable, sorted: &'a Sorted) -> Self {
        Self {
            task,
            table,
            name: &sorted.table,
            found: vec![Found::Positions(Vec::new()); table.files().len()],
            count: 0,
        }
    }

    /// Takes rows of one data file.
    fn take(&mut self, file: usize, positions: Vec<u32>) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        self.count(positions.len())?;
        self.found[file].add(positions);
        Ok(())
    }

    /// Takes all that the only delete file of a data file names.
    fn take_alone(&mut self, file: usize, rows: Arc<DeadRows>, delete_file: &'a str) -> Result<()> {
        self.count(rows.positions.len())?;
        self.found[file] = Found::Alone(rows, delete_file);
        Ok(())
    }

    fn count(&mut self, rows: usize) -> Result<()> {
        self.count += rows;
        if self.count > DEAD_ROWS_MAX {
            return Err(sorted::unreadable(
                self.name,
                format!(
                    "its delete files name more than {DEAD_ROWS_MAX} rows; rewrite its data files: \
                     CALL system.rewrite_data_files for a table of your own, else with the program that deleted them"
                ),
            ));
        }
        Ok(())
    }

    fn finish(self, delete_files: &[DataFileInfo]) -> Dead {
        let files = self.table.files();
        let found = self.found.into_iter().zip(files);
        let by_file = found.map(|(found, info)| match found {
            Found::Positions(found) => DeadRows::new(found, info.rows).map(Arc::new),
            Found::Alone(rows, delete_file) => {
                Shared::of_process().put(delete_file, &rows);
                Some(rows)
            }
        });
        Dead::new(by_file.collect(), files, delete_files.into())
    }
}
