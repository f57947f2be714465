//! `rows_at(view, row_ids)`: the rows of a view by id, all of them in one plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use lakesync_proto::{RowId, columns};

use crate::error::Result;
use crate::lake::arrow_schema;
use crate::resolve::only_rows;
use crate::session::session;
use crate::text_views::in_types_of;
use crate::union::UnionTable;
use crate::view::ReadView;

/// The rows of `view` whose id is among `ids`, in no particular order; ids of rows that do not exist give none.
///
/// The batches have the base's Arrow schema: `row_id`, then the user's columns.
///
/// # Errors
/// When the base or the log cannot be read.
pub async fn rows_at(view: &Arc<ReadView>, ids: &[RowId]) -> Result<Vec<RecordBatch>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ctx = session(&view.warehouse);
    let table = UnionTable::new(Arc::clone(view), None)?;
    let found = only_rows(&ctx, ctx.read_table(Arc::new(table))?, ids.iter())?;
    let stored = arrow_schema(&view.base.table)?;
    let batches = found.collect().await?;
    let batches = batches.iter().map(|batch| in_types_of(batch, &stored));
    Ok(batches.collect::<std::result::Result<_, _>>()?)
}

/// Those of `ids` that are rows of `view`.
///
/// # Errors
/// As [`rows_at`].
pub async fn existing(view: &Arc<ReadView>, ids: &[RowId]) -> Result<BTreeSet<RowId>> {
    let mut found = BTreeSet::new();
    for batch in rows_at(view, ids).await? {
        let column = batch
            .column_by_name(columns::ROW_ID)
            .expect("a base has a row id");
        for id in column.as_string::<i32>().iter().flatten() {
            found.extend(RowId::parse(id));
        }
    }
    Ok(found)
}
