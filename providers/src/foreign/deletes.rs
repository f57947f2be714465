//! The delete files of a foreign snapshot: which rows of which data file they take away.
//!
//! **Invariant:** a position delete applies to data files of its sequence number and older, an equality delete to older
//! ones only, each within its partition; one of an unpartitioned spec applies to all partitions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use iceberg::spec::{DataContentType, DataFileFormat};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::lake::{DataFileInfo, Warehouse};

/// How many deleted positions of one snapshot are held at once, 4 bytes each (256 MiB).
const POSITIONS_MAX: usize = 64 << 20;

/// Iceberg's reserved field ids of a position-delete file.
const FILE_PATH_ID: i32 = 2_147_483_546;
const POS_ID: i32 = 2_147_483_545;

/// The files of a snapshot by what they are.
pub(super) struct Sorted {
    pub(super) data: Vec<DataFileInfo>,
    positions: Vec<DataFileInfo>,
    pub(super) equality: Vec<DataFileInfo>,
}

/// Sorts files out; an error when one cannot be read.
pub(super) fn sorted_out(table: &str, files: Vec<DataFileInfo>) -> Result<Sorted> {
    let mut sorted = Sorted {
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
            return Err(Error::ForeignFile {
                table: table.to_owned(),
                reason: format!(
                    "it has {what} ({}), and only Parquet files are read here",
                    file.path
                ),
            });
        }
        match file.content {
            DataContentType::Data => sorted.data.push(file),
            DataContentType::PositionDeletes => sorted.positions.push(file),
            DataContentType::EqualityDeletes => sorted.equality.push(file),
        }
    }
    Ok(sorted)
}

/// The indexes of the equality deletes that apply to a data file.
pub(super) fn applicable(data: &DataFileInfo, deletes: &[DataFileInfo]) -> Vec<usize> {
    let applies = |delete: &DataFileInfo| {
        let global = delete.partition.fields().is_empty();
        let same = delete.spec_id == data.spec_id && delete.partition == data.partition;
        data.sequence_number < delete.sequence_number && (global || same)
    };
    let applying = deletes
        .iter()
        .enumerate()
        .filter(|(_, delete)| applies(delete));
    applying.map(|(at, _)| at).collect()
}

/// Where files are read.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) ctx: &'a SessionContext,
    pub(super) warehouse: &'a Warehouse,
    pub(super) table: &'a str,
}

/// The deleted positions of each data file, ascending, by its path.
pub(super) async fn positions(
    read: Read<'_>,
    sorted: &Sorted,
) -> Result<HashMap<String, Vec<u32>>> {
    let sequences: HashMap<&str, i64> = sorted
        .data
        .iter()
        .map(|file| (file.path.as_str(), file.sequence_number))
        .collect();
    let mut found: HashMap<String, Vec<u32>> = HashMap::new();
    let mut count = 0_usize;
    for delete in &sorted.positions {
        let layout = Layout::only(vec![
            field(FILE_PATH_ID, "file_path", DataType::Utf8),
            field(POS_ID, "pos", DataType::Int64),
        ]);
        let files = Arc::from([delete.clone()]);
        let rows = ParquetTable::of_files(read.warehouse, &layout, files);
        let rows = read.ctx.read_table(Arc::new(rows))?;
        let mut rows = rows.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let paths = batch.column(0).as_string::<i32>();
            let places = batch.column(1).as_primitive::<Int64Type>();
            for (path, place) in paths.iter().zip(places) {
                let (Some(path), Some(place)) = (path, place) else {
                    return Err(broken(read, delete, "a row without a path or a position"));
                };
                let applies = sequences.get(path);
                if applies.is_none_or(|sequence| *sequence > delete.sequence_number) {
                    continue;
                }
                let place = u32::try_from(place)
                    .map_err(|_| broken(read, delete, "a position that is no row of a file"))?;
                found.entry(path.to_owned()).or_default().push(place);
                count += 1;
            }
            if count > POSITIONS_MAX {
                let reason = format!(
                    "its delete files name more than {POSITIONS_MAX} rows; rewrite its data files with the program \
                     that deleted them"
                );
                return Err(Error::ForeignFile {
                    table: read.table.to_owned(),
                    reason,
                });
            }
        }
    }
    for places in found.values_mut() {
        places.sort_unstable();
        places.dedup();
    }
    Ok(found)
}

fn broken(read: Read<'_>, delete: &DataFileInfo, what: &str) -> Error {
    Error::ForeignFile {
        table: read.table.to_owned(),
        reason: format!("its delete file {} has {what}", delete.path),
    }
}

fn field(id: i32, name: &str, data_type: DataType) -> FieldRef {
    let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    let field = Field::new(name, data_type, true);
    Arc::new(field.with_metadata(HashMap::from([id])))
}

/// The columns that some equality deletes compare.
pub(super) struct Equality {
    /// Those of the delete files.
    pub(super) layout: Layout,
    /// Their names in the table.
    pub(super) columns: Vec<datafusion::common::Column>,
    /// Their names in the delete files' scan.
    pub(super) deleted: Vec<datafusion::common::Column>,
}

impl Equality {
    /// Of deletes by these fields of the table.
    pub(super) fn of(table: &Layout, ids: &[i32]) -> Result<Self> {
        let mut fields = Vec::with_capacity(ids.len());
        let (mut columns, mut deleted) = (Vec::new(), Vec::new());
        for id in ids {
            let known = table.field(*id).ok_or_else(|| Error::ForeignFile {
                table: id.to_string(),
                reason:
                    "an equality delete names a field inside another one, which is not read here"
                        .to_owned(),
            })?;
            let name = format!("\0deleted {}", known.name());
            columns.push(datafusion::common::Column::new_unqualified(known.name()));
            deleted.push(datafusion::common::Column::new_unqualified(&name));
            let field = known.as_ref().clone().with_name(name).with_nullable(true);
            fields.push(Arc::new(field));
        }
        Ok(Self {
            layout: Layout::only(fields),
            columns,
            deleted,
        })
    }
}
