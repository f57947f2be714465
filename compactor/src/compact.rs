//! ★ Compaction: fold the flushed log into the base, one rewrite commit.
//!
//! Steps: pin a view on the catalog's newest base (another program may have rewritten its files) → nothing
//! above the base seq? done → plan the fold → write the new base files → commit (remove the old files, add
//! the new, move the base seq) → publish the view.
//!
//! **Crash windows.** After writing, before the commit: new files are orphans, the table reads as before.
//! After the commit, before publishing: the next open reads the new base seq from the summary.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::prelude::{DataFrame, SessionContext, col, lit};
use lakesync_providers::lake::{
    Commit, Fence, LakeError, WriteOptions, live_files, sort_order_id, summary, write_data_stream,
};
use lakesync_providers::proto::{Hlc, Seq, TableName, columns};
use lakesync_providers::{BaseSnapshot, Live, Part, ReadView, fold_sql, session};

use crate::config::CompactionConfig;
use crate::error::{Error, Result};
use crate::order::in_write_order;

/// What one folded cell takes: its stamps, its value, and their places in the aggregates' tables.
const CELL_BYTES: u64 = 400;

/// What one compaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactReport {
    /// The table.
    pub table: TableName,
    /// The base seq before.
    pub from_seq: Seq,
    /// The base seq now; equal to `from_seq` when there was nothing to fold.
    pub base_seq: Seq,
    /// The rows of the new base files.
    pub rows: u64,
    /// How many base files were replaced.
    pub files_removed: usize,
    /// How many were written.
    pub files_added: usize,
    /// The size of the written files, in bytes.
    pub bytes_added: u64,
}

/// Folds everything that `table` has flushed into its base.
///
/// # Errors
/// Unknown table, a base that another program changed, a failed plan or write, or a lost commit; the table is
/// then as it was.
///
/// # Cancel safety
/// Run it where it is not dropped: a commit whose publication was cut off is found only by the next one.
pub async fn compact(
    live: &Live,
    table: &str,
    fence: Option<&Fence>,
    config: &CompactionConfig,
) -> Result<CompactReport> {
    let view = newest_view(live, table).await?;
    let from_seq = view.base.base_seq;
    let base_seq = view.log.max_seq;
    let mut report = CompactReport {
        table: view.table().clone(),
        from_seq,
        base_seq: from_seq,
        rows: 0,
        files_removed: 0,
        files_added: 0,
        bytes_added: 0,
    };
    if base_seq <= from_seq {
        return Ok(report);
    }
    let ctx = tables(&view).await?;
    let candidates = candidates(&ctx, &view).await?;
    let max_hlc = candidates.max_hlc.max(view.base.max_hlc);
    let base = &view.base;
    let rows = folded(&ctx, &view, candidates.parts(&view, config)).await?;
    let rows = rows.execute_stream().await?;
    let order = sort_order_id(&base.table, &view.schema);
    let options = WriteOptions::new("base").with_write_order(order);
    let new = write_data_stream(&base.table, rows, &options).await?;

    report.base_seq = base_seq;
    report.files_added = new.len();
    report.rows = new.iter().map(|file| file.record_count()).sum();
    report.bytes_added = new.iter().map(|file| file.file_size_in_bytes()).sum();
    let commit = match base.snapshot_id {
        Some(snapshot) => {
            let old = live_files(&base.table, Some(snapshot)).await?;
            report.files_removed = old.len();
            let old = old.into_iter().map(|file| file.path);
            Commit::overwrite(snapshot, old, new)
                .expecting(summary::BASE_SEQ, Some(from_seq.to_string()))
        }
        None => Commit::append(new).expecting(summary::BASE_SEQ, None),
    };
    let mut commit = commit
        .with_property(summary::BASE_SEQ, base_seq)
        .with_property(summary::MAX_HLC, max_hlc);
    if let Some(fence) = fence {
        commit = commit.with_fence(fence);
    }
    let ident = base.table.identifier();
    let committed = match commit.run(live.warehouse(), ident).await {
        Ok(committed) => committed,
        Err(error) => {
            // Whatever is in the catalog is what the next attempt starts from.
            newest_view(live, table).await?;
            return Err(error.into());
        }
    };
    live.compacted(view.table(), committed)?;
    Ok(report)
}

/// The fold of `table` as it would run now: its SQL, and its plans as DataFusion explains them.
///
/// # Errors
/// Unknown table, or a plan that cannot be made.
pub async fn explain(
    live: &Live,
    table: &str,
    config: &CompactionConfig,
) -> Result<Vec<(String, String)>> {
    let view = view_of(live, table)?;
    let ctx = tables(&view).await?;
    let of = candidates(&ctx, &view).await?.parts(&view, config);
    let sql = fold_sql(&view.schema, view.base.base_seq, Part { index: 0, of });
    let frame = in_write_order(&ctx, &view.schema, vec![ctx.sql(&sql).await?])?;
    let mut shown = vec![
        ("parts".to_owned(), of.to_string()),
        ("sql".to_owned(), sql),
    ];
    let (state, logical) = frame.into_parts();
    let logical = state.optimize(&logical)?;
    shown.push((
        "logical_plan".to_owned(),
        logical.display_indent().to_string(),
    ));
    let physical = state.create_physical_plan(&logical).await?;
    let display = datafusion::physical_plan::displayable(physical.as_ref());
    shown.push((
        "physical_plan".to_owned(),
        display.indent(false).to_string(),
    ));
    Ok(shown)
}

fn view_of(live: &Live, table: &str) -> Result<Arc<ReadView>> {
    live.view(table).ok_or_else(|| Error::UnknownTable {
        gateway: live.gateway().to_string(),
        table: table.to_owned(),
    })
}

/// The view of `table` on the base that the catalog has now; the old one stays published when that cannot be read.
async fn newest_view(live: &Live, table: &str) -> Result<Arc<ReadView>> {
    let view = view_of(live, table)?;
    let pair = live.warehouse().load(live.gateway(), view.table()).await?;
    let base = BaseSnapshot::current(pair.base)?;
    if let Some(foreign) = base.foreign {
        return Err(LakeError::from(foreign).into());
    }
    if base.base_seq < view.base.base_seq {
        return Err(Error::RolledBack {
            table: view.table().clone(),
            from: view.base.base_seq,
            to: base.base_seq,
        });
    }
    if base.snapshot_id != view.base.snapshot_id {
        live.compacted(view.table(), base.table)?;
    }
    view_of(live, table)
}

/// A session with the view's `base` and `log` as tables, and nothing else.
async fn tables(view: &ReadView) -> Result<SessionContext> {
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await?;
    let log = view.log.scan(&view.warehouse).await?;
    let schema = Arc::new(datafusion::catalog::MemorySchemaProvider::new());
    let catalog = Arc::new(datafusion::catalog::MemoryCatalogProvider::new());
    datafusion::catalog::CatalogProvider::register_schema(catalog.as_ref(), "public", schema)?;
    ctx.register_catalog("lake", catalog);
    ctx.register_table("base", Arc::new(base))?;
    ctx.register_table("log", Arc::new(log))?;
    Ok(ctx)
}

/// The folded rows, as they are to be written.
async fn folded(ctx: &SessionContext, view: &ReadView, of: u64) -> Result<DataFrame> {
    let mut frames = Vec::new();
    for index in 0..of {
        let sql = fold_sql(&view.schema, view.base.base_seq, Part { index, of });
        frames.push(ctx.sql(&sql).await?);
    }
    Ok(in_write_order(ctx, &view.schema, frames)?)
}

/// What is above the base seq.
struct Candidates {
    count: u64,
    max_hlc: Hlc,
}

impl Candidates {
    /// Into how many parts the fold is cut, so that the aggregates of one stay within their bytes.
    fn parts(&self, view: &ReadView, config: &CompactionConfig) -> u64 {
        let columns = u64::try_from(view.schema.columns.len()).unwrap_or(u64::MAX);
        let bytes = self
            .count
            .saturating_mul(columns + 1)
            .saturating_mul(CELL_BYTES);
        bytes.div_ceil(config.memory_bytes.max(1)).max(1)
    }
}

async fn candidates(ctx: &SessionContext, view: &ReadView) -> Result<Candidates> {
    let above = col(columns::SEQ).gt(lit(view.base.base_seq.as_i64()));
    let counted = ctx
        .table("log")
        .await?
        .filter(above)?
        .aggregate(vec![], vec![count(lit(1)), max(col(columns::HLC))])?
        .collect()
        .await?;
    let number = |column: usize| {
        let rows = counted.iter().filter(|batch| batch.num_rows() > 0);
        let mut cells =
            rows.flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().iter());
        cells.next().flatten().unwrap_or(0)
    };
    Ok(Candidates {
        count: u64::try_from(number(0)).unwrap_or(0),
        max_hlc: Hlc::from_i64(number(1)).unwrap_or(Hlc::ZERO),
    })
}
