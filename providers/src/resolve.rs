//! Rows of the base, and of other tables, by their ids.
//!
//! **Invariant:** of rows that are asked for by id, all that are there are given, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use lakesync_proto::{ColumnName, RowId, TableSchema, Value, columns};

use crate::columnar::{chunks, value_at};
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::overlay::{WANTED, row_id_schema};
use crate::scan::{Columns, KeyIndexes, Locator, Next};
use crate::view::ReadView;

/// So many row ids are looked up by name: bounds and bloom filters of the files then spare most of them.
const FEW_IDS: usize = 20;

/// A row of the base: the columns that its files have.
pub(crate) type BaseRow = BTreeMap<ColumnName, Value>;

/// The base's values of the rows with these ids: read at their positions when key indexes know them, else by a join.
pub(crate) async fn base_rows<'a>(
    ctx: &SessionContext,
    view: &ReadView,
    ids: impl ExactSizeIterator<Item = &'a RowId>,
) -> Result<BTreeMap<RowId, BaseRow>> {
    let mut rows = BTreeMap::new();
    if ids.len() == 0 || view.base.snapshot_id.is_none() {
        return Ok(rows);
    }
    let ids: BTreeSet<&RowId> = ids.collect();
    let base = view.base.scan(&view.warehouse).await?;
    let asked = ids.iter().copied().collect();
    if let Some(mut locator) = Locator::new(KeyIndexes::of_process(), ctx, &base, asked)? {
        loop {
            match locator.next(Columns::All).await? {
                Next::Rows(found) => rows.extend(read_rows(&view.schema, &found.rows)?),
                Next::End => return Ok(rows),
                Next::Unknown => break,
            }
        }
    }
    let mut found = rows_by_join(ctx, &base, ids.into_iter(), Columns::All).await?;
    while let Some(batch) = found.try_next().await? {
        rows.extend(read_rows(&view.schema, &batch)?);
    }
    Ok(rows)
}

/// The rows of `base` with these ids, of which there is one at least, wherever they are.
pub(crate) async fn rows_by_join<'a>(
    ctx: &SessionContext,
    base: &ParquetTable,
    ids: impl Iterator<Item = &'a RowId>,
    wanted: Columns,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let mut frame = ctx.read_table(Arc::new(base.clone()))?;
    if wanted == Columns::RowId {
        frame = frame.select_columns(&[columns::ROW_ID])?;
    }
    let batches = only_rows(ctx, frame, ids)?.execute_stream().await?;
    Ok(batches.map_err(Error::from).boxed())
}

/// The row ids of a batch.
pub(crate) fn ids_of(batch: &RecordBatch) -> Result<StringArray> {
    let ids = batch.column_by_name(columns::ROW_ID);
    let ids = ids.and_then(|ids| ids.as_string_opt::<i32>());
    let none = || ArrowError::SchemaError("a row id is a text in every table".to_owned());
    Ok(ids.ok_or_else(none)?.clone())
}

/// The rows of one batch of the base, in its order.
pub(crate) fn read_rows(
    schema: &TableSchema,
    batch: &RecordBatch,
) -> Result<Vec<(RowId, BaseRow)>> {
    let mut rows = Vec::with_capacity(batch.num_rows());
    let ids = batch
        .column_by_name(columns::ROW_ID)
        .expect("a base has a row id")
        .as_string::<i32>()
        .clone();
    for row in 0..batch.num_rows() {
        let id = RowId::parse(ids.value(row)).map_err(|error| Error::BrokenDelta {
            table: schema.table.clone(),
            seq: 0,
            reason: format!("the base holds a row id that is none: {error}"),
        })?;
        let mut values = BaseRow::new();
        for column in &schema.columns {
            if let Some(array) = batch.column_by_name(column.name.as_ref()) {
                let value = value_at(array.as_ref(), row, column.column_type)?;
                values.insert(column.name.clone(), value);
            }
        }
        rows.push((id, values));
    }
    Ok(rows)
}

/// The rows of `frame`, which has a column `row_id`, whose id is among `ids`; there is at least one.
pub(crate) fn only_rows<'a>(
    ctx: &SessionContext,
    frame: DataFrame,
    ids: impl Iterator<Item = &'a RowId>,
) -> Result<DataFrame> {
    let ids: Vec<&RowId> = ids.collect();
    if ids.len() <= FEW_IDS {
        let ids = ids.iter().map(|id| lit(id.as_str())).collect();
        return Ok(frame.filter(col(columns::ROW_ID).in_list(ids, false))?);
    }
    let wanted = ctx.read_batches(row_ids(ids.into_iter())?)?;
    let semi = JoinType::LeftSemi;
    Ok(frame.join(wanted, semi, &[columns::ROW_ID], &[WANTED], None)?)
}

/// Row ids as batches of one column, [`WANTED`].
fn row_ids<'a>(ids: impl Iterator<Item = &'a RowId>) -> Result<Vec<RecordBatch>> {
    let schema = row_id_schema();
    let ids: Vec<&RowId> = ids.collect();
    let parts = chunks(&ids, |id| id.as_str().len()).into_iter();
    parts
        .map(|ids| {
            let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
            Ok(RecordBatch::try_new(Arc::clone(&schema), vec![ids])?)
        })
        .collect()
}
