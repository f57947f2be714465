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
use lakesync_compactor::{CompactReport, CompactionConfig};
use lakesync_gateway::auth::Identity;
use lakesync_gateway::{FlushReport, Gateway};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::maintenance::compact_table;
use crate::syntax::Call;

/// What a procedure's table name is looked up in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    lake: &'a Lake,
    identity: &'a Identity,
    /// Where a name without a gateway is.
    gateway: &'a Arc<Gateway>,
}

impl<'a> Target<'a> {
    pub(crate) fn new(lake: &'a Lake, identity: &'a Identity, gateway: &'a Arc<Gateway>) -> Self {
        Self {
            lake,
            identity,
            gateway,
        }
    }

    /// The gateway and table that `[g.]t` names; an unknown table is an error here, not an empty answer.
    fn find(self, call: &Call, name: &str) -> Result<(Arc<Gateway>, String)> {
        let (gateway, table) = match name.split_once('.') {
            Some((gateway, table)) => (self.lake.gateway_for(gateway, self.identity)?, table),
            None => (Arc::clone(self.gateway), name),
        };
        match gateway.live().view(table) {
            Some(_) => Ok((gateway, table.to_owned())),
            None => {
                let text = format!(
                    "table `{table}` does not exist in `{}`; `show tables` lists those that do",
                    gateway.id()
                );
                Err(wrong(call, &text))
            }
        }
    }
}

/// Runs a procedure of a statement.
pub(crate) async fn call(
    ctx: &SessionContext,
    call: &Call,
    target: Target<'_>,
) -> Result<DataFrame> {
    let batch = match known(call)? {
        Procedure::Flush => {
            let reports = match table_argument(call)? {
                Some(name) => {
                    let (gateway, table) = target.find(call, name)?;
                    gateway.flush(Some(&table)).await?
                }
                None => target.gateway.flush(None).await?,
            };
            flushed(&reports)?
        }
        Procedure::Compact => {
            let name = table_argument(call)?
                .ok_or_else(|| wrong(call, "give the table: call system.compact('t')"))?;
            let (gateway, table) = target.find(call, name)?;
            compacted(&compact_table(&gateway, &table, CompactionConfig::default()).await?)?
        }
    };
    Ok(ctx.read_batch(batch)?)
}

/// The plan of a procedure that is one.
pub(crate) async fn explain(
    ctx: &SessionContext,
    call: &Call,
    target: Target<'_>,
) -> Result<DataFrame> {
    if known(call)? != Procedure::Compact {
        return Err(wrong(call, "only system.compact has a plan to explain"));
    }
    let name = table_argument(call)?
        .ok_or_else(|| wrong(call, "give the table: explain call system.compact('t')"))?;
    let (gateway, table) = target.find(call, name)?;
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
