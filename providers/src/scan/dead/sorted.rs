//! The files of a snapshot by what they are, and which delete file speaks of which data file.
//!
//! **Invariant:** what cannot be read exactly (deletion vectors, files that are no Parquet) is an error, never other rows.

use iceberg::spec::{DataContentType, DataFileFormat};

use crate::error::{Error, Result};
use crate::lake::DataFileInfo;

/// The files of a snapshot, in the order of its manifests.
#[derive(Clone, Debug)]
pub(crate) struct Sorted {
    /// The table that they are of, for errors.
    pub(crate) table: String,
    /// Files with rows.
    pub(crate) data: Vec<DataFileInfo>,
    /// Position deletes.
    pub(crate) positions: Vec<DataFileInfo>,
    /// Equality deletes.
    pub(crate) equality: Vec<DataFileInfo>,
}

impl Sorted {
    /// Sorts files out.
    ///
    /// # Errors
    /// When one is of a kind that is not read here.
    pub(crate) fn out(table: &str, files: Vec<DataFileInfo>) -> Result<Self> {
        let mut sorted = Self {
            table: table.to_owned(),
            data: Vec::new(),
            positions: Vec::new(),
            equality: Vec::new(),
        };
        for file in files {
            if file.format != DataFileFormat::Parquet {
                let what = match file.format {
                    DataFileFormat::Puffin => "deletion vectors",
                    DataFileFormat::Avro => "Avro files",
                    DataFileFormat::Orc => "ORC files",
                    DataFileFormat::Parquet => "Parquet files",
                };
                let path = file.path;
                let reason =
                    format!("it has {what} ({path}), and only Parquet files are read here");
                return Err(unreadable(table, reason));
            }
            match file.content {
                DataContentType::Data => sorted.data.push(file),
                DataContentType::PositionDeletes => sorted.positions.push(file),
                DataContentType::EqualityDeletes => sorted.equality.push(file),
            }
        }
        Ok(sorted)
    }

    /// Whether every row of every file is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.positions.is_empty() && self.equality.is_empty()
    }

    /// All delete files.
    pub(super) fn deletes(&self) -> Vec<DataFileInfo> {
        let all = self.positions.iter().chain(&self.equality);
        all.cloned().collect()
    }
}

/// Whether an equality delete speaks of the rows of a data file.
pub(crate) fn applies(delete: &DataFileInfo, data: &DataFileInfo) -> bool {
    let global = delete.partition.fields().is_empty();
    let same = delete.spec_id == data.spec_id && delete.partition == data.partition;
    data.sequence_number < delete.sequence_number && (global || same)
}

/// That a table cannot be read, and why.
pub(super) fn unreadable(table: &str, reason: impl Into<String>) -> Error {
    Error::ForeignFile {
        table: table.to_owned(),
        reason: reason.into(),
    }
}

/// The same of one of its delete files.
pub(super) fn broken(table: &str, delete: &DataFileInfo, what: &str) -> Error {
    unreadable(table, format!("its delete file {} has {what}", delete.path))
}
