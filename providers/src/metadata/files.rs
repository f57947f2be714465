//! `t$files`: the live files of the view's snapshots.
//!
//! | column | is |
//! |---|---|
//! | `kind` | `base` or `log` |
//! | `content` | `data`, `position deletes` or `equality deletes` |
//! | `path` | the full URI |
//! | `partition`, `spec_id` | `name=value/…`, null without a partition; the spec it follows |
//! | `rows`, `bytes` | of the file |
//! | `dead_rows` | those of a data file's rows that delete files take away; null for delete files |
//! | `lower_bounds`, `upper_bounds` | per column, as texts; long ones are cut |
//! | `null_counts` | nulls per column |
//! | `sequence_number`, `added_snapshot_id` | of the commit that brought it |

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, Int64Builder, MapBuilder, StringArray, StringBuilder,
};
use datafusion::catalog::MemTable;
use iceberg::spec::DataContentType;

use super::bounds::{by_name, partition};
use super::{Nulls, Side, in_columns, sides};
use crate::error::Result;
use crate::lake::{DataFileInfo, live_files};
use crate::view::ReadView;

/// A file with the table that it is of.
pub(super) type Live<'a> = (Side<'a>, DataFileInfo);

/// The live files of base and log, in the order of their manifests.
pub(super) async fn live(view: &ReadView) -> Result<Vec<Live<'_>>> {
    let mut found = Vec::new();
    for side in sides(view) {
        if side.snapshot_id.is_some() {
            let files = live_files(side.table, side.snapshot_id).await?;
            found.extend(files.into_iter().map(|file| (side, file)));
        }
    }
    Ok(found)
}

/// The table `t$files` of a view.
pub(super) async fn files(view: &ReadView) -> Result<MemTable> {
    let rows = live(view).await?;
    let dead_rows = dead_rows(view, &rows).await?;
    let longs = |of: fn(&DataFileInfo) -> Option<i64>| -> ArrayRef {
        Arc::new(
            rows.iter()
                .map(|(_, file)| of(file))
                .collect::<Int64Array>(),
        )
    };
    let kind = StringArray::from_iter_values(rows.iter().map(|(side, _)| side.kind));
    let content = rows.iter().map(|(_, file)| content(file.content));
    let paths = StringArray::from_iter_values(rows.iter().map(|(_, file)| &file.path));
    let parts: StringArray = rows
        .iter()
        .map(|(side, file)| partition(side.table, file))
        .collect();
    let specs = Int32Array::from_iter_values(rows.iter().map(|(_, file)| file.spec_id));
    in_columns(vec![
        ("kind", Arc::new(kind), Nulls::Never),
        (
            "content",
            Arc::new(StringArray::from_iter_values(content)),
            Nulls::Never,
        ),
        ("path", Arc::new(paths), Nulls::Never),
        ("partition", Arc::new(parts), Nulls::Some),
        ("spec_id", Arc::new(specs), Nulls::Never),
        (
            "rows",
            longs(|file| i64::try_from(file.rows).ok()),
            Nulls::Some,
        ),
        ("dead_rows", Arc::new(dead_rows), Nulls::Some),
        (
            "bytes",
            longs(|file| i64::try_from(file.bytes).ok()),
            Nulls::Some,
        ),
        (
            "lower_bounds",
            texts(rows.iter().map(|(s, f)| by_name(s.table, &f.lower_bounds)))?,
            Nulls::Never,
        ),
        (
            "upper_bounds",
            texts(rows.iter().map(|(s, f)| by_name(s.table, &f.upper_bounds)))?,
            Nulls::Never,
        ),
        ("null_counts", null_counts(&rows)?, Nulls::Never),
        (
            "sequence_number",
            longs(|file| Some(file.sequence_number)),
            Nulls::Never,
        ),
        (
            "added_snapshot_id",
            longs(|file| file.snapshot_id),
            Nulls::Some,
        ),
    ])
}

/// How many rows of each file a delete file takes away; none for what has no rows of the table.
async fn dead_rows(view: &ReadView, rows: &[Live<'_>]) -> Result<Int64Array> {
    // What another program made of a base is listed, and not read.
    let dead = match view.base.foreign {
        None => Some(view.base.dead(&view.warehouse).await?),
        Some(_) => None,
    };
    let dead_rows = rows
        .iter()
        .map(|(side, file)| match (side.kind, file.content) {
            ("base", DataContentType::Data) => {
                let dead = dead.as_ref()?.of(&file.path);
                i64::try_from(dead.map_or(0, |dead| dead.rows())).ok()
            }
            (_, DataContentType::Data) => Some(0),
            (_, DataContentType::PositionDeletes | DataContentType::EqualityDeletes) => None,
        });
    Ok(dead_rows.collect())
}

pub(super) fn content(content: DataContentType) -> &'static str {
    match content {
        DataContentType::Data => "data",
        DataContentType::PositionDeletes => "position deletes",
        DataContentType::EqualityDeletes => "equality deletes",
    }
}

fn texts(maps: impl Iterator<Item = BTreeMap<String, String>>) -> Result<ArrayRef> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for map in maps {
        for (name, text) in map {
            builder.keys().append_value(name);
            builder.values().append_value(text);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn null_counts(rows: &[Live<'_>]) -> Result<ArrayRef> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for (side, file) in rows {
        let schema = side.table.metadata().current_schema();
        let counts = file.null_counts.iter().filter_map(|(id, count)| {
            Some((schema.name_by_field_id(*id)?, i64::try_from(*count).ok()?))
        });
        let counts: BTreeMap<&str, i64> = counts.collect();
        for (name, count) in counts {
            builder.keys().append_value(name);
            builder.values().append_value(count);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}
