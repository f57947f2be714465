//! `t$refs`: branches and tags, whoever made them.
//!
//! | column | is |
//! |---|---|
//! | `kind` | `base` or `log` |
//! | `name`, `type` | of the ref; `BRANCH` or `TAG` |
//! | `snapshot_id` | where it points |
//! | `max_reference_age_in_ms` | after which it may be dropped; null: the table's default, and never for `main` |
//! | `min_snapshots_to_keep`, `max_snapshot_age_in_ms` | of a branch, likewise |

use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, StringArray};
use datafusion::catalog::MemTable;
use iceberg::spec::{SnapshotReference, SnapshotRetention};

use super::{Nulls, in_columns, sides};
use crate::error::{Error, Result};
use crate::lake::references;
use crate::view::ReadView;

#[derive(Default)]
struct RefRow {
    kind: &'static str,
    name: String,
    of_type: &'static str,
    snapshot_id: i64,
    max_ref_age_ms: Option<i64>,
    min_snapshots: Option<i32>,
    max_snapshot_age_ms: Option<i64>,
}

/// The table `t$refs` of a view, by kind and name.
pub(super) fn refs(view: &ReadView) -> Result<MemTable> {
    let mut rows = Vec::new();
    for side in sides(view) {
        let refs = references(side.table.metadata());
        let refs = refs.map_err(|error| Error::Metadata {
            table: side.table.identifier().to_string(),
            reason: format!("its refs: {error}"),
        })?;
        rows.extend(refs.into_iter().map(|entry| row(side.kind, entry)));
    }
    let texts =
        |of: fn(&RefRow) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(of)));
    let longs =
        |of: fn(&RefRow) -> Option<i64>| Arc::new(rows.iter().map(of).collect::<Int64Array>());
    let min_snapshots: Int32Array = rows.iter().map(|row| row.min_snapshots).collect();
    in_columns(vec![
        ("kind", texts(|row| row.kind), Nulls::Never),
        ("name", texts(|row| &row.name), Nulls::Never),
        ("type", texts(|row| row.of_type), Nulls::Never),
        (
            "snapshot_id",
            longs(|row| Some(row.snapshot_id)),
            Nulls::Never,
        ),
        (
            "max_reference_age_in_ms",
            longs(|row| row.max_ref_age_ms),
            Nulls::Some,
        ),
        (
            "min_snapshots_to_keep",
            Arc::new(min_snapshots),
            Nulls::Some,
        ),
        (
            "max_snapshot_age_in_ms",
            longs(|row| row.max_snapshot_age_ms),
            Nulls::Some,
        ),
    ])
}

fn row(kind: &'static str, (name, entry): (String, SnapshotReference)) -> RefRow {
    let row = RefRow {
        kind,
        name,
        snapshot_id: entry.snapshot_id,
        ..RefRow::default()
    };
    match entry.retention {
        SnapshotRetention::Branch {
            min_snapshots_to_keep,
            max_snapshot_age_ms,
            max_ref_age_ms,
        } => RefRow {
            of_type: "BRANCH",
            max_ref_age_ms,
            min_snapshots: min_snapshots_to_keep,
            max_snapshot_age_ms,
            ..row
        },
        SnapshotRetention::Tag { max_ref_age_ms } => RefRow {
            of_type: "TAG",
            max_ref_age_ms,
            ..row
        },
    }
}
