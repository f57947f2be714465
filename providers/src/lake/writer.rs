//! Parquet data files of a table.
//!
//! **Invariant**: the bounds that a data file's manifest entry carries are true. Iceberg's writer
//! skips inexact row-group statistics when it folds them, which gives wrong bounds for a file of
//! several row groups; so the statistics are written in full, and only then shortened (see
//! [`bounds`]).

mod bounds;
mod clustered;
mod deletes;
mod location;

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use iceberg::arrow::{RecordBatchPartitionSplitter, schema_to_arrow_schema};
use iceberg::spec::{DataFile, DataFileFormat, PartitionKey, SchemaRef, Struct};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::partitioning::PartitioningWriter;
use iceberg::writer::partitioning::fanout_writer::FanoutWriter;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::error::{BoxError, LakeError};

use clustered::Clustered;
use location::Locations;

pub use deletes::{PositionDeletes, write_position_deletes};

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
    let refused = || LakeError::iceberg("write data files", table.identifier());
    let schema = Arc::clone(table.metadata().current_schema());
    let arrow_schema = Arc::new(schema_to_arrow_schema(&schema).map_err(refused())?);
    let files = builder(table, schema, options).map_err(refused())?;
    let mut sink = Sink::open(table, files, options).await.map_err(refused())?;
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|source| LakeError::Input {
            table: table.identifier().to_string(),
            source,
        })?;
        let batch = conform(table, &arrow_schema, &batch)?;
        sink.write(batch).await.map_err(refused())?;
    }
    let files = sink.close().await.map_err(refused())?;
    let limited = files
        .into_iter()
        .map(|file| bounds::limit(file, options.sort_order_id));
    limited.collect::<iceberg::Result<_>>().map_err(refused())
}

type Files = DataFileWriterBuilder<ParquetWriterBuilder, Locations, DefaultFileNameGenerator>;

fn builder(table: &Table, schema: SchemaRef, options: &WriteOptions) -> iceberg::Result<Files> {
    let parquet = ParquetWriterBuilder::new(properties(options), schema);
    Ok(DataFileWriterBuilder::new(rolling(
        table, parquet, options,
    )?))
}

/// Names files `<prefix>-<n>-<uuid>.parquet` below the table's `data` directory.
fn rolling(
    table: &Table,
    parquet: ParquetWriterBuilder,
    options: &WriteOptions,
) -> iceberg::Result<
    RollingFileWriterBuilder<ParquetWriterBuilder, Locations, DefaultFileNameGenerator>,
> {
    let unique = uuid::Uuid::now_v7().to_string();
    let names = DefaultFileNameGenerator::new(
        options.prefix.clone(),
        Some(unique),
        DataFileFormat::Parquet,
    );
    Ok(RollingFileWriterBuilder::new(
        parquet,
        options.target_file_bytes,
        table.file_io().clone(),
        Locations::new(table.metadata())?,
        names,
    ))
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

/// Where rows go: one partition, or as many as they have.
enum Sink {
    One(Box<<Files as IcebergWriterBuilder>::R>),
    Many(Box<(RecordBatchPartitionSplitter, FanoutWriter<Files>)>),
    Clustered(Box<Clustered>),
}

impl Sink {
    async fn open(table: &Table, files: Files, options: &WriteOptions) -> iceberg::Result<Self> {
        let metadata = table.metadata();
        let spec = metadata.default_partition_spec();
        let schema = Arc::clone(metadata.current_schema());
        if spec.is_unpartitioned() {
            return Ok(Self::One(Box::new(files.build(None).await?)));
        }
        match &options.partitions {
            Partitions::Known(partition) => {
                let key = PartitionKey::new(spec.as_ref().clone(), schema, partition.clone());
                return Ok(Self::One(Box::new(files.build(Some(key)).await?)));
            }
            Partitions::Clustered => {
                return Ok(Self::Clustered(Box::new(Clustered::new(table, files)?)));
            }
            Partitions::Mixed => {}
        }
        let splitter =
            RecordBatchPartitionSplitter::try_new_with_computed_values(schema, Arc::clone(spec))?;
        Ok(Self::Many(Box::new((splitter, FanoutWriter::new(files)))))
    }

    async fn write(&mut self, batch: RecordBatch) -> iceberg::Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match self {
            Self::One(writer) => writer.write(batch).await,
            Self::Clustered(writer) => writer.write(batch).await,
            Self::Many(parts) => {
                let (splitter, writer) = parts.as_mut();
                for (key, rows) in splitter.split(&batch)? {
                    writer.write(key, rows).await?;
                }
                Ok(())
            }
        }
    }

    async fn close(self) -> iceberg::Result<Vec<DataFile>> {
        match self {
            Self::One(mut writer) => writer.close().await,
            Self::Many(parts) => parts.1.close().await,
            Self::Clustered(writer) => writer.close().await,
        }
    }
}

/// The rows with exactly the table's columns in the table's order, which Iceberg's writer relies on.
fn conform(
    table: &Table,
    schema: &ArrowSchemaRef,
    batch: &RecordBatch,
) -> Result<RecordBatch, LakeError> {
    let invalid = |reason: String| LakeError::Invalid {
        table: table.identifier().to_string(),
        reason,
    };
    let given = batch.schema();
    let unknown = given
        .fields()
        .iter()
        .find(|f| schema.column_with_name(f.name()).is_none());
    if let Some(field) = unknown {
        return Err(invalid(format!(
            "rows have a column {:?} that it lacks",
            field.name()
        )));
    }
    let column = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => Err(invalid(format!(
            "rows have {:?} as {}, it has {}",
            field.name(),
            column.data_type(),
            field.data_type()
        ))),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
        None => Err(invalid(format!("rows lack the column {:?}", field.name()))),
    };
    let columns = schema
        .fields()
        .iter()
        .map(column)
        .collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| invalid(e.to_string()))
}
