//! Data files that are open for rows.
//!
//! **Invariant:** what was written for nothing is deleted: of a write that failed no file is left, but after a crash.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::arrow::{RecordBatchPartitionSplitter, schema_to_arrow_schema};
use iceberg::spec::{DataFile, PartitionKey};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::partitioning::PartitioningWriter;
use iceberg::writer::partitioning::fanout_writer::FanoutWriter;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};

use super::clustered::Clustered;
use super::location::{Locations, Made};
use super::parquet::ParquetFiles;
use super::{Partitions, WriteOptions, bounds, rolling};
use crate::lake::error::LakeError;

/// Data files that rows are written to as they come: new files that no snapshot has yet.
pub struct DataFiles {
    table: Table,
    schema: ArrowSchemaRef,
    sort_order_id: Option<i32>,
    sink: Sink,
    made: Made,
}

impl fmt::Debug for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFiles")
            .field("table", self.table.identifier())
            .finish_non_exhaustive()
    }
}

impl DataFiles {
    /// No rows yet; a file is begun with the first.
    ///
    /// # Errors
    /// `Iceberg` when the table has a schema that has no Arrow form.
    pub async fn open(table: &Table, options: &WriteOptions) -> Result<Self, LakeError> {
        let refused = || LakeError::iceberg("write data files", table.identifier());
        let schema = Arc::clone(table.metadata().current_schema());
        let arrow = schema_to_arrow_schema(&schema).map_err(refused())?;
        let (rolling, made) = rolling(table, schema, options).map_err(refused())?;
        let files = DataFileWriterBuilder::new(rolling);
        let sink = Sink::open(table, files, options).await.map_err(refused())?;
        Ok(Self {
            table: table.clone(),
            schema: Arc::new(arrow),
            sort_order_id: options.sort_order_id,
            sink,
            made,
        })
    }

    /// Writes rows, after those that came before. Columns are matched by name; optional columns of the table that the
    /// rows lack are null. After an error it is to be discarded.
    ///
    /// # Errors
    /// `Invalid` when the rows do not fit the table, `Iceberg` when a file cannot be written.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        let rows = conform(&self.table, &self.schema, rows)?;
        let refused = LakeError::iceberg("write data files", self.table.identifier());
        self.sink.write(rows).await.map_err(refused)
    }

    /// The files, durable.
    ///
    /// # Errors
    /// As [`Self::write`]; then nothing of them is left.
    pub async fn close(self) -> Result<Vec<DataFile>, LakeError> {
        let order = self.sort_order_id;
        let files = match self.sink.close().await {
            Ok(files) => files
                .into_iter()
                .map(|file| bounds::limit(file, order))
                .collect(),
            Err(error) => Err(error),
        };
        let refused = LakeError::iceberg("write data files", self.table.identifier());
        match files.map_err(refused) {
            Ok(files) => Ok(files),
            Err(error) => {
                self.made.discard(self.table.file_io()).await;
                Err(error)
            }
        }
    }

    /// Deletes what was written. What cannot be deleted is left to orphan removal.
    pub async fn discard(self) {
        drop(self.sink);
        self.made.discard(self.table.file_io()).await;
    }
}

pub(super) type Files = DataFileWriterBuilder<ParquetFiles, Locations, DefaultFileNameGenerator>;

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
