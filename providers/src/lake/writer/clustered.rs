//! Files of rows that come partition by partition.
//!
//! **Invariant**: one file is open at a time, so memory holds one row group however many partitions there are; rows that
//! come otherwise make more files, and still right ones.

use std::sync::Arc;

use arrow::compute::partition;
use arrow::record_batch::RecordBatch;
use iceberg::spec::{DataFile, PartitionKey, PartitionSpec, SchemaRef, Struct};
use iceberg::table::Table;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};
use iceberg::{Error, ErrorKind, Result};

use super::sink::Files;
use crate::lake::partition_values::PartitionValues;

/// Files of one write at most: the manifest entries of a snapshot are in memory at once.
const FILES_MAX: usize = 100_000;

type Writer = <Files as IcebergWriterBuilder>::R;

/// Writes one partition after another.
pub(super) struct Clustered {
    values: PartitionValues,
    spec: PartitionSpec,
    schema: SchemaRef,
    files: Files,
    open: Option<(Struct, Writer)>,
    written: Vec<DataFile>,
}

impl Clustered {
    pub(super) fn new(table: &Table, files: Files) -> Result<Self> {
        let metadata = table.metadata();
        let spec = metadata.default_partition_spec().as_ref().clone();
        let schema = Arc::clone(metadata.current_schema());
        Ok(Self {
            values: PartitionValues::new(&spec, &schema)?,
            spec,
            schema,
            files,
            open: None,
            written: Vec::new(),
        })
    }

    pub(super) async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let values = self.values.of(&batch)?;
        let runs = partition(values.columns())
            .map_err(|error| Error::new(ErrorKind::Unexpected, error.to_string()))?;
        for run in runs.ranges() {
            let of = self.values.row(&values, run.start)?;
            let rows = batch.slice(run.start, run.len());
            self.writer(of).await?.write(rows).await?;
        }
        Ok(())
    }

    /// The writer of a partition; that of another one is closed.
    async fn writer(&mut self, of: Struct) -> Result<&mut Writer> {
        let is_open = self.open.as_ref().is_some_and(|(open, _)| *open == of);
        if !is_open {
            self.close_open().await?;
            let key = PartitionKey::new(self.spec.clone(), Arc::clone(&self.schema), of.clone());
            let writer = self.files.build(Some(key)).await?;
            self.open = Some((of, writer));
        }
        let (_, writer) = self
            .open
            .as_mut()
            .expect("it is open, or was opened just now");
        Ok(writer)
    }

    async fn close_open(&mut self) -> Result<()> {
        if let Some((_, mut writer)) = self.open.take() {
            self.written.extend(writer.close().await?);
        }
        if self.written.len() > FILES_MAX {
            let message = format!(
                "its rows make more than {FILES_MAX} partitions; copy them into a table with coarser ones: month for day, \
                 bucket(16, c) for c"
            );
            return Err(Error::new(ErrorKind::DataInvalid, message));
        }
        Ok(())
    }

    pub(super) async fn close(mut self) -> Result<Vec<DataFile>> {
        self.close_open().await?;
        Ok(self.written)
    }
}
