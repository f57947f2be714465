//! Position-delete files: which rows of which data file they name.
//!
//! **Invariant:** a file that names a file which is not live, or a younger one, takes nothing away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::shared::Shared;
use super::sorted::broken;
use super::{DeadRows, Reading};
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::foreign::Layout;
use crate::lake::{DataFileInfo, Warehouse};
use crate::scan::data_file::DataFile;

/// Iceberg's reserved field ids of a position-delete file.
const FILE_PATH_ID: i32 = 2_147_483_546;
const POS_ID: i32 = 2_147_483_545;

/// Delete files that are read at the same time: most are small, and a store answers after tens of milliseconds.
const CONCURRENT_READS: usize = 16;

/// The data files that deletes may name: by path the number in the list, and the file's sequence number.
type Data<'a> = HashMap<&'a str, (usize, i64)>;

/// Some rows of one data file.
type Named = (usize, Vec<u32>);

impl<'a> Reading<'a> {
    /// Reads these files.
    pub(super) async fn positions(&mut self, deletes: &'a [DataFileInfo]) -> Result<()> {
        if deletes.is_empty() {
            return Ok(());
        }
        let table = self.table;
        let files = table.files().iter().enumerate();
        let data: Data<'_> = files
            .map(|(at, file)| (file.path.as_str(), (at, file.sequence_number)))
            .collect();
        let lone = lone(deletes);
        let mut unknown = Vec::with_capacity(deletes.len());
        for delete in deletes {
            let file = DeleteFile {
                task: self.task,
                warehouse: table.warehouse(),
                name: self.name,
                delete,
            };
            let known = lone.contains(delete.path.as_str());
            let known = known
                .then(|| Shared::of_process().get(&delete.path))
                .flatten();
            match (known, file.only_target(&data)) {
                (_, Target::Gone) => {}
                (Some(rows), Target::One(at)) => self.take_alone(at, rows, &delete.path)?,
                _ => unknown.push(file),
            }
        }
        let reads = unknown.into_iter().map(|file| {
            let data = &data;
            async move { Ok::<_, Error>((file.delete, file.read(data).await?)) }
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some((delete, named)) = reads.try_next().await? {
            let alone = lone.contains(delete.path.as_str());
            for (file, positions) in named {
                match DeadRows::new(positions, table.files()[file].rows) {
                    Some(rows) if alone => {
                        self.take_alone(file, Arc::new(rows), &delete.path)?;
                    }
                    Some(rows) => self.take(file, rows.positions.into())?,
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// The paths of those that are the only ones of their data file.
fn lone(deletes: &[DataFileInfo]) -> HashSet<&str> {
    let mut of_target: HashMap<&str, Vec<&str>> = HashMap::new();
    for delete in deletes {
        match delete.referenced_data_file.as_deref() {
            Some(target) => of_target.entry(target).or_default().push(&delete.path),
            // It may be of any data file.
            None => return HashSet::new(),
        }
    }
    let lone = of_target.into_values().filter(|paths| paths.len() == 1);
    lone.flatten().collect()
}

/// One position-delete file.
struct DeleteFile<'a> {
    task: &'a Arc<TaskContext>,
    warehouse: &'a Warehouse,
    /// The table, for errors.
    name: &'a str,
    delete: &'a DataFileInfo,
}

/// Which data files a delete file speaks of.
enum Target {
    /// This one.
    One(usize),
    /// One that is not live, or younger: it takes nothing away.
    Gone,
    /// Its rows say.
    Any,
}

impl DeleteFile<'_> {
    /// The data file that it is for.
    fn only_target(&self, data: &Data<'_>) -> Target {
        match &self.delete.referenced_data_file {
            None => Target::Any,
            Some(path) => self.target(data, path).map_or(Target::Gone, Target::One),
        }
    }

    /// The rows that it takes away.
    async fn read(self, data: &Data<'_>) -> Result<Vec<Named>> {
        match self.only_target(data) {
            Target::One(file) => self.read_of(file).await,
            Target::Gone => Ok(Vec::new()),
            Target::Any => self.read_any(data).await,
        }
    }

    /// The data file that a path names, if this file may delete rows of it.
    fn target(&self, data: &Data<'_>, path: &str) -> Option<usize> {
        let (file, sequence_number) = *data.get(path)?;
        (sequence_number <= self.delete.sequence_number).then_some(file)
    }

    /// All of it is of one data file: the paths need not be read.
    async fn read_of(&self, file: usize) -> Result<Vec<Named>> {
        let mut named = Vec::new();
        let mut batches = self.open()?.columns(vec![1])?;
        while let Some(batch) = batches.try_next().await? {
            let places = self.places(&batch, 0)?;
            for place in &places {
                named.push(self.position(place)?);
            }
        }
        Ok(vec![(file, named)])
    }

    /// Each row says of which data file it is.
    async fn read_any(&self, data: &Data<'_>) -> Result<Vec<Named>> {
        let mut named: HashMap<usize, Vec<u32>> = HashMap::new();
        let mut batches = self.open()?.columns(vec![0, 1])?;
        while let Some(batch) = batches.try_next().await? {
            let paths: &StringArray = batch.column(0).as_string::<i32>();
            let places = self.places(&batch, 1)?;
            for (path, place) in paths.iter().zip(&places) {
                let path = path.ok_or_else(|| self.broken("a row without a path"))?;
                if let Some(file) = self.target(data, path) {
                    let positions = named.entry(file).or_default();
                    positions.push(self.position(place)?);
                }
            }
        }
        Ok(named.into_iter().collect())
    }

    fn places(&self, batch: &RecordBatch, column: usize) -> Result<Int64Array> {
        let places = batch.column(column).as_primitive::<Int64Type>();
        match places.null_count() {
            0 => Ok(places.clone()),
            _ => Err(self.broken("a row without a position")),
        }
    }

    fn position(&self, place: Option<i64>) -> Result<u32> {
        let position = place.and_then(|place| u32::try_from(place).ok());
        position.ok_or_else(|| self.broken("a position that is no row of a file"))
    }

    fn open(&self) -> Result<DataFile> {
        let layout = Layout::only(vec![
            Layout::column(FILE_PATH_ID, "file_path", DataType::Utf8),
            Layout::column(POS_ID, "pos", DataType::Int64),
        ]);
        let files = Arc::from([self.delete.clone()]);
        Ok(DataFile {
            task: Arc::clone(self.task),
            table: ParquetTable::of_files(self.warehouse, &layout, files),
            at: 0,
        })
    }

    fn broken(&self, what: &str) -> Error {
        broken(self.name, self.delete, what)
    }
}
