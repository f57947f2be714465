//! What manifests say of values, as texts that people read: partitions as `name=value/…`, bounds by column name.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::Datum;
use iceberg::table::Table;

use crate::lake::DataFileInfo;

/// The partition of a file as Iceberg names its folder; none when the file's spec has no fields, or a column of it was
/// dropped.
pub(super) fn partition(table: &Table, file: &DataFileInfo) -> Option<String> {
    let metadata = table.metadata();
    let spec = metadata.partition_spec_by_id(file.spec_id)?;
    // Asked first, because the text is not made without it.
    let fields = spec.partition_type(metadata.current_schema()).ok()?;
    (!fields.fields().is_empty() && fields.fields().len() == file.partition.fields().len())
        .then(|| spec.partition_to_path(&file.partition, metadata.current_schema().clone()))
}

/// Bounds by column name; a column that was dropped has none.
pub(super) fn by_name(table: &Table, bounds: &HashMap<i32, Datum>) -> BTreeMap<String, String> {
    let schema = table.metadata().current_schema();
    let named = bounds.iter().filter_map(|(id, datum)| {
        let name = schema.name_by_field_id(*id)?;
        Some((name.to_owned(), datum.to_human_string()))
    });
    named.collect()
}
