//! Delete files: rows of one data file that are deleted by their position in it, or rows of all older files by their row
//! id.
//!
//! ```text
//! file_path string (id 2147483546)  │  pos long (id 2147483545)     sorted by path, then position
//! ```
//! One delete file is for one data file, so that its path's bounds are equal and readers find it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::metadata_columns::{delete_file_path_field, delete_file_pos_field};
use iceberg::spec::{DataContentType, DataFile, PartitionKey, Schema, Struct};
use iceberg::table::Table;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriter;
use iceberg::{Error, ErrorKind, Result};
use lakesync_proto::columns;

use super::location::{Locations, Made};
use super::parquet::ParquetFiles;
use super::{WriteOptions, rolling};
use crate::lake::error::LakeError;

/// Deletes that are encoded at once: each repeats its file's path.
const BATCH_ROWS: usize = 8_192;

/// The deleted rows of one data file.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionDeletes {
    /// The data file's full URI, as in its manifest.
    pub path: String,
    /// The data file's partition.
    pub partition: Struct,
    /// The positions of the deleted rows, counted from 0.
    pub positions: BTreeSet<u64>,
}

/// Writes one position-delete file for each data file in `deletes`. The data files must be of the
/// table's default partition spec.
///
/// # Errors
/// `Iceberg` when a file cannot be written.
pub async fn write_position_deletes(
    table: &Table,
    deletes: &[PositionDeletes],
    options: &WriteOptions,
) -> std::result::Result<Vec<DataFile>, LakeError> {
    let mut files = Vec::with_capacity(deletes.len());
    for delete in deletes {
        let written = write_one(table, delete, options).await;
        let written = written.map_err(LakeError::iceberg("write deletes", table.identifier()))?;
        files.extend(written);
    }
    Ok(files)
}

async fn write_one(
    table: &Table,
    delete: &PositionDeletes,
    options: &WriteOptions,
) -> Result<Vec<DataFile>> {
    let fields = [delete_file_path_field(), delete_file_pos_field()];
    let schema = Schema::builder()
        .with_fields(fields.map(Arc::clone))
        .build()?;
    let schema = Arc::new(schema);
    let arrow = Arc::new(schema_to_arrow_schema(&schema)?);

    let metadata = table.metadata();
    let spec = metadata.default_partition_spec();
    let key = (!spec.is_unpartitioned()).then(|| {
        PartitionKey::new(
            spec.as_ref().clone(),
            Arc::clone(metadata.current_schema()),
            delete.partition.clone(),
        )
    });
    let (rolling, made) = rolling(table, schema, options)?;
    let mut writer = rolling.build();
    let mut positions = delete.positions.iter().peekable();
    while positions.peek().is_some() {
        let some: Vec<i64> = positions
            .by_ref()
            .take(BATCH_ROWS)
            .map(|position| i64::try_from(*position))
            .collect::<std::result::Result<_, _>>()?;
        let paths = StringArray::from_iter_values(some.iter().map(|_| &delete.path));
        let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(Int64Array::from(some))];
        let batch = RecordBatch::try_new(Arc::clone(&arrow), columns).map_err(unfit)?;
        if let Err(error) = writer.write(&key, &batch).await {
            made.discard(table.file_io()).await;
            return Err(error);
        }
    }
    let written = writer.close().await?;
    let finish = |mut file: iceberg::spec::DataFileBuilder| {
        file.content(DataContentType::PositionDeletes)
            .partition(delete.partition.clone())
            .partition_spec_id(spec.spec_id())
            .referenced_data_file(Some(delete.path.clone()))
            .build()
            .map_err(unfit)
    };
    written.into_iter().map(finish).collect()
}

fn unfit(reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::DataInvalid, reason.to_string())
}

/// An equality-delete file that row ids are written to as they come: rows with these ids that are in older files are
/// deleted. The table has no partitions.
pub struct EqualityDeleteFile {
    table: Table,
    schema: ArrowSchemaRef,
    row_id: i32,
    writer: RollingFileWriter<ParquetFiles, Locations, DefaultFileNameGenerator>,
    made: Made,
}

impl std::fmt::Debug for EqualityDeleteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EqualityDeleteFile")
            .field("table", self.table.identifier())
            .finish_non_exhaustive()
    }
}

impl EqualityDeleteFile {
    /// No row ids yet; the file is begun with the first.
    ///
    /// # Errors
    /// `Invalid` when the table has partitions or no row ids.
    pub fn open(table: &Table, options: &WriteOptions) -> std::result::Result<Self, LakeError> {
        let refused = || LakeError::iceberg("write deletes", table.identifier());
        let metadata = table.metadata();
        let field = metadata.current_schema().field_by_name(columns::ROW_ID);
        let field = field.filter(|_| metadata.default_partition_spec().is_unpartitioned());
        let Some(field) = field else {
            return Err(LakeError::Invalid {
                table: table.identifier().to_string(),
                reason:
                    "rows are deleted by their row id in tables that have one and no partitions"
                        .to_owned(),
            });
        };
        let schema = Schema::builder().with_fields([Arc::clone(field)]).build();
        let schema = Arc::new(schema.map_err(refused())?);
        let arrow = schema_to_arrow_schema(&schema).map_err(refused())?;
        let (rolling, made) = rolling(table, schema, options).map_err(refused())?;
        Ok(Self {
            table: table.clone(),
            schema: Arc::new(arrow),
            row_id: field.id,
            writer: rolling.build(),
            made,
        })
    }

    /// Writes row ids. After an error it is to be discarded.
    ///
    /// # Errors
    /// `Iceberg` when the file cannot be written.
    pub async fn write(&mut self, row_ids: &StringArray) -> std::result::Result<(), LakeError> {
        let refused = LakeError::iceberg("write deletes", self.table.identifier());
        let column: ArrayRef = Arc::new(row_ids.clone());
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![column]).map_err(unfit);
        let written = match batch {
            Ok(batch) if batch.num_rows() == 0 => Ok(()),
            Ok(batch) => self.writer.write(&None, &batch).await,
            Err(error) => Err(error),
        };
        written.map_err(refused)
    }

    /// The file, durable: several when it is very large, none without row ids.
    ///
    /// # Errors
    /// As [`Self::write`]; then nothing of it is left.
    pub async fn close(self) -> std::result::Result<Vec<DataFile>, LakeError> {
        let refused = LakeError::iceberg("write deletes", self.table.identifier());
        let spec_id = self.table.metadata().default_partition_spec_id();
        let finish = |mut file: iceberg::spec::DataFileBuilder| {
            file.content(DataContentType::EqualityDeletes)
                .equality_ids(Some(vec![self.row_id]))
                .partition_spec_id(spec_id)
                .build()
                .map_err(unfit)
        };
        let files = match self.writer.close().await {
            Ok(files) => files.into_iter().map(finish).collect::<Result<_>>(),
            Err(error) => Err(error),
        };
        match files {
            Ok(files) => Ok(files),
            Err(error) => {
                self.made.discard(self.table.file_io()).await;
                Err(refused(error))
            }
        }
    }

    /// Deletes what was written.
    pub async fn discard(self) {
        drop(self.writer);
        self.made.discard(self.table.file_io()).await;
    }
}
