//! `t$manifests`: the manifests of the view's snapshots.
//!
//! | column | is |
//! |---|---|
//! | `kind`, `content` | `base` or `log`; `data` or `deletes` |
//! | `path`, `length` | the full URI; bytes |
//! | `partition_spec_id`, `added_snapshot_id`, `sequence_number`, `min_sequence_number` | as Iceberg has them |
//! | `added_files`, `existing_files`, `deleted_files` | entries by status; null when the list does not say |
//! | `added_rows`, `existing_rows`, `deleted_rows` | rows in them |
//! | `partitions` | `name: least … greatest` for each partition field, as texts |

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder};
use datafusion::catalog::MemTable;
use iceberg::spec::{Datum, FieldSummary, ManifestContentType, ManifestFile, Type};

use super::bounds::bound;
use super::{Nulls, Side, in_columns, sides};
use crate::error::Result;
use crate::lake::{LakeError, manifests_of};
use crate::view::ReadView;

type Row<'a> = (Side<'a>, ManifestFile);

/// The table `t$manifests` of a view.
pub(super) async fn manifests(view: &ReadView) -> Result<MemTable> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for side in sides(view) {
        let metadata = side.table.metadata();
        let snapshot = side.snapshot_id.and_then(|id| metadata.snapshot_by_id(id));
        if let Some(snapshot) = snapshot {
            let found = manifests_of(side.table, snapshot).await;
            let found = found.map_err(LakeError::iceberg(
                "list its manifests",
                side.table.identifier(),
            ))?;
            rows.extend(found.into_iter().map(|manifest| (side, manifest)));
        }
    }
    columns(&rows)
}

fn columns(rows: &[Row<'_>]) -> Result<MemTable> {
    let texts = |of: fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let specs = rows.iter().map(|(_, row)| row.partition_spec_id);
    let specs = Arc::new(Int32Array::from_iter_values(specs));
    let mut columns: Vec<(&'static str, ArrayRef, Nulls)> = vec![
        (
            "kind",
            texts(|(side, _)| side.kind.to_owned()),
            Nulls::Never,
        ),
        (
            "content",
            texts(|(_, row)| content(row).to_owned()),
            Nulls::Never,
        ),
        (
            "path",
            texts(|(_, row)| row.manifest_path.clone()),
            Nulls::Never,
        ),
        (
            "length",
            longs(rows, |row| Some(row.manifest_length)),
            Nulls::Never,
        ),
        ("partition_spec_id", specs, Nulls::Never),
        (
            "added_snapshot_id",
            longs(rows, |row| Some(row.added_snapshot_id)),
            Nulls::Never,
        ),
        (
            "sequence_number",
            longs(rows, |row| Some(row.sequence_number)),
            Nulls::Never,
        ),
        (
            "min_sequence_number",
            longs(rows, |row| Some(row.min_sequence_number)),
            Nulls::Never,
        ),
    ];
    for (name, of) in COUNTS {
        columns.push((name, longs(rows, of), Nulls::Some));
    }
    columns.push(("partitions", partitions(rows), Nulls::Never));
    in_columns(columns)
}

/// A number of a manifest.
type Number = fn(&ManifestFile) -> Option<i64>;

/// What a manifest's list may leave out.
const COUNTS: [(&str, Number); 6] = [
    ("added_files", |row| row.added_files_count.map(i64::from)),
    ("existing_files", |row| {
        row.existing_files_count.map(i64::from)
    }),
    ("deleted_files", |row| {
        row.deleted_files_count.map(i64::from)
    }),
    ("added_rows", |row| rows_count(row.added_rows_count)),
    ("existing_rows", |row| rows_count(row.existing_rows_count)),
    ("deleted_rows", |row| rows_count(row.deleted_rows_count)),
];

fn longs(rows: &[Row<'_>], of: Number) -> ArrayRef {
    Arc::new(rows.iter().map(|(_, row)| of(row)).collect::<Int64Array>())
}

fn content(manifest: &ManifestFile) -> &'static str {
    match manifest.content {
        ManifestContentType::Data => "data",
        ManifestContentType::Deletes => "deletes",
    }
}

fn rows_count(count: Option<u64>) -> Option<i64> {
    count.and_then(|count| i64::try_from(count).ok())
}

fn partitions(rows: &[Row<'_>]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for text in summaries(row) {
            lists.values().append_value(text);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// One text a partition field; none when the spec's columns are no longer known.
fn summaries((side, manifest): &Row<'_>) -> Vec<String> {
    let metadata = side.table.metadata();
    let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
    let fields = spec.and_then(|spec| spec.partition_type(metadata.current_schema()).ok());
    let Some((fields, summaries)) = fields.zip(manifest.partitions.as_ref()) else {
        return Vec::new();
    };
    let fields = fields.fields().iter().zip(summaries);
    fields
        .map(|(field, summary)| summary_text(&field.name, &field.field_type, summary))
        .collect()
}

fn summary_text(name: &str, of_type: &Type, summary: &FieldSummary) -> String {
    let read = |bytes: Option<&[u8]>| {
        let of_type = of_type.as_primitive_type().cloned();
        let datum = bytes.zip(of_type);
        datum.and_then(|(bytes, of_type)| Datum::try_from_bytes(bytes, of_type).ok())
    };
    let least = read(summary.lower_bound.as_deref().map(Vec::as_slice));
    let greatest = read(summary.upper_bound.as_deref().map(Vec::as_slice));
    let nulls = if summary.contains_null { ", null" } else { "" };
    match (least, greatest) {
        (Some(least), Some(greatest)) => {
            let (least, greatest) = (bound(&least), bound(&greatest));
            format!("{name}: {least} … {greatest}{nulls}")
        }
        _ => format!("{name}: none{nulls}"),
    }
}
