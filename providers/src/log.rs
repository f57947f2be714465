//! The log: `t$deltas` in SQL, and deltas read back from the flushed log.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_proto::{Hlc, RowId, Seq, SeqDelta, TableSchema, columns};

use crate::error::Result;
use crate::lake::{Warehouse, arrow_schema};
use crate::log_rows;
use crate::resolve::only_rows;
use crate::session::session;
use crate::union::in_memory;
use crate::view::{LogSnapshot, ReadView};

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
    let frame = frame.filter(
        col(columns::SEQ)
            .gt(lit(from.as_i64()))
            .and(col(columns::SEQ).lt_eq(lit(to.as_i64()))),
    )?;
    read_deltas(frame, schema).await
}

/// The first `limit` flushed deltas of a view with `from < seq <= to`, ascending by seq.
///
/// # Errors
/// As [`read_log`].
pub async fn read_log_page(
    view: &ReadView,
    (from, to): (Seq, Seq),
    limit: usize,
) -> Result<Vec<Arc<SeqDelta>>> {
    let ctx = session(&view.warehouse);
    let seq = || col(columns::SEQ);
    let frame = log_frame(&ctx, &view.warehouse, &view.log)
        .await?
        .filter(
            seq()
                .gt(lit(from.as_i64()))
                .and(seq().lt_eq(lit(to.as_i64()))),
        )?
        .sort(vec![seq().sort(true, false)])?
        .limit(0, Some(limit))?;
    read_deltas(frame, &view.schema).await
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
    let frame = log_frame(ctx, &view.warehouse, &view.log).await?;
    let frame = frame.filter(
        col(columns::SEQ)
            .lt_eq(lit(view.base.base_seq.as_i64()))
            .and(col(columns::HLC).gt_eq(lit(oldest.as_i64()))),
    )?;
    read_deltas(only_rows(ctx, frame, rows.iter())?, &view.schema).await
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
