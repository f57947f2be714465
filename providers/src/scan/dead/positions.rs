//! Position-delete files: which rows of which data file they name.
//!
//! **Invariant:** a file that names a file which is not live, or a younger one, takes nothing away.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Reading;
use super::sorted::broken;
use crate::error::Result;
use crate::files::ParquetTable;
use crate::foreign::Layout;
use crate::lake::{DataFileInfo, Warehouse};
use crate::scan::data_file::DataFile;

/// Iceberg's reserved field ids of a position-delete file.
const FILE_PATH_ID: i32 = 2_147_483_546;
const POS_ID: i32 = 2_147_483_545;

/// Delete files that are read at the same time.
const CONCURRENT_READS: usize = 8;

/// The data files that deletes may name: by path the number in the list, and the file's sequence number.
type Data<'a> = HashMap<&'a str, (usize, i64)>;

/// Some rows of one data file.
type Named = (usize, Vec<u32>);

impl Reading<'_> {
    /// Reads these files.
    pub(super) async fn positions(&mut self, deletes: &[DataFileInfo]) -> Result<()> {
        if deletes.is_empty() {
            return Ok(());
        }
        let table = self.table;
        let files = table.files().iter().enumerate();
        let data: Data<'_> = files
            .map(|(at, file)| (file.path.as_str(), (at, file.sequence_number)))
            .collect();
        let (task, name) = (self.task, self.name);
        let reads = deletes.iter().map(|delete| DeleteFile {
            task,
            warehouse: table.warehouse(),
            name,
            delete,
        });
        let reads: Vec<_> = reads.map(|file| file.read(&data)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some(named) = reads.try_next().await? {
            for (file, positions) in named {
                self.take(file, positions)?;
            }
        }
        Ok(())
    }
}

/// One position-delete file.
struct DeleteFile<'a> {
    task: &'a Arc<TaskContext>,
    warehouse: &'a Warehouse,
    /// The table, for errors.
    name: &'a str,
    delete: &'a DataFileInfo,
}

impl DeleteFile<'_> {
    /// The rows that it takes away.
    async fn read(self, data: &Data<'_>) -> Result<Vec<Named>> {
        match &self.delete.referenced_data_file {
            Some(path) => match self.target(data, path) {
                Some(file) => self.read_of(file).await,
                None => Ok(Vec::new()),
            },
            None => self.read_any(data).await,
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

    fn broken(&self, what: &str) -> crate::error::Error {
        broken(self.name, self.delete, what)
    }
}
