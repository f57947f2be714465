//! Parquet data files of a table.
//!
//! **Invariant**: the bounds that a data file's manifest entry carries are true: statistics are written in full, folded
//! over the row groups ([`footer`]), and only then shortened ([`bounds`]).

mod bounds;
mod clustered;
mod deletes;
mod footer;
mod location;
mod nans;
mod parquet;
mod row_group;
mod sink;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use ::parquet::schema::types::ColumnPath;
use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use iceberg::spec::{DataFile, DataFileFormat, SchemaRef, Struct};
use iceberg::table::Table;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;

use super::error::{BoxError, LakeError};

use self::parquet::ParquetFiles;
use location::{Locations, Made};

pub use self::parquet::Keys;
pub use deletes::{EqualityDeleteFile, PositionDeletes, write_position_deletes};
pub use sink::DataFiles;

/// Rows of a row group: small enough to prune by and to decode in one go.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Size at which a file is closed and the next one begun.
const TARGET_FILE_BYTES: usize = 512 * 1024 * 1024;

/// Which partitions the rows of a partitioned table are of.
#[derive(Debug, Clone, PartialEq)]
pub enum Partitions {
    /// All of them of this one.
    Known(Struct),
    /// Of any, in any order: a file is open for each, and memory holds a row group of each.
    Mixed,
    /// Of any, those of one partition one after another, as [`write_order`](super::write_order) sorts them.
    Clustered,
}

/// How to write data files.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteOptions {
    /// How the files' names begin: what wrote them (`flush`, `fold`).
    pub prefix: String,
    /// The partitions of the rows.
    pub partitions: Partitions,
    /// The id of the table's sort order that the rows are in; none when they are in no order.
    pub sort_order_id: Option<i32>,
    /// Whether the key indexes of the files are kept beside them.
    pub keys: Keys,
    /// Columns to write bloom filters for.
    pub bloom_columns: Vec<String>,
    /// Rows of a row group at most.
    pub row_group_rows: usize,
    /// Bytes at which a new file is begun.
    pub target_file_bytes: usize,
}

impl WriteOptions {
    /// The defaults: row groups of 128 Ki rows, files of 512 MiB, no bloom filters.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            partitions: Partitions::Mixed,
            sort_order_id: None,
            keys: Keys::None,
            bloom_columns: Vec::new(),
            row_group_rows: ROW_GROUP_ROWS,
            target_file_bytes: TARGET_FILE_BYTES,
        }
    }

    /// Says that all rows belong to this partition.
    #[must_use]
    pub fn with_partition(mut self, partition: Struct) -> Self {
        self.partitions = Partitions::Known(partition);
        self
    }

    /// Says that the rows come in the order that the table's schema asks for, whose id this is if there is one.
    #[must_use]
    pub fn with_write_order(mut self, sort_order_id: Option<i32>) -> Self {
        self.partitions = Partitions::Clustered;
        self.sort_order_id = sort_order_id;
        self
    }

    /// Keeps a key index beside each file, made of the row ids as they are written.
    #[must_use]
    pub fn with_keys(mut self) -> Self {
        self.keys = Keys::Beside;
        self
    }

    /// Writes a bloom filter for this column too.
    #[must_use]
    pub fn with_bloom_column(mut self, column: impl Into<String>) -> Self {
        self.bloom_columns.push(column.into());
        self
    }
}

/// Writes rows, in their order, as data files of a table: new files that no snapshot has yet. Columns
/// are matched by name; optional columns of the table that the rows lack are null.
///
/// # Errors
/// `Invalid` when the rows do not fit the table, `Iceberg` when a file cannot be written.
pub async fn write_data_files(
    table: &Table,
    batches: Vec<RecordBatch>,
    options: &WriteOptions,
) -> Result<Vec<DataFile>, LakeError> {
    let batches = batches.into_iter().map(Ok::<_, BoxError>);
    write(table, futures::stream::iter(batches), options).await
}

/// As [`write_data_files`], for rows that are still being computed. Memory holds one row group.
///
/// # Errors
/// As [`write_data_files`], and `Input` when the stream fails.
pub async fn write_data_stream(
    table: &Table,
    rows: SendableRecordBatchStream,
    options: &WriteOptions,
) -> Result<Vec<DataFile>, LakeError> {
    let rows = rows.map(|batch| batch.map_err(BoxError::from));
    write(table, rows, options).await
}

async fn write<S>(
    table: &Table,
    rows: S,
    options: &WriteOptions,
) -> Result<Vec<DataFile>, LakeError>
where
    S: Stream<Item = Result<RecordBatch, BoxError>> + Send,
{
    let mut files = DataFiles::open(table, options).await?;
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.next().await {
        let written = match batch {
            Ok(batch) => files.write(&batch).await,
            Err(source) => Err(LakeError::Input {
                table: table.identifier().to_string(),
                source,
            }),
        };
        if let Err(error) = written {
            files.discard().await;
            return Err(error);
        }
    }
    files.close().await
}

/// Deletes files that were written and that no snapshot has, with their key indexes. What cannot be deleted is left to
/// orphan removal.
pub async fn delete_written(table: &Table, files: &[DataFile]) {
    let paths = files.iter().map(|file| file.file_path().to_owned());
    location::delete_files(table.file_io(), paths.collect()).await;
}

type Rolling = RollingFileWriterBuilder<ParquetFiles, Locations, DefaultFileNameGenerator>;

/// Names files `<prefix>-<n>-<uuid>.parquet` below the table's `data` directory.
fn rolling(
    table: &Table,
    schema: SchemaRef,
    options: &WriteOptions,
) -> iceberg::Result<(Rolling, Made)> {
    let unique = uuid::Uuid::now_v7().to_string();
    let names = DefaultFileNameGenerator::new(
        options.prefix.clone(),
        Some(unique),
        DataFileFormat::Parquet,
    );
    let parquet = ParquetFiles {
        properties: properties(options),
        schema,
        keys: options.keys,
        file_io: table.file_io().clone(),
    };
    let locations = Locations::new(table.metadata())?;
    let made = locations.made();
    let rolling = RollingFileWriterBuilder::new(
        parquet,
        options.target_file_bytes,
        table.file_io().clone(),
        locations,
        names,
    );
    Ok((rolling, made))
}

fn properties(options: &WriteOptions) -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_truncate_length(None)
        .set_max_row_group_row_count(Some(options.row_group_rows));
    let with_blooms = options.bloom_columns.iter().fold(properties, |p, column| {
        p.set_column_bloom_filter_enabled(ColumnPath::from(column.clone()), true)
    });
    with_blooms.build()
}
