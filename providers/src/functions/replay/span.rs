//! Rows of the log, flushed and hot as one frame.
//!
//! **Invariant:** a frame has the log's own columns, then the user's in the order of the view's schema, whatever files
//! they come from.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::TryStreamExt as _;
use lakesync_proto::{Seq, SeqDelta, columns};

use crate::error::Result;
use crate::lake::arrow_schema;
use crate::log_rows::log_batches;
use crate::union::in_memory;
use crate::view::ReadView;

/// The column of ids that rows are joined with: no column of ours or the user's can have this name.
const ASKED: &str = "asked$";
/// So many ids are looked up by name: bounds and bloom filters of the files then spare most of them.
const FEW_IDS: usize = 20;

/// Which rows are asked for; all of them by default.
#[derive(Clone, Debug, Default)]
pub(in crate::functions) struct RowFilter {
    /// Conditions on `row_id` and nothing else.
    pub(in crate::functions) conditions: Vec<Expr>,
    /// The ids, when the conditions name them.
    pub(in crate::functions) ids: Option<BTreeSet<String>>,
    /// Whether the log's own columns are enough.
    pub(in crate::functions) own_columns_only: bool,
}

impl RowFilter {
    /// The row with this id.
    pub(in crate::functions) fn one(row_id: &str) -> Self {
        Self {
            conditions: vec![col(columns::ROW_ID).eq(lit(row_id))],
            ids: Some(BTreeSet::from([row_id.to_owned()])),
            own_columns_only: false,
        }
    }

    fn may_want(&self, row_id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(row_id))
    }
}

/// The deltas of `view` with `from < seq <= to`, of the rows that are asked for.
pub(super) async fn log_rows(
    ctx: &SessionContext,
    view: &ReadView,
    span: (Seq, Seq),
    rows: &RowFilter,
) -> Result<DataFrame> {
    let columns = match rows.own_columns_only {
        true => Vec::new(),
        false => user_columns(view),
    };
    let frame = all_rows(ctx, view, span, (&columns, |id: &str| rows.may_want(id))).await?;
    match rows.conditions.iter().cloned().reduce(Expr::and) {
        Some(condition) => Ok(frame.filter(condition)?),
        None => Ok(frame),
    }
}

/// The same of the rows with these ids, of which there is one at least.
pub(super) async fn log_rows_of(
    ctx: &SessionContext,
    view: &ReadView,
    span: (Seq, Seq),
    ids: (&StringArray, impl Fn(&str) -> bool),
) -> Result<DataFrame> {
    let (ids, contains) = ids;
    let columns = user_columns(view);
    only(
        ctx,
        all_rows(ctx, view, span, (&columns, contains)).await?,
        ids,
    )
}

/// The rows of `frame` whose id is one of `ids`.
pub(super) fn only(ctx: &SessionContext, frame: DataFrame, ids: &StringArray) -> Result<DataFrame> {
    if ids.len() <= FEW_IDS {
        let ids = ids.iter().flatten().map(lit).collect();
        return Ok(frame.filter(col(columns::ROW_ID).in_list(ids, false))?);
    }
    let schema = Schema::new(vec![Field::new(ASKED, DataType::Utf8, false)]);
    let ids: ArrayRef = Arc::new(ids.clone());
    let asked = ctx.read_batch(RecordBatch::try_new(Arc::new(schema), vec![ids])?)?;
    Ok(frame.join(
        asked,
        JoinType::LeftSemi,
        &[columns::ROW_ID],
        &[ASKED],
        None,
    )?)
}

fn user_columns(view: &ReadView) -> Vec<&str> {
    let columns = view.schema.columns.iter();
    columns.map(|column| column.name.as_str()).collect()
}

async fn all_rows(
    ctx: &SessionContext,
    view: &ReadView,
    (from, to): (Seq, Seq),
    (user, wants): (&[&str], impl Fn(&str) -> bool),
) -> Result<DataFrame> {
    let schema = arrow_schema(&view.log.table)?;
    let user = user.iter().copied();
    let known = user.filter(|name| schema.field_with_name(name).is_ok());
    let names: Vec<&str> = columns::LOG.into_iter().chain(known).collect();
    let flushed = ctx.read_table(Arc::new(view.log.scan(&view.warehouse).await?))?;
    let seq = || col(columns::SEQ);
    let within = seq()
        .gt(lit(from.as_i64()))
        .and(seq().lt_eq(lit(to.as_i64())));
    let flushed = flushed.filter(within)?.select_columns(&names)?;
    let hot: Vec<(&SeqDelta, u64)> = view
        .arrivals(view.log.max_seq.max(from))
        .filter(|(delta, _)| delta.seq <= to && wants(delta.delta.row_id.as_str()))
        .map(|(delta, arrived_ms)| (&**delta, arrived_ms))
        .collect();
    if hot.is_empty() {
        return Ok(flushed);
    }
    let batches = log_batches(&view.schema, &schema, &hot)?;
    let hot = ctx.read_table(in_memory(schema, &batches)?)?;
    let hot = hot.select_columns(&names)?;
    match view.log.max_seq > from {
        true => Ok(flushed.union(hot)?),
        false => Ok(hot),
    }
}

/// The batches of `frame`, unless they have more than `bytes_max` bytes or `rows_max` rows.
pub(super) async fn collect_within(
    frame: DataFrame,
    rows_max: usize,
    bytes_max: usize,
) -> Result<Option<Vec<RecordBatch>>> {
    let mut batches = frame.execute_stream().await?;
    let (mut found, mut rows, mut bytes) = (Vec::new(), 0, 0);
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows();
        bytes += batch.get_array_memory_size();
        if rows > rows_max || bytes > bytes_max {
            return Ok(None);
        }
        if batch.num_rows() > 0 {
            found.push(batch);
        }
    }
    Ok(Some(found))
}

/// The texts of a column that has no nulls.
pub(super) fn text_of<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    let column = batch.column_by_name(name);
    column
        .expect("every frame of the log has the log's columns")
        .as_string()
}
