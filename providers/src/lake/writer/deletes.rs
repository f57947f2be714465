//! Position-delete files: rows of one data file that are deleted, by their position in it.
//!
//! ```text
//! file_path string (id 2147483546)  │  pos long (id 2147483545)     sorted by path, then position
//! ```
//! One delete file is for one data file, so that its path's bounds are equal and readers find it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::metadata_columns::{delete_file_path_field, delete_file_pos_field};
use iceberg::spec::{DataContentType, DataFile, PartitionKey, Schema, Struct};
use iceberg::table::Table;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::{Error, ErrorKind, Result};

use super::{WriteOptions, properties, rolling};
use crate::lake::error::LakeError;

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
    let paths = StringArray::from_iter_values(delete.positions.iter().map(|_| &delete.path));
    let positions = delete
        .positions
        .iter()
        .map(|position| i64::try_from(*position));
    let positions: Int64Array = positions
        .collect::<std::result::Result<Vec<_>, _>>()?
        .into();
    let batch = RecordBatch::try_new(
        Arc::new(schema_to_arrow_schema(&schema)?),
        vec![Arc::new(paths), Arc::new(positions)],
    );
    let batch = batch.map_err(|e| Error::new(ErrorKind::DataInvalid, e.to_string()))?;

    let metadata = table.metadata();
    let spec = metadata.default_partition_spec();
    let key = (!spec.is_unpartitioned()).then(|| {
        PartitionKey::new(
            spec.as_ref().clone(),
            Arc::clone(metadata.current_schema()),
            delete.partition.clone(),
        )
    });
    let parquet = ParquetWriterBuilder::new(properties(options), schema);
    let mut writer = rolling(table, parquet, options)?.build();
    writer.write(&key, &batch).await?;
    let written = writer.close().await?;
    let finish = |mut file: iceberg::spec::DataFileBuilder| {
        file.content(DataContentType::PositionDeletes)
            .partition(delete.partition.clone())
            .partition_spec_id(spec.spec_id())
            .referenced_data_file(Some(delete.path.clone()))
            .build()
            .map_err(|e| Error::new(ErrorKind::DataInvalid, e.to_string()))
    };
    written.into_iter().map(finish).collect()
}
