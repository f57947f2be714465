//! One Parquet file, its columns encoded side by side.
//!
//! ```text
//!   batches ─► row group n     ─► column a ─ task ─┐
//!              (cut by rows)   ─► column b ─ task ─┼─► appended when all of them are done ─► file
//!                              ─► column c ─ task ─┘   (row group n + 1 is encoded meanwhile)
//! ```
//! Encoding and compressing is what writing costs. By column it is shared among the cores while rows keep their order
//! and a file its size, and memory holds the same whatever the number of cores: of two row groups what is encoded, and
//! of each column four batches that are not yet.
//!
//! **Invariant:** the file has the rows in the order in which they came.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use datafusion::common::runtime::SpawnedTask;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::io::{FileIO, FileWrite, OutputFile};
use iceberg::spec::{DataFileBuilder, SchemaRef};
use iceberg::writer::CurrentFileStatus;
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder};
use iceberg::{Error, ErrorKind, Result};
use lakesync_proto::columns;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::footer::{self, Written};
use super::nans::Nans;
use super::row_group::RowGroup;
use crate::scan::{NewKeys, key_index_uri};

/// Makes the Parquet files of one write.
#[derive(Clone, Debug)]
pub(super) struct ParquetFiles {
    /// How they are encoded.
    pub(super) properties: WriterProperties,
    /// The columns.
    pub(super) schema: SchemaRef,
    /// Whether a key index is kept beside each.
    pub(super) keys: Keys,
    /// Where they are.
    pub(super) file_io: FileIO,
}

/// Whether a key index is kept beside a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It is: who asks for rows need not read the row ids again.
    Beside,
    /// It is not.
    None,
}

impl FileWriterBuilder for ParquetFiles {
    type R = ParquetFile;

    async fn build(&self, output: OutputFile) -> Result<ParquetFile> {
        let arrow = Arc::new(schema_to_arrow_schema(&self.schema)?);
        let properties = self.properties.clone();
        let rows_max = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&arrow), Some(properties));
        let (file, row_groups) = writer
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(refused(&output))?;
        Ok(ParquetFile {
            schema: Arc::clone(&self.schema),
            row_id: match self.keys {
                Keys::Beside => arrow.index_of(columns::ROW_ID).ok(),
                Keys::None => None,
            },
            keys: NewKeys::new(),
            nans: Nans::of(&arrow),
            arrow,
            out: output.writer().await?,
            output,
            file_io: self.file_io.clone(),
            file,
            row_groups,
            rows_max,
            started: 0,
            open: None,
            closing: None,
            rows: 0,
        })
    }
}

/// A file that is being written.
pub(super) struct ParquetFile {
    schema: SchemaRef,
    arrow: ArrowSchemaRef,
    output: OutputFile,
    out: Box<dyn FileWrite>,
    file_io: FileIO,
    file: SerializedFileWriter<Vec<u8>>,
    row_groups: ArrowRowGroupWriterFactory,
    rows_max: usize,
    /// Row groups that were begun.
    started: usize,
    open: Option<RowGroup>,
    /// The one before, whose tasks may still be at work.
    closing: Option<RowGroup>,
    rows: usize,
    /// The column with the row ids, when they are to be indexed.
    row_id: Option<usize>,
    keys: NewKeys,
    nans: Nans,
}

impl FileWriter for ParquetFile {
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.nans.count(batch);
        if let Some(ids) = self.row_id {
            self.keys.push(batch.column(ids).as_string());
        }
        let mut rest = batch.clone();
        while rest.num_rows() > 0 {
            let group = match &mut self.open {
                Some(group) => group,
                None => {
                    let columns = self.row_groups.create_column_writers(self.started);
                    let columns = columns.map_err(refused(&self.output))?;
                    self.started += 1;
                    self.open.insert(RowGroup::begin(&self.arrow, columns))
                }
            };
            let rows = rest.num_rows().min(self.rows_max - group.rows);
            let fits = rest.slice(0, rows);
            if !group.write(&fits).await {
                return Err(self.failed().await);
            }
            let full = group.rows == self.rows_max;
            rest = rest.slice(rows, rest.num_rows() - rows);
            if full {
                self.end_row_group().await?;
            }
        }
        Ok(())
    }

    async fn close(mut self) -> Result<Vec<DataFileBuilder>> {
        self.end_row_group().await?;
        if let Some(last) = self.closing.take() {
            self.append(last).await?;
        }
        let footer = self.file.finish().map_err(refused(&self.output))?;
        self.pass_on().await?;
        self.out.close().await?;
        let path = self.output.location().to_owned();
        let bytes = u64::try_from(self.file.bytes_written()).unwrap_or(u64::MAX);
        if self.row_id.is_some() {
            let groups: Vec<i64> = footer.row_groups().iter().map(|g| g.num_rows()).collect();
            let keys = std::mem::replace(&mut self.keys, NewKeys::new());
            keep(keys, &self.file_io, &path, (bytes, groups)).await;
        }
        let written = Written {
            path: &path,
            bytes,
            footer: &footer,
            nans: self.nans.counts(),
        };
        Ok(vec![footer::data_file(&self.schema, written)?])
    }
}

impl ParquetFile {
    /// Ends the open row group, and puts the one before it into the file.
    async fn end_row_group(&mut self) -> Result<()> {
        let Some(group) = self.open.take() else {
            return Ok(());
        };
        let before = self.closing.replace(group.end());
        match before {
            Some(before) => self.append(before).await,
            None => Ok(()),
        }
    }

    async fn append(&mut self, group: RowGroup) -> Result<()> {
        let chunks = group.chunks().await?;
        let mut writer = self.file.next_row_group().map_err(refused(&self.output))?;
        for chunk in chunks {
            chunk
                .append_to_row_group(&mut writer)
                .map_err(refused(&self.output))?;
        }
        writer.close().map_err(refused(&self.output))?;
        self.pass_on().await
    }

    /// Gives what was encoded to the store.
    async fn pass_on(&mut self) -> Result<()> {
        let bytes = std::mem::take(self.file.inner_mut());
        match bytes.is_empty() {
            true => Ok(()),
            false => self.out.write(bytes.into()).await,
        }
    }

    /// Why a column could not be encoded.
    async fn failed(&mut self) -> Error {
        let unknown = || Error::new(ErrorKind::Unexpected, "a column was not encoded");
        match self.open.take() {
            Some(group) => match group.end().chunks().await {
                Err(error) => error,
                Ok(_) => unknown(),
            },
            None => unknown(),
        }
    }

    /// Bytes that are encoded and not in the file yet.
    fn in_progress(&self) -> usize {
        let groups = self.open.iter().chain(&self.closing);
        groups.map(RowGroup::bytes).sum()
    }
}

impl CurrentFileStatus for ParquetFile {
    fn current_file_path(&self) -> String {
        self.output.location().to_owned()
    }

    fn current_row_num(&self) -> usize {
        self.rows
    }

    fn current_written_size(&self) -> usize {
        self.file.bytes_written() + self.in_progress()
    }
}

impl fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetFile")
            .field("path", &self.output.location())
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// Keeps the key index of a written file beside it. What prevents that is logged and no error: it can be made again.
async fn keep(keys: NewKeys, file_io: &FileIO, path: &str, (bytes, groups): (u64, Vec<i64>)) {
    let made = SpawnedTask::spawn_blocking(move || keys.finish(bytes, &groups));
    let Ok(Some(index)) = made.join_unwind().await else {
        return;
    };
    let beside = file_io.new_output(key_index_uri(path));
    let kept = match beside {
        Ok(beside) => beside.write(index).await,
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        tracing::warn!(path, %error, "a key index cannot be kept; it is made anew when it is needed");
    }
}

/// The error of a file that cannot be written.
fn refused(output: &OutputFile) -> impl Fn(ParquetError) -> Error {
    let message = format!("cannot write {}", output.location());
    move |source| Error::new(ErrorKind::Unexpected, message.clone()).with_source(source)
}
