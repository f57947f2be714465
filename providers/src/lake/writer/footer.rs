//! What a manifest says of a Parquet file that was just written, from its footer.
//!
//! **Invariant:** a bound holds for every row of the file, or is left out. (Iceberg's own writer passes over row groups
//! without exact statistics, which gives wrong bounds.)

use std::collections::HashMap;

use iceberg::Result;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct,
};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

/// A written file.
pub(super) struct Written<'a> {
    /// Its full URI.
    pub(super) path: &'a str,
    /// Its size.
    pub(super) bytes: u64,
    /// Its footer.
    pub(super) footer: &'a ParquetMetaData,
    /// How many values are no numbers, by field id.
    pub(super) nans: HashMap<i32, u64>,
}

/// The data file of a written file; content and partition are the caller's to set.
///
/// # Errors
/// When a statistic is no value of its column.
pub(super) fn data_file(schema: &Schema, file: Written<'_>) -> Result<DataFileBuilder> {
    let groups = file.footer.row_groups();
    let mut sizes: HashMap<i32, u64> = HashMap::new();
    let mut values: HashMap<i32, u64> = HashMap::new();
    let mut nulls: HashMap<i32, u64> = HashMap::new();
    let mut bounds: HashMap<i32, Bounds> = HashMap::new();
    for chunk in groups.iter().flat_map(|group| group.columns()) {
        let Some(id) = field_id(chunk) else { continue };
        *sizes.entry(id).or_default() += unsigned(chunk.compressed_size());
        *values.entry(id).or_default() += unsigned(chunk.num_values());
        let statistics = chunk.statistics();
        if let Some(count) = statistics.and_then(Statistics::null_count_opt) {
            *nulls.entry(id).or_default() += count;
        }
        let field = schema.field_by_id(id);
        if let Some(primitive) = field.and_then(|field| field.field_type.as_primitive_type()) {
            bounds.entry(id).or_default().add(primitive, chunk)?;
        }
    }
    let (mut lower, mut upper) = (HashMap::new(), HashMap::new());
    for (id, bounds) in bounds {
        if let (Some((least, greatest)), false) = (bounds.of_all, bounds.unknown) {
            lower.insert(id, least);
            upper.insert(id, greatest);
        }
    }
    let offsets = groups.iter().filter_map(|group| group.file_offset());
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::Data)
        .file_path(file.path.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(unsigned(file.footer.file_metadata().num_rows()))
        .file_size_in_bytes(file.bytes)
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls)
        .nan_value_counts(file.nans)
        .lower_bounds(lower)
        .upper_bounds(upper)
        .split_offsets(Some(offsets.collect()));
    Ok(builder)
}

/// The least and the greatest value of a column, row group by row group.
#[derive(Default)]
struct Bounds {
    of_all: Option<(Datum, Datum)>,
    /// A row group has values and does not say between which they are.
    unknown: bool,
}

impl Bounds {
    fn add(&mut self, primitive: &PrimitiveType, chunk: &ColumnChunkMetaData) -> Result<()> {
        let statistics = chunk.statistics();
        let nulls = statistics.and_then(Statistics::null_count_opt);
        if nulls == Some(unsigned(chunk.num_values())) {
            return Ok(());
        }
        let exact = statistics.filter(|found| found.min_is_exact() && found.max_is_exact());
        let both = exact.and_then(|found| found.min_bytes_opt().zip(found.max_bytes_opt()));
        let (Some(found), Some((least, greatest))) = (exact, both) else {
            self.unknown = true;
            return Ok(());
        };
        let value = |bytes: &[u8]| {
            let decimal = matches!(primitive, PrimitiveType::Decimal { .. });
            let number = matches!(found, Statistics::Int32(_) | Statistics::Int64(_));
            let mut bytes = bytes.to_vec();
            if decimal && number {
                // Iceberg's decimals have the highest byte first, Parquet's small ones the lowest.
                bytes.reverse();
            }
            Datum::try_from_bytes(&bytes, primitive.clone())
        };
        let (least, greatest) = (value(least)?, value(greatest)?);
        self.of_all = Some(match self.of_all.take() {
            None => (least, greatest),
            Some((before, after)) => (
                if least < before { least } else { before },
                if greatest > after { greatest } else { after },
            ),
        });
        Ok(())
    }
}

fn field_id(chunk: &ColumnChunkMetaData) -> Option<i32> {
    let column = chunk.column_descr().self_type().get_basic_info();
    column.has_id().then(|| column.id())
}

/// Counts of a footer are never negative.
fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
