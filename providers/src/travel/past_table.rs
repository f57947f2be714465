//! ★ A table as of a past moment.
//!
//! **Invariant:** it is never written, and never today's rows: what cannot be read as of that moment is an error.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as QueryResult;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, cast,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use lakesync_proto::limits::DRIFT_MS;
use tokio::sync::OnceCell;

use super::Cut;
use super::cut::{below_horizon, cut, future};
use super::fold_plan::FoldPlan;
use super::limits::TravelLimits;
use super::parts::PartsExec;
use super::past::{Past, past};
use super::pinned::{AsOf, Pinned};
use crate::error::{Error, Result};
use crate::lake::arrow_schema;
use crate::live::Views;
use crate::text_views::with_text_views;
use crate::union::UnionTable;
use crate::view::ReadView;

/// One table as of one moment.
pub struct PastTable {
    views: Views,
    now: Arc<ReadView>,
    as_of: AsOf,
    schema: SchemaRef,
    limits: TravelLimits,
    cut: OnceCell<Cut>,
    past: OnceCell<Past>,
}

impl PastTable {
    /// The table that `pinned` names, in the gateway whose `views` these are.
    ///
    /// # Errors
    /// [`Error::UnknownTable`].
    pub fn new(views: &Views, pinned: Pinned) -> Result<Self> {
        let now = views.tables.get(pinned.table.as_str());
        let now = now.ok_or_else(|| Error::UnknownTable {
            gateway: views.gateway.to_string(),
            table: pinned.table.clone(),
        })?;
        Ok(Self {
            schema: with_text_views(&arrow_schema(&now.base.table)?),
            now: Arc::clone(now),
            views: views.clone(),
            as_of: pinned.as_of,
            limits: TravelLimits::default(),
            cut: OnceCell::new(),
            past: OnceCell::new(),
        })
    }

    /// With other limits on what it holds in memory.
    #[must_use]
    pub fn with_limits(mut self, limits: TravelLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Finds out whether the moment can be read, without reading it.
    ///
    /// # Errors
    /// [`Error::UnknownSnapshot`], [`Error::UnknownRef`], [`Error::AmbiguousRef`], [`Error::NotYet`] for a seq,
    /// [`Error::BelowHorizon`] for an arrival; the lake's when the log cannot be read.
    pub async fn check(&self) -> Result<()> {
        self.cut().await.map(|_| ())
    }

    async fn cut(&self) -> Result<Cut> {
        let cut = || cut(&self.views, &self.now, &self.as_of);
        self.cut.get_or_try_init(cut).await.copied()
    }

    async fn past(&self) -> Result<&Past> {
        let made = async || {
            let cut = self.cut().await?;
            match past(&self.now, cut, self.limits).await? {
                Some(past) => Ok(past),
                None => Err(below_horizon(&self.now, &self.as_of)?),
            }
        };
        self.past.get_or_try_init(made).await
    }

    /// Clocks differ, so a moment may lie as far ahead of ours as a stamp may; what lies further is not yet known.
    fn refuse_future(&self, state: &dyn Session) -> Result<()> {
        let now = state.execution_props().query_execution_start_time;
        let now_ms = now.and_then(|now| u64::try_from(now.timestamp_millis()).ok());
        let ahead = now_ms.and_then(|now_ms| future(&self.as_of, now_ms, DRIFT_MS));
        match (ahead, now) {
            (Some(asked), Some(now)) => Err(Error::NotYet {
                table: self.now.table().clone(),
                asked,
                reached: format!("it is {}", now.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for PastTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastTable")
            .field("table", self.now.table())
            .field("as_of", &self.as_of)
            .finish_non_exhaustive()
    }
}

/// What a scan is asked for.
struct Wanted<'a> {
    projection: Option<&'a Vec<usize>>,
    filters: &'a [Expr],
    limit: Option<usize>,
}

impl Wanted<'_> {
    /// The plan of just that; its columns are looked up by name.
    fn of(&self, plan: LogicalPlan, schema: &SchemaRef) -> QueryResult<LogicalPlan> {
        let mut plan = LogicalPlanBuilder::from(plan).alias("past")?;
        if let Some(filter) = self.filters.iter().cloned().reduce(Expr::and) {
            plan = plan.filter(filter)?;
        }
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let columns = self.projection.unwrap_or(&all).iter();
        let columns = columns.map(|&column| {
            let field = schema.field(column);
            let named = datafusion::common::Column::new(Some("past"), field.name());
            cast(Expr::Column(named), field.data_type().clone()).alias(field.name())
        });
        plan = plan.project(columns)?;
        plan.limit(0, self.limit)?.build()
    }
}

async fn folded(
    fold: &FoldPlan,
    state: &dyn Session,
    schema: &SchemaRef,
    wanted: Wanted<'_>,
) -> QueryResult<Arc<dyn ExecutionPlan>> {
    let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    for plan in fold.plans().await? {
        let plan = state
            .create_physical_plan(&wanted.of(plan, schema)?)
            .await?;
        parts.push(Arc::new(CoalescePartitionsExec::new(plan)));
    }
    let schema = match wanted.projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => Arc::clone(schema),
    };
    Ok(Arc::new(PartsExec::new(parts, schema, fold.label().into())))
}

#[async_trait]
impl TableProvider for PastTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        self.refuse_future(state)?;
        match self.past().await? {
            Past::Overlay(overlay) => {
                let table = UnionTable::new(Arc::clone(&overlay.view), None)?.of_the_past();
                table.scan(state, projection, filters, limit).await
            }
            Past::Folded(fold) => {
                let wanted = Wanted {
                    projection,
                    filters,
                    limit,
                };
                folded(fold, state, &self.schema, wanted).await
            }
        }
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Err(Error::ReadOnly {
            table: self.now.table().to_string(),
        }
        .into())
    }
}
