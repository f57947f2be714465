//! The overlay resolved: the complete rows that a view's hot deltas touch, as Arrow.
//!
//! Steps: fold the hot deltas by row; look up evidence in the log for rows that a late delta touches (one
//! not newer than the base's newest); read those rows' values from the base, by their positions when key
//! indexes know them; fold all three by the merge rule.
//!
//! **Invariant:** the resolved rows are exactly the view's rows whose id a hot delta names; rows that the
//! merge rule says do not exist are not among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_proto::{
    ColumnName, Folded, Hlc, RowId, RowState, TableSchema, Value, columns, fold_row,
};

use crate::columnar::{chunks, column, value_at};
use crate::error::{Error, Result};
use crate::lake::arrow_schema;
use crate::log::evidence;
use crate::scan::{KeyIndexes, Located, Masks, locate};
use crate::session::session;
use crate::view::ReadView;

/// The column of row ids that tables are joined with: no user column can have this name.
pub(crate) const WANTED: &str = "wanted$";

/// So many row ids are looked up by name: bounds and bloom filters of the files then spare most of them.
const FEW_IDS: usize = 20;

/// A row of the base: the columns that its files have.
pub(crate) type BaseRow = BTreeMap<ColumnName, Value>;

impl ReadView {
    /// What the hot deltas make of the rows they touch; made once for the view.
    ///
    /// # Errors
    /// When the base or the log cannot be read.
    pub async fn resolved(&self) -> Result<&Resolved> {
        self.resolved.get_or_try_init(|| resolve(self)).await
    }
}

/// The overlay of a view, completed from base and log.
#[derive(Debug)]
pub struct Resolved {
    /// The ids of the rows that hot deltas touch, in a column of their own: the base no longer speaks for them.
    pub touched: Vec<RecordBatch>,
    /// Those of them that exist, complete, in row id order, with the base's schema.
    pub rows: Vec<RecordBatch>,
    /// The base without the touched rows; none when there are no key indexes to know them by.
    pub(crate) masks: Option<Arc<Masks>>,
}

async fn resolve(view: &ReadView) -> Result<Resolved> {
    let overlay = view.overlay();
    let ctx = session(&view.warehouse);
    let known = known_evidence(&ctx, view).await?;
    let (base, masks) = match located(&ctx, view, overlay.keys().collect()).await? {
        Some(located) => (located.rows, Some(Arc::new(located.masks))),
        None => (base_rows(&ctx, view, overlay.keys()).await?, None),
    };
    let nothing = RowState::default();
    let mut rows = Vec::new();
    for (row_id, candidates) in &overlay {
        let evidence = known.get(row_id).unwrap_or(&nothing);
        if let Folded::Row(mut values) = fold_row(base.get(row_id), candidates, evidence) {
            values.extend(key_values(&view.schema, row_id)?);
            rows.push((row_id, values));
        }
    }
    Ok(Resolved {
        touched: row_ids(overlay.keys())?,
        rows: batches(&view.schema, &arrow_schema(&view.base.table)?, &rows)?,
        masks,
    })
}

/// Where the base has the rows with these ids, and what it has of them.
async fn located(
    ctx: &SessionContext,
    view: &ReadView,
    ids: BTreeSet<&RowId>,
) -> Result<Option<Located>> {
    let base = view.base.scan(&view.warehouse).await?;
    locate(KeyIndexes::of_process(), ctx, &base, &view.schema, &ids).await
}

/// The key columns of a row: no write decides them, its id does.
fn key_values(schema: &TableSchema, row_id: &RowId) -> Result<Vec<(ColumnName, Value)>> {
    schema
        .key_values(row_id)
        .map_err(|error| Error::BrokenDelta {
            table: schema.table.clone(),
            seq: 0,
            reason: error.to_string(),
        })
}

/// What the log knows of the rows that a late delta touches, folded by row.
async fn known_evidence(
    ctx: &SessionContext,
    view: &ReadView,
) -> Result<BTreeMap<RowId, RowState>> {
    let mut late = BTreeSet::new();
    let mut oldest = Hlc::MAX;
    for delta in view.hot_deltas() {
        if delta.delta.hlc <= view.base.max_hlc {
            late.insert(delta.delta.row_id.clone());
            oldest = oldest.min(delta.delta.hlc);
        }
    }
    let mut known: BTreeMap<RowId, RowState> = BTreeMap::new();
    for delta in evidence(ctx, view, &late, oldest).await? {
        known
            .entry(delta.delta.row_id.clone())
            .or_default()
            .apply(&delta.delta);
    }
    Ok(known)
}

/// The base's values of the rows with these ids.
pub(crate) async fn base_rows<'a>(
    ctx: &SessionContext,
    view: &ReadView,
    ids: impl ExactSizeIterator<Item = &'a RowId>,
) -> Result<BTreeMap<RowId, BaseRow>> {
    let mut rows = BTreeMap::new();
    if ids.len() == 0 || view.base.snapshot_id.is_none() {
        return Ok(rows);
    }
    let base = view.base.scan(&view.warehouse).await?;
    let found = only_rows(ctx, ctx.read_table(Arc::new(base))?, ids)?;
    for batch in found.collect().await? {
        rows.extend(read_rows(&view.schema, &batch)?);
    }
    Ok(rows)
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

fn batches(
    schema: &TableSchema,
    arrow: &SchemaRef,
    rows: &[(&RowId, BaseRow)],
) -> Result<Vec<RecordBatch>> {
    let bytes = |(id, values): &(&RowId, BaseRow)| {
        id.as_str().len() + values.values().map(Value::bytes).sum::<usize>()
    };
    chunks(rows, bytes)
        .into_iter()
        .map(|rows| batch(schema, arrow, rows))
        .collect()
}

fn batch(
    schema: &TableSchema,
    arrow: &SchemaRef,
    rows: &[(&RowId, BaseRow)],
) -> Result<RecordBatch> {
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(arrow.fields().len());
    for field in arrow.fields() {
        let array = match schema.column(field.name()) {
            Some(known) => column(
                known.column_type,
                rows.iter().map(|(_, values)| values.get(&known.name)),
            )?,
            None => Arc::new(StringArray::from_iter_values(
                rows.iter().map(|(id, _)| *id),
            )),
        };
        arrays.push(array);
    }
    Ok(RecordBatch::try_new(Arc::clone(arrow), arrays)?)
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

/// The schema of [`Resolved::touched`].
pub(crate) fn row_id_schema() -> SchemaRef {
    let ids = Field::new(WANTED, DataType::Utf8, false);
    Arc::new(Schema::new(vec![ids]))
}
