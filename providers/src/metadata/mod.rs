//! The metadata tables of a table: `t$snapshots`, also as `t.snapshots` and `g.t.snapshots`.
//!
//! | table | one row for |
//! |---|---|
//! | `t$deltas` | a delta that the log knows |
//! | `t$snapshots` | a snapshot of base or log |
//! | `t$history` | a snapshot that was current once |
//! | `t$refs` | a branch or tag |
//! | `t$files` | a live file |
//! | `t$manifests` | a manifest of the snapshot |
//! | `t$partitions` | a partition that has files |
//! | `t$conflicts` | a cell where a write met one that its writer had not seen |
//!
//! A table is two Iceberg tables, so most of them have a column `kind`: `base` or `log`. All but the last are read from
//! the metadata of the view's snapshots: they hold as many rows as that, and are made when they are asked for.
//!
//! **Invariant:** they describe the view of the statement, and nothing that came later.

mod bounds;
mod by_schema;
mod files;
mod hidden;
mod history;
mod manifests;
mod partitions;
mod refs;
mod snapshots;

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::datasource::ViewTable;
use iceberg::table::Table;

pub(crate) use by_schema::{MetadataCatalog, MetadataSchema};
pub(crate) use hidden::WithMetadata;

use crate::error::{Error, Result};
use crate::functions;
use crate::log::deltas_plan;
use crate::view::ReadView;

/// The names behind the `$`, in the order of the table above.
pub(crate) const KINDS: [&str; 8] = [
    "deltas",
    "snapshots",
    "history",
    "refs",
    "files",
    "manifests",
    "partitions",
    "conflicts",
];

/// The metadata table `kind` of a view.
///
/// # Errors
/// [`Error::UnknownMetadata`] naming those that there are; the lake's when metadata cannot be read.
pub(crate) async fn metadata_table(
    view: &Arc<ReadView>,
    kind: &str,
) -> Result<Arc<dyn TableProvider>> {
    let table = match kind {
        "deltas" => return Ok(Arc::new(ViewTable::new(deltas_plan(view).await?, None))),
        "conflicts" => return functions::conflicts(view),
        "snapshots" => snapshots::snapshots(view)?,
        "history" => history::history(view)?,
        "refs" => refs::refs(view)?,
        "files" => files::files(view).await?,
        "manifests" => manifests::manifests(view).await?,
        "partitions" => partitions::partitions(view).await?,
        _ => {
            return Err(Error::UnknownMetadata {
                table: view.table().clone(),
                kind: kind.to_owned(),
                known: KINDS.map(|kind| format!("${kind}")).join(", "),
            });
        }
    };
    Ok(Arc::new(table))
}

/// One of the two Iceberg tables at the view's snapshot.
#[derive(Clone, Copy, Debug)]
struct Side<'a> {
    kind: &'static str,
    table: &'a Table,
    /// None before the first commit.
    snapshot_id: Option<i64>,
}

/// Base, then log.
fn sides(view: &ReadView) -> [Side<'_>; 2] {
    let base = Side {
        kind: "base",
        table: &view.base.table,
        snapshot_id: view.base.snapshot_id,
    };
    let log = Side {
        kind: "log",
        table: &view.log.table,
        snapshot_id: view.log.snapshot_id,
    };
    [base, log]
}

/// Whether a column may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nulls {
    Never,
    Some,
}

/// Columns as a table.
fn in_columns(columns: Vec<(&'static str, ArrayRef, Nulls)>) -> Result<MemTable> {
    let columns = columns
        .into_iter()
        .map(|(name, array, nulls)| (name, array, nulls == Nulls::Some));
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    Ok(MemTable::try_new(batch.schema(), vec![vec![batch]])?)
}

/// Milliseconds since 1970 as a UTC timestamp.
fn utc_ms(values: impl Iterator<Item = i64>) -> ArrayRef {
    let array = TimestampMillisecondArray::from_iter_values(values);
    Arc::new(array.with_timezone("+00:00"))
}
