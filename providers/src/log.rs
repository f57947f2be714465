//! The log: `t$deltas` in SQL, and deltas read back from the flushed log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::TryStreamExt as _;
use lakesync_proto::{Hlc, RowId, RowState, Seq, SeqDelta, TableSchema, Value, columns};

use crate::error::{Error, Result};
use crate::lake::{Warehouse, arrow_schema};
use crate::log_rows;
use crate::resolve::only_rows;
use crate::row_states::paged_session;
use crate::session::session;
use crate::union::in_memory;
use crate::view::{LogSnapshot, ReadView};

/// How many rows of a page become deltas at a time: those that do not fit are let go again.
const DECODED_ROWS: usize = 16;

/// Everything that the log of a view holds: the flushed files and the hot deltas above them.
pub(crate) async fn deltas_plan(view: &ReadView) -> Result<LogicalPlan> {
    let flushed = view.log.scan(&view.warehouse).await?;
    let flushed: Arc<dyn TableProvider> = Arc::new(flushed);
    let name = format!("{}$deltas", view.table());
    let plan = LogicalPlanBuilder::scan(name.clone(), provider_as_source(flushed), None)?;
    let unflushed: Vec<(&SeqDelta, u64)> = view
        .arrivals(view.log.max_seq)
        .map(|(delta, arrived_ms)| (&**delta, arrived_ms))
        .collect();
    if unflushed.is_empty() {
        return Ok(plan.build()?);
    }
    let schema = arrow_schema(&view.log.table)?;
    let batches = log_rows::log_batches(&view.schema, &schema, &unflushed)?;
    let hot = in_memory(schema, &batches)?;
    let hot = LogicalPlanBuilder::scan(name, provider_as_source(hot), None)?.build()?;
    Ok(plan.union(hot)?.build()?)
}

/// The flushed deltas of `table` with `from < seq <= to`, ascending by seq.
///
/// # Errors
/// When files cannot be read or hold something that is no delta.
pub async fn read_log(
    ctx: &SessionContext,
    warehouse: &Warehouse,
    (log, schema): (&LogSnapshot, &TableSchema),
    (from, to): (Seq, Seq),
) -> Result<Vec<Arc<SeqDelta>>> {
    let frame = log_frame(ctx, warehouse, log).await?;
    read_deltas(frame.filter(between(from, to))?, schema).await
}

/// The seqs of the first `limit` flushed deltas of a view with `from < seq <= to`, in no order.
///
/// # Errors
/// As [`read_log`].
pub async fn log_seqs(view: &ReadView, (from, to): (Seq, Seq), limit: usize) -> Result<Vec<Seq>> {
    let ctx = session(&view.warehouse);
    let frame = log_between(&ctx, view, (from, to)).await?;
    let frame = frame
        .select(vec![col(columns::SEQ)])?
        .sort(vec![col(columns::SEQ).sort(true, false)])?
        .limit(0, Some(limit))?;
    let mut seqs = Vec::new();
    for batch in frame.collect().await? {
        for number in batch.column(0).as_primitive::<Int64Type>().values() {
            let seq = Seq::from_i64(*number).map_err(|error| Error::BrokenDelta {
                table: view.table().clone(),
                seq: 0,
                reason: error.to_string(),
            })?;
            seqs.push(seq);
        }
    }
    Ok(seqs)
}

/// The first deltas of the flushed logs of one gateway, as many as some bytes hold.
///
/// **Invariant:** no delta of a table that was read is missing up to [`LogPage::to`]; beyond the bytes it holds one
/// delta.
#[derive(Debug)]
pub struct LogPage {
    deltas: BTreeMap<Seq, Arc<SeqDelta>>,
    bytes: usize,
    bytes_max: usize,
    to: Seq,
}

impl LogPage {
    /// A page up to `to`, or up to the delta with which it has `bytes_max` bytes.
    #[must_use]
    pub fn new(to: Seq, bytes_max: usize) -> Self {
        Self {
            deltas: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            to,
        }
    }

    /// The seq that the page ends at.
    #[must_use]
    pub fn to(&self) -> Seq {
        self.to
    }

    /// Its deltas, ascending by seq.
    pub fn deltas(self) -> impl Iterator<Item = Arc<SeqDelta>> {
        self.deltas.into_values()
    }

    /// Adds the flushed deltas of `view` above `from`.
    ///
    /// # Errors
    /// As [`read_log`].
    pub async fn read(&mut self, view: &ReadView, from: Seq) -> Result<()> {
        let ctx = paged_session(&view.warehouse);
        let frame = log_between(&ctx, view, (from, self.to)).await?;
        let mut batches = frame.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            for row in (0..batch.num_rows()).step_by(DECODED_ROWS) {
                let rows = batch.slice(row, DECODED_ROWS.min(batch.num_rows() - row));
                let deltas = log_rows::deltas(&view.schema, &rows)?;
                deltas.into_iter().for_each(|delta| self.add(delta));
            }
        }
        Ok(())
    }

    fn add(&mut self, delta: SeqDelta) {
        if delta.seq > self.to {
            return;
        }
        self.bytes += delta.delta.bytes();
        self.deltas.insert(delta.seq, Arc::new(delta));
        while let Some(last) = self.deltas.last_entry() {
            let before = self.bytes - last.get().delta.bytes();
            if before < self.bytes_max {
                break;
            }
            // The page is full without it, and whatever lies between is beyond it too.
            self.bytes = before;
            last.remove();
            self.to = self.deltas.keys().next_back().copied().unwrap_or(self.to);
        }
    }
}

/// Every flushed delta of these rows, ascending by seq.
///
/// # Errors
/// As [`read_log`].
pub async fn known_deltas(view: &ReadView, rows: &BTreeSet<RowId>) -> Result<Vec<Arc<SeqDelta>>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ctx = session(&view.warehouse);
    let frame = log_frame(&ctx, &view.warehouse, &view.log).await?;
    read_deltas(only_rows(&ctx, frame, rows.iter())?, &view.schema).await
}

/// The evidence about `rows`: their flushed deltas at or below the base seq, not older than `oldest`.
pub(crate) async fn evidence(
    ctx: &SessionContext,
    view: &ReadView,
    rows: &BTreeSet<RowId>,
    oldest: Hlc,
) -> Result<Vec<Arc<SeqDelta>>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    read_deltas(evidence_frame(ctx, view, rows, oldest).await?, &view.schema).await
}

/// The clocks of the evidence about `rows`, folded by row: a fold needs no value of it.
pub(crate) async fn evidence_clocks(
    ctx: &SessionContext,
    view: &ReadView,
    rows: &BTreeSet<RowId>,
    oldest: Hlc,
) -> Result<BTreeMap<RowId, RowState>> {
    let mut known: BTreeMap<RowId, RowState> = BTreeMap::new();
    if rows.is_empty() {
        return Ok(known);
    }
    let frame = evidence_frame(ctx, view, rows, oldest).await?;
    let mut batches = frame.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        for mut delta in log_rows::deltas(&view.schema, &batch)? {
            let changes = delta.delta.columns.iter_mut();
            changes.for_each(|change| change.value = Value::Null);
            let row_id = delta.delta.row_id.clone();
            known.entry(row_id).or_default().apply(&delta.delta);
        }
    }
    Ok(known)
}

async fn evidence_frame(
    ctx: &SessionContext,
    view: &ReadView,
    rows: &BTreeSet<RowId>,
    oldest: Hlc,
) -> Result<DataFrame> {
    let frame = log_frame(ctx, &view.warehouse, &view.log).await?;
    let frame = frame.filter(
        col(columns::SEQ)
            .lt_eq(lit(view.base.base_seq.as_i64()))
            .and(col(columns::HLC).gt_eq(lit(oldest.as_i64()))),
    )?;
    only_rows(ctx, frame, rows.iter())
}

/// The deltas of a frame over log rows, ascending by seq.
///
/// # Errors
/// When the plan fails or a row is no delta.
pub(crate) async fn read_deltas(
    frame: DataFrame,
    schema: &TableSchema,
) -> Result<Vec<Arc<SeqDelta>>> {
    let mut found = Vec::new();
    for batch in frame.collect().await? {
        found.extend(log_rows::deltas(schema, &batch)?.into_iter().map(Arc::new));
    }
    found.sort_by_key(|delta| delta.seq);
    Ok(found)
}

async fn log_frame(
    ctx: &SessionContext,
    warehouse: &Warehouse,
    log: &LogSnapshot,
) -> Result<DataFrame> {
    let rows = log.scan(warehouse).await?;
    Ok(ctx.read_table(Arc::new(rows))?)
}

async fn log_between(
    ctx: &SessionContext,
    view: &ReadView,
    (from, to): (Seq, Seq),
) -> Result<DataFrame> {
    let frame = log_frame(ctx, &view.warehouse, &view.log).await?;
    Ok(frame.filter(between(from, to))?)
}

fn between(from: Seq, to: Seq) -> Expr {
    let seq = || col(columns::SEQ);
    let above = seq().gt(lit(from.as_i64()));
    above.and(seq().lt_eq(lit(to.as_i64())))
}
