//! The overlay resolved: the complete rows that a view's hot deltas touch, as Arrow.
//!
//! Steps: fold the hot deltas by row; look up evidence in the log for rows that a late delta touches (one
//! not newer than the base's newest); read those rows' values from the base, by their positions when key
//! indexes know them; fold all three by the merge rule.
//!
//! **Invariant:** the resolved rows are exactly the view's rows whose id a hot delta names; rows that the
//! merge rule says do not exist are not among them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
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
use crate::scan::{
    Chunk, FilePatch, KeyIndexes, LiveChunk, Located, Masks, PatchedRow, Place, locate,
};
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
    /// Those of them that exist, complete, with the base's schema, and where the base has them.
    pub(crate) chunks: Vec<LiveChunk>,
    /// The base without the touched rows; none when there are no key indexes to know them by.
    pub(crate) masks: Option<Arc<Masks>>,
    /// What is to be changed in each file that has touched rows, by its number in the base's list; nothing without
    /// `masks`.
    pub(crate) patches: BTreeMap<u32, Arc<FilePatch>>,
}

impl Resolved {
    /// The rows that exist, complete, in batches with the base's schema.
    ///
    /// # Errors
    /// Those of Arrow, when memory ends.
    pub fn rows(&self) -> Result<Vec<RecordBatch>> {
        let chunks = self.chunks.iter();
        let rows = chunks.map(|LiveChunk { chunk, live }| match live {
            None => Ok(chunk.rows.clone()),
            Some(live) => {
                let live = BooleanArray::new(live.clone(), None);
                Ok(filter_record_batch(&chunk.rows, &live)?)
            }
        });
        rows.collect()
    }
}

async fn resolve(view: &ReadView) -> Result<Resolved> {
    let overlay = view.overlay();
    let ctx = session(&view.warehouse);
    let known = known_evidence(&ctx, view).await?;
    let found = located(&ctx, view, overlay.keys().collect()).await?;
    let known_places = found.is_some();
    let located = match found {
        Some(located) => located,
        None => Located {
            rows: base_rows(&ctx, view, overlay.keys()).await?,
            ..Located::default()
        },
    };
    let nothing = RowState::default();
    let mut rows = Vec::new();
    for (row_id, candidates) in &overlay {
        let evidence = known.get(row_id).unwrap_or(&nothing);
        if let Folded::Row(mut values) = fold_row(located.rows.get(row_id), candidates, evidence) {
            values.extend(key_values(&view.schema, row_id)?);
            rows.push((row_id, values));
        }
    }
    let arrow = arrow_schema(&view.base.table)?;
    let chunks = placed_chunks(&view.schema, &arrow, &rows, &located)?;
    let existing: HashSet<&RowId> = rows.iter().map(|(id, _)| *id).collect();
    let places = located.places.iter();
    let gone = places.filter(|(id, _)| !existing.contains(id));
    let gone = gone.map(|(_, place)| *place).chain(located.again);
    Ok(Resolved {
        touched: row_ids(overlay.keys())?,
        patches: patches(&chunks, gone),
        chunks: chunks
            .into_iter()
            .map(|chunk| LiveChunk { chunk, live: None })
            .collect(),
        masks: known_places.then(|| Arc::new(located.masks)),
    })
}

/// The rows in chunks, each with its place in the base and what it changes there.
fn placed_chunks(
    schema: &TableSchema,
    arrow: &SchemaRef,
    rows: &[(&RowId, BaseRow)],
    located: &Located,
) -> Result<Vec<Arc<Chunk>>> {
    let bytes = |(id, values): &(&RowId, BaseRow)| {
        id.as_str().len() + values.values().map(Value::bytes).sum::<usize>()
    };
    let parts = chunks(rows, bytes).into_iter();
    let made = parts.map(|rows| {
        let places = rows.iter().map(|(id, _)| located.places.get(*id).copied());
        let columns = arrow.fields().iter();
        Ok(Arc::new(Chunk {
            rows: batch(schema, arrow, rows)?,
            places: places.collect(),
            decided: columns
                .map(|column| decided(column.name(), rows, located))
                .collect(),
        }))
    });
    made.collect()
}

/// The rows whose value of a column is not what the base has of it.
fn decided(column: &str, rows: &[(&RowId, BaseRow)], located: &Located) -> Option<BooleanBuffer> {
    let known = |row: &BaseRow| row.get(column).unwrap_or(&Value::Null).clone();
    let decided = rows.iter().map(|(id, row)| {
        let base = located.places.get(*id).and(located.rows.get(*id));
        base.is_some_and(|base| known(base) != known(row))
    });
    let decided: BooleanBuffer = decided.collect();
    (decided.count_set_bits() > 0).then_some(decided)
}

/// What chunks of rows, and the places of rows that do not exist, change in each file.
fn patches(
    chunks: &[Arc<Chunk>],
    gone: impl Iterator<Item = Place>,
) -> BTreeMap<u32, Arc<FilePatch>> {
    let mut files: BTreeMap<u32, (Vec<PatchedRow>, Vec<u32>)> = BTreeMap::new();
    for (chunk, made) in (0_u32..).zip(chunks) {
        for (row, place) in (0_u32..).zip(&made.places) {
            if let Some(Place { file, position }) = *place {
                let (rows, _) = files.entry(file).or_default();
                rows.push(PatchedRow {
                    position,
                    chunk,
                    row,
                });
            }
        }
    }
    for Place { file, position } in gone {
        files.entry(file).or_default().1.push(position);
    }
    let patches = files.into_iter().map(|(file, (rows, deleted))| {
        let patch = FilePatch::new(chunks.to_vec(), rows, deleted);
        (file, Arc::new(patch))
    });
    patches.collect()
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
