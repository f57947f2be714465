//! `CALL system.…`: maintenance as SQL.
//!
//! | procedure | does | answers |
//! |---|---|---|
//! | `system.flush(['t'])` | hot deltas → log | a row a table: deltas, files, bytes, max seq, snapshot |
//! | `system.compact('t')` | log → base | one row: seqs, rows, files |
//!
//! A table is `t` in the statement's gateway or `g.t`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_compactor::{CompactReport, CompactionConfig, compact};
use lakesync_gateway::{FlushReport, Gateway};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::syntax::Call;

/// Runs a procedure of a statement for `gateway`.
pub(crate) async fn call(
    ctx: &SessionContext,
    lake: &Lake,
    call: &Call,
    gateway: &Arc<Gateway>,
) -> Result<DataFrame> {
    let batch = match known(call)? {
        Procedure::Flush => {
            let reports = match table_argument(call)? {
                Some(name) => {
                    let (gateway, table) = find(lake, call, (gateway, name))?;
                    gateway.flush(Some(&table)).await?
                }
                None => gateway.flush(None).await?,
            };
            flushed(&reports)?
        }
        Procedure::Compact => {
            let name = table_argument(call)?
                .ok_or_else(|| wrong(call, "give the table: call system.compact('t')"))?;
            let (gateway, table) = find(lake, call, (gateway, name))?;
            let work = |gateway: Arc<Gateway>| async move {
                let fence = gateway.fence();
                let done = compact(
                    gateway.live(),
                    &table,
                    Some(&fence),
                    &CompactionConfig::default(),
                )
                .await;
                if done
                    .as_ref()
                    .is_err_and(lakesync_compactor::Error::is_fenced)
                {
                    gateway.yield_to_successor().await;
                }
                Ok::<_, Error>(done?)
            };
            compacted(&gateway.maintain(work).await?)?
        }
    };
    Ok(ctx.read_batch(batch)?)
}

/// The plan of a procedure that is one.
pub(crate) async fn explain(
    ctx: &SessionContext,
    lake: &Lake,
    call: &Call,
    gateway: &Arc<Gateway>,
) -> Result<DataFrame> {
    if known(call)? != Procedure::Compact {
        return Err(wrong(call, "only system.compact has a plan to explain"));
    }
    let name = table_argument(call)?
        .ok_or_else(|| wrong(call, "give the table: explain call system.compact('t')"))?;
    let (gateway, table) = find(lake, call, (gateway, name))?;
    let shown =
        lakesync_compactor::explain(gateway.live(), &table, &CompactionConfig::default()).await?;
    let (kinds, plans): (Vec<String>, Vec<String>) = shown.into_iter().unzip();
    let batch = RecordBatch::try_from_iter([
        ("plan_type", Arc::new(StringArray::from(kinds)) as ArrayRef),
        ("plan", Arc::new(StringArray::from(plans))),
    ]);
    Ok(ctx.read_batch(batch.map_err(arrow_error)?)?)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Procedure {
    Flush,
    Compact,
}

fn known(call: &Call) -> Result<Procedure> {
    match (call.schema.as_str(), call.procedure.as_str()) {
        ("system", "flush") => Ok(Procedure::Flush),
        ("system", "compact") => Ok(Procedure::Compact),
        _ => Err(wrong(
            call,
            "there is no such procedure; there are system.flush(['t']) and system.compact('t')",
        )),
    }
}

/// The one argument that these procedures take: a table name, by place or as `table =>`.
fn table_argument(call: &Call) -> Result<Option<&str>> {
    Ok(call.bind(&["table"])?.string("table")?)
}

/// The gateway and table that `[g.]t` names for a statement of a gateway; an unknown table is an error
/// here, not an empty answer.
fn find<'a>(
    lake: &'a Lake,
    call: &Call,
    (gateway, name): (&'a Arc<Gateway>, &str),
) -> Result<(&'a Arc<Gateway>, String)> {
    let (gateway, table) = match name.split_once('.') {
        Some((gateway, table)) => (lake.gateway(gateway)?, table),
        None => (gateway, name),
    };
    match gateway.live().view(table) {
        Some(_) => Ok((gateway, table.to_owned())),
        None => Err(wrong(
            call,
            &format!(
                "table `{table}` does not exist in `{}`; `show tables` lists those that do",
                gateway.id()
            ),
        )),
    }
}

fn wrong(call: &Call, reason: &str) -> Error {
    Error::Call {
        procedure: format!("{}.{}", call.schema, call.procedure),
        reason: reason.to_owned(),
    }
}

fn flushed(reports: &[FlushReport]) -> Result<RecordBatch> {
    let longs = |of: &dyn Fn(&FlushReport) -> Option<i64>| -> ArrayRef {
        Arc::new(reports.iter().map(of).collect::<Int64Array>())
    };
    let tables = StringArray::from_iter_values(reports.iter().map(|report| &report.table));
    let batch = RecordBatch::try_from_iter([
        ("table", Arc::new(tables) as ArrayRef),
        ("deltas", longs(&|report| i64::try_from(report.deltas).ok())),
        ("files", longs(&|report| i64::try_from(report.files).ok())),
        ("bytes", longs(&|report| i64::try_from(report.bytes).ok())),
        ("max_seq", longs(&|report| Some(report.max_seq.as_i64()))),
        ("snapshot_id", longs(&|report| report.snapshot_id)),
    ]);
    batch.map_err(arrow_error)
}

fn compacted(report: &CompactReport) -> Result<RecordBatch> {
    let long = |number: Option<i64>| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
    let table = StringArray::from_iter_values([&report.table]);
    let batch = RecordBatch::try_from_iter([
        ("table", Arc::new(table) as ArrayRef),
        ("from_seq", long(Some(report.from_seq.as_i64()))),
        ("base_seq", long(Some(report.base_seq.as_i64()))),
        ("rows", long(i64::try_from(report.rows).ok())),
        (
            "files_removed",
            long(i64::try_from(report.files_removed).ok()),
        ),
        ("files_added", long(i64::try_from(report.files_added).ok())),
        ("bytes_added", long(i64::try_from(report.bytes_added).ok())),
    ]);
    batch.map_err(arrow_error)
}

fn arrow_error(error: arrow::error::ArrowError) -> Error {
    datafusion::error::DataFusionError::from(error).into()
}
