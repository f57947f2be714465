//! `t$history`: which snapshot was current from when on.
//!
//! | column | is |
//! |---|---|
//! | `kind` | `base` or `log` |
//! | `made_current_at` | when, UTC |
//! | `snapshot_id` | the snapshot |
//! | `parent_id` | the snapshot it was made from; null for the first, and when the snapshot has been expired |
//! | `is_current_ancestor` | whether the view's snapshot descends from it, or is it; not so after a rollback |

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, StringArray};
use datafusion::catalog::MemTable;

use super::{Nulls, Side, in_columns, sides, utc_ms};
use crate::error::Result;
use crate::view::ReadView;

struct HistoryRow {
    kind: &'static str,
    made_current_at_ms: i64,
    snapshot_id: i64,
    parent_id: Option<i64>,
    is_current_ancestor: bool,
}

/// The table `t$history` of a view, oldest first.
pub(super) fn history(view: &ReadView) -> Result<MemTable> {
    let mut rows: Vec<HistoryRow> = sides(view).into_iter().flat_map(rows_of).collect();
    rows.sort_by_key(|row| row.made_current_at_ms);
    let kind = StringArray::from_iter_values(rows.iter().map(|row| row.kind));
    let snapshot = Int64Array::from_iter_values(rows.iter().map(|row| row.snapshot_id));
    let parent: Int64Array = rows.iter().map(|row| row.parent_id).collect();
    let ancestors: Vec<bool> = rows.iter().map(|row| row.is_current_ancestor).collect();
    let made = utc_ms(rows.iter().map(|row| row.made_current_at_ms));
    in_columns(vec![
        ("kind", Arc::new(kind), Nulls::Never),
        ("made_current_at", made, Nulls::Never),
        ("snapshot_id", Arc::new(snapshot), Nulls::Never),
        ("parent_id", Arc::new(parent), Nulls::Some),
        (
            "is_current_ancestor",
            Arc::new(BooleanArray::from(ancestors)),
            Nulls::Never,
        ),
    ])
}

fn rows_of(side: Side<'_>) -> Vec<HistoryRow> {
    let ancestors = ancestors(side);
    let history = side.table.metadata().history().iter();
    history
        .map(|entry| HistoryRow {
            kind: side.kind,
            made_current_at_ms: entry.timestamp_ms(),
            snapshot_id: entry.snapshot_id,
            parent_id: parent(side, entry.snapshot_id),
            is_current_ancestor: ancestors.contains(&entry.snapshot_id),
        })
        .collect()
}

/// The view's snapshot and all it descends from.
fn ancestors(side: Side<'_>) -> HashSet<i64> {
    let mut ancestors = HashSet::new();
    let mut next = side.snapshot_id;
    while let Some(id) = next
        && ancestors.insert(id)
    {
        next = parent(side, id);
    }
    ancestors
}

fn parent(side: Side<'_>, snapshot_id: i64) -> Option<i64> {
    let snapshot = side.table.metadata().snapshot_by_id(snapshot_id)?;
    snapshot.parent_snapshot_id()
}
