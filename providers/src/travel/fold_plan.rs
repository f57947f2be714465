//! A past state with many deltas: one query with `lww`, over the base and the log as they were.
//!
//! **Invariant:** its operators hold what fits into the memory of the process's plans and go on in files; so its cost grows
//! with the base and the deltas, its memory does not.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider as _, MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use lakesync_proto::{Seq, SeqDelta};

use super::Cut;
use super::limits::TravelLimits;
use super::log_part::LogPart;
use crate::error::Result;
use crate::fold::{Part, fold_sql};
use crate::lake::arrow_schema;
use crate::log_rows::log_batches;
use crate::session::session;
use crate::union::in_memory;
use crate::view::{BaseSnapshot, ReadView};

/// What one folded cell takes, in bytes: its stamps, its value, and their places in the aggregates' tables.
const CELL_BYTES: u64 = 400;

/// The fold of a past state.
#[derive(Debug)]
pub(crate) struct FoldPlan {
    now: Arc<ReadView>,
    base: Arc<BaseSnapshot>,
    cut: Cut,
    deltas: u64,
    part_bytes: u64,
}

impl FoldPlan {
    /// The state of `now`'s table at `cut`: `base` and the `deltas` above it.
    pub(super) fn new(now: &Arc<ReadView>, base: Arc<BaseSnapshot>, cut: Cut, deltas: u64) -> Self {
        Self {
            now: Arc::clone(now),
            base,
            cut,
            deltas,
            part_bytes: TravelLimits::default().part_bytes,
        }
    }

    /// With parts of so many bytes.
    pub(super) fn in_parts_of(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes.max(1);
        self
    }

    /// What `EXPLAIN` says of it.
    pub(crate) fn label(&self) -> String {
        let parts = self.parts();
        format!(
            "fold=spill, view_seq={}, base_seq={}, deltas={}, parts={parts}",
            self.cut.seq, self.base.base_seq, self.deltas
        )
    }

    /// The rows, part after part.
    ///
    /// # Errors
    /// When base or log cannot be read.
    pub(crate) async fn plans(&self) -> Result<Vec<LogicalPlan>> {
        let ctx = self.tables().await?;
        let of = self.parts();
        let mut plans = Vec::new();
        for index in 0..of {
            let sql = fold_sql(&self.now.schema, self.base.base_seq, Part { index, of });
            plans.push(ctx.sql(&sql).await?.into_unoptimized_plan());
        }
        Ok(plans)
    }

    fn parts(&self) -> u64 {
        let columns = u64::try_from(self.now.schema.columns.len()).unwrap_or(u64::MAX);
        let cells = self.deltas.saturating_mul(columns.saturating_add(1));
        cells
            .saturating_mul(CELL_BYTES)
            .div_ceil(self.part_bytes)
            .max(1)
    }

    /// A session with the tables `base` and `log`, and nothing else.
    async fn tables(&self) -> Result<SessionContext> {
        let ctx = session(&self.now.warehouse);
        let base = self.base.scan(&self.now.warehouse).await?;
        let log = ViewTable::new(self.log(&ctx).await?, None);
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalog.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
        ctx.register_catalog("lake", catalog);
        ctx.register_table("base", Arc::new(base))?;
        ctx.register_table("log", Arc::new(log))?;
        Ok(ctx)
    }

    /// Everything that the cut sees: flushed deltas, and those that are not yet.
    async fn log(&self, ctx: &SessionContext) -> Result<LogicalPlan> {
        let now = &self.now;
        let span = (Seq::ZERO, self.cut.seq);
        let flushed = LogPart::open(now, span, self.cut.hlc).await?;
        let flushed = flushed.frame(ctx)?.into_unoptimized_plan();
        let unflushed = now.arrivals(now.log.max_seq);
        let unflushed: Vec<(&SeqDelta, u64)> = unflushed
            .filter(|(delta, _)| self.cut.sees(delta))
            .map(|(delta, arrived_ms)| (&**delta, arrived_ms))
            .collect();
        if unflushed.is_empty() {
            return Ok(flushed);
        }
        let schema = arrow_schema(&now.log.table)?;
        let batches = log_batches(&now.schema, &schema, &unflushed)?;
        let hot = provider_as_source(in_memory(schema, &batches)?);
        let hot = LogicalPlanBuilder::scan("hot", hot, None)?.build()?;
        let all = LogicalPlanBuilder::from(flushed).union(hot)?;
        Ok(all.build()?)
    }
}
