//! The flushed deltas between coordinates: only the files whose manifest bounds meet them are read.
//!
//! **Invariant:** no delta that lies between is left out; files whose bounds are not known are read.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::functions_aggregate::expr_fn::{count, min};
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use iceberg::spec::PrimitiveLiteral;
use iceberg::table::Table;
use lakesync_proto::{Hlc, Seq, columns};

use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::lake::DataFileInfo;
use crate::log_rows;
use crate::view::{HotPush, ReadView};

/// What lies between two seqs of a log and was stamped up to an HLC.
pub(crate) struct LogPart<'a> {
    view: &'a ReadView,
    files: Arc<[DataFileInfo]>,
    within: Expr,
    /// How many deltas it has at most.
    pub(crate) deltas_max: u64,
}

impl<'a> LogPart<'a> {
    /// The flushed deltas of `view` with `from < seq <= to`, and with `hlc <= latest` when there is one.
    ///
    /// # Errors
    /// When the log's manifests cannot be read.
    pub(crate) async fn open(
        view: &'a ReadView,
        (from, to): (Seq, Seq),
        latest: Option<Hlc>,
    ) -> Result<Self> {
        let log = &view.log;
        let rows = log.scan(&view.warehouse).await?;
        let seqs = Bounds::of(&log.table, columns::SEQ);
        let hlcs = Bounds::of(&log.table, columns::HLC);
        let meets = |file: &&DataFileInfo| {
            let below = seqs.greatest(file).is_some_and(|seq| seq <= from.as_i64());
            let above = seqs.least(file).is_some_and(|seq| seq > to.as_i64());
            let later = latest
                .is_some_and(|latest| hlcs.least(file).is_some_and(|hlc| hlc > latest.as_i64()));
            !(below || above || later)
        };
        let files: Vec<DataFileInfo> = rows.files().iter().filter(meets).cloned().collect();
        let mut within = col(columns::SEQ).gt(lit(from.as_i64()));
        within = within.and(col(columns::SEQ).lt_eq(lit(to.as_i64())));
        if let Some(latest) = latest {
            within = within.and(col(columns::HLC).lt_eq(lit(latest.as_i64())));
        }
        Ok(Self {
            view,
            deltas_max: files.iter().map(|file| file.rows).sum(),
            files: files.into(),
            within,
        })
    }

    /// How many deltas it has.
    ///
    /// # Errors
    /// When files cannot be read.
    pub(crate) async fn count(&self, ctx: &SessionContext) -> Result<u64> {
        let counted = self.frame(ctx)?.aggregate(vec![], vec![count(lit(1))])?;
        let number = first_number(counted).await?;
        Ok(number
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(0))
    }

    /// Its deltas, ascending by seq, as if they had come in one push: the last of them.
    ///
    /// # Errors
    /// When files cannot be read or hold something that is no delta.
    pub(crate) async fn read(&self, ctx: &SessionContext) -> Result<HotPush> {
        let mut push = HotPush {
            arrived_ms: 0,
            deltas: Vec::new(),
        };
        if self.files.is_empty() {
            return Ok(push);
        }
        for batch in self.frame(ctx)?.collect().await? {
            let deltas = log_rows::deltas(&self.view.schema, &batch)?;
            push.deltas.extend(deltas.into_iter().map(Arc::new));
            if let Some(arrived) = batch.column_by_name(columns::ARRIVED_AT) {
                let micros = arrived.as_primitive::<TimestampMicrosecondType>();
                let last = arrow::compute::max(micros).unwrap_or(0);
                let last_ms = u64::try_from(last / 1000).unwrap_or(0);
                push.arrived_ms = push.arrived_ms.max(last_ms);
            }
        }
        push.deltas.sort_by_key(|delta| delta.seq);
        Ok(push)
    }

    /// Its rows.
    ///
    /// # Errors
    /// When the log's schema has no Arrow form.
    pub(crate) fn frame(&self, ctx: &SessionContext) -> Result<DataFrame> {
        let rows = open(self.view, Arc::clone(&self.files))?;
        Ok(ctx
            .read_table(Arc::new(rows))?
            .filter(self.within.clone())?)
    }
}

/// The first delta of `view` that arrived after `micros` since 1970; none when all that it holds had arrived.
///
/// Of files the bounds tell most: only those in which the moment lies are read.
///
/// # Errors
/// When the log cannot be read.
pub(crate) async fn first_after(
    ctx: &SessionContext,
    view: &ReadView,
    micros: i64,
) -> Result<Option<Seq>> {
    let log = &view.log;
    let arrivals = Bounds::of(&log.table, columns::ARRIVED_AT);
    let seqs = Bounds::of(&log.table, columns::SEQ);
    let mut first: Option<i64> = None;
    let mut undecided = Vec::new();
    for file in log.scan(&view.warehouse).await?.files() {
        match (
            arrivals.least(file),
            arrivals.greatest(file),
            seqs.least(file),
        ) {
            (_, Some(greatest), _) if greatest <= micros => {}
            (Some(least), _, Some(seq)) if least > micros => {
                first = Some(first.map_or(seq, |first| first.min(seq)));
            }
            _ => undecided.push(file.clone()),
        }
    }
    if !undecided.is_empty() {
        let rows = open(view, undecided.into())?;
        let utc = Some("+00:00".into());
        let moment = lit(datafusion::common::ScalarValue::TimestampMicrosecond(
            Some(micros),
            utc,
        ));
        let later = ctx.read_table(Arc::new(rows))?;
        let later = later.filter(col(columns::ARRIVED_AT).gt(moment))?;
        let found = first_number(later.aggregate(vec![], vec![min(col(columns::SEQ))])?).await?;
        first = first.into_iter().chain(found).min();
    }
    let unflushed = view.arrivals(log.max_seq).find(|(_, arrived_ms)| {
        i64::try_from(arrived_ms.saturating_mul(1000)).unwrap_or(i64::MAX) > micros
    });
    let unflushed = unflushed.map(|(delta, _)| delta.seq);
    let flushed = first.map(Seq::from_i64).transpose();
    let flushed = flushed.map_err(|error| Error::BrokenDelta {
        table: view.table().clone(),
        seq: 0,
        reason: error.to_string(),
    })?;
    Ok(flushed.into_iter().chain(unflushed).min())
}

fn open(view: &ReadView, files: Arc<[DataFileInfo]>) -> Result<ParquetTable> {
    let rows = ParquetTable::open(&view.warehouse, &view.log.table, files)?;
    Ok(rows.pinned(view.log.pin()))
}

async fn first_number(frame: DataFrame) -> Result<Option<i64>> {
    let batches = frame.collect().await?;
    let rows = batches.iter().filter(|batch| batch.num_rows() > 0);
    let mut cells = rows.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter());
    Ok(cells.next().flatten())
}

/// What manifests say of one column of 64 bits.
struct Bounds {
    field: Option<i32>,
}

impl Bounds {
    fn of(table: &Table, column: &str) -> Self {
        let schema = table.metadata().current_schema();
        Self {
            field: schema.field_id_by_name(column),
        }
    }

    fn least(&self, file: &DataFileInfo) -> Option<i64> {
        long(file.lower_bounds.get(&self.field?)?.literal())
    }

    fn greatest(&self, file: &DataFileInfo) -> Option<i64> {
        long(file.upper_bounds.get(&self.field?)?.literal())
    }
}

fn long(bound: &PrimitiveLiteral) -> Option<i64> {
    match bound {
        PrimitiveLiteral::Long(value) => Some(*value),
        _ => None,
    }
}
