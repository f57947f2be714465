//! The operator that replays deltas: one stream, a window at a time.
//!
//! **Invariant:** its rows are ascending by `_seq` (but for `cell_info`, which has none), and of a span it holds one
//! window, whatever the span.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result as QueryResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::prelude::SessionContext;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakesync_proto::{Seq, columns};

use super::conflicts::Conflicts;
use super::deltas::{Answer, Column};
use super::replay::{
    Asked, Deltas, Evidence, Facts, Gathered, Prior, ReplayLimits, RowFilter, Windows,
};
use super::table::{What, base_before};
use super::{cell_info, deltas};
use crate::error::Result;
use crate::session::session;
use crate::view::{BaseSnapshot, ReadView};

/// What is replayed.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    /// The table.
    pub(super) view: Arc<ReadView>,
    /// `from < seq <= to`.
    pub(super) span: (Seq, Seq),
    /// Its rows.
    pub(super) rows: RowFilter,
    /// What is answered.
    pub(super) what: What,
    /// Which columns of that.
    pub(super) projection: Vec<usize>,
    /// How much is held at a time.
    pub(super) limits: ReplayLimits,
}

/// Replays deltas.
#[derive(Debug)]
pub(super) struct ReplayExec {
    replay: Replay,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ReplayExec {
    /// The operator for `replay`, whose answer has `schema` before it is projected.
    ///
    /// # Errors
    /// When the projection names a column that is not there.
    pub(super) fn new(replay: Replay, schema: &SchemaRef) -> Result<Self> {
        let schema = Arc::new(schema.project(&replay.projection)?);
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        if schema.field_with_name(columns::SEQ).is_ok() {
            let by_seq = PhysicalSortExpr::new_default(col(columns::SEQ, &schema)?).nulls_last();
            equivalence.add_ordering(LexOrdering::from([by_seq]));
        }
        let properties = PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            replay,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for ReplayExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replay {
            view,
            span,
            rows,
            what,
            ..
        } = &self.replay;
        let (name, table) = (what.name(), view.table());
        write!(f, "ReplayExec: {name}, table={}.{table}", view.gateway)?;
        match what {
            What::CellInfo(..) => write!(f, ", seq={}", span.1.as_u64())?,
            _ => write!(
                f,
                ", from_seq={}, to_seq={}",
                span.0.as_u64(),
                span.1.as_u64()
            )?,
        }
        let conditions = rows.conditions.iter().map(ToString::to_string);
        match conditions.reduce(|one, other| format!("{one} AND {other}")) {
            Some(conditions) => write!(f, ", rows={conditions}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ReplayExec {
    fn name(&self) -> &'static str {
        "ReplayExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("ReplayExec is a leaf"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (replay, schema) = (self.replay.clone(), Arc::clone(&self.schema));
        let run = stream::once(async move { Run::open(replay, schema).await })
            .map_ok(|run| stream::try_unfold(run, |run| Box::pin(run.next())))
            .try_flatten()
            .map_err(Into::into)
            .inspect_ok(move |batch: &RecordBatch| metrics.record_output(batch.num_rows()));
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, run.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The columns of an answer about deltas that are asked for.
fn columns_of(replay: &Replay) -> Vec<Column> {
    let columns: &[Column] = match replay.what {
        What::Changes => &deltas::CHANGES,
        What::History => &deltas::HISTORY,
        What::Conflicts | What::CellInfo(..) => return Vec::new(),
    };
    replay.projection.iter().map(|at| columns[*at]).collect()
}

/// A session whose batches are no larger than a window: what is sorted is cut between batches.
fn session_of(replay: &Replay) -> SessionContext {
    let ctx = session(&replay.view.warehouse);
    let state = ctx.state_ref();
    let mut state = state.write();
    let execution = &mut state.config_mut().options_mut().execution;
    execution.batch_size = execution.batch_size.min(replay.limits.rows.max(1));
    drop(state);
    ctx
}

/// A replay that is under way.
struct Run {
    replay: Replay,
    schema: SchemaRef,
    windows: Windows,
    base: Option<Arc<BaseSnapshot>>,
    current: Current,
}

/// What is being answered.
enum Current {
    Nothing,
    Deltas(Box<Answer>),
    Conflicts(Box<Conflicts>),
    Done,
}

impl Run {
    async fn open(mut replay: Replay, schema: SchemaRef) -> Result<Self> {
        let columns = columns_of(&replay);
        replay.rows.own_columns_only = matches!(replay.what, What::Changes | What::History)
            && !columns.iter().any(|column| column.needs_images());
        let ctx = session_of(&replay);
        let windows = Windows::open(ctx, &replay.view, replay.span, replay.limits).await?;
        Ok(Self {
            replay,
            schema,
            windows,
            base: None,
            current: Current::Nothing,
        })
    }

    /// The next batch, unless there is none.
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            let batch = match &mut self.current {
                Current::Nothing => None,
                Current::Deltas(answer) => answer.next()?,
                Current::Conflicts(conflicts) => {
                    let batch = conflicts.next()?;
                    let projected = batch.map(|batch| batch.project(&self.replay.projection));
                    projected.transpose()?
                }
                Current::Done => return Ok(None),
            };
            if let Some(batch) = batch {
                return Ok(Some((batch, self)));
            }
            if let What::CellInfo(column, floor) = self.replay.what.clone() {
                self.current = Current::Done;
                let facts = self.facts_of_row().await?;
                let Some(cells) = cell_info::cells(&facts, column.as_ref(), floor)? else {
                    return Ok(None);
                };
                return Ok(Some((cells.project(&self.replay.projection)?, self)));
            }
            let next = self
                .windows
                .next(&self.replay.view, &self.replay.rows)
                .await?;
            let Some(deltas) = next else {
                return Ok(None);
            };
            self.begin(deltas).await?;
        }
    }

    /// Begins with the answer for a window, or cuts it.
    async fn begin(&mut self, deltas: Deltas) -> Result<()> {
        let columns = columns_of(&self.replay);
        let evidence = match &self.replay.what {
            _ if self.replay.rows.own_columns_only => Evidence::Nothing,
            What::Changes => Evidence::Late,
            What::History | What::Conflicts | What::CellInfo(..) => Evidence::All,
        };
        let prior = Prior {
            base: &*self.base_at(deltas.from)?,
            evidence,
            bytes_max: self.windows.limits().bytes,
        };
        let asked = Asked { deltas, row: None };
        let gathered = Facts::gather(self.windows.session(), &self.replay.view, asked, prior);
        self.current = match (gathered.await?, &self.replay.what) {
            (Gathered::TooMany(earlier, later), _) => {
                self.windows.give_back(earlier, later);
                Current::Nothing
            }
            (Gathered::Facts(facts), What::Changes | What::History) => {
                let answer = Answer::new(*facts, columns, Arc::clone(&self.schema))?;
                Current::Deltas(Box::new(answer))
            }
            (Gathered::Facts(facts), _) => Current::Conflicts(Box::new(Conflicts::new(*facts)?)),
        };
        Ok(())
    }

    /// All that is known of the row that `cell_info` asks about.
    async fn facts_of_row(&mut self) -> Result<Box<Facts>> {
        let view = Arc::clone(&self.replay.view);
        let ids = self.replay.rows.ids.as_ref();
        let row = ids.and_then(|ids| ids.first().cloned());
        let now = self.replay.span.1;
        let prior = Prior {
            base: &*self.base_at(now)?,
            evidence: Evidence::All,
            bytes_max: self.windows.limits().bytes,
        };
        let asked = Asked {
            deltas: Deltas {
                from: now,
                batches: Vec::new(),
            },
            row: row.as_deref(),
        };
        match Facts::gather(self.windows.session(), &view, asked, prior).await? {
            Gathered::Facts(facts) => Ok(facts),
            Gathered::TooMany(..) => unreachable!("nothing of no deltas is cut"),
        }
    }

    /// The newest base that holds nothing above `seq`.
    fn base_at(&mut self, seq: Seq) -> Result<Arc<BaseSnapshot>> {
        let view = &self.replay.view;
        let base = base_before(view, seq)?;
        // Snapshots that are known have read their manifests.
        let known = [self.base.as_ref(), Some(&view.base)];
        let known = known
            .into_iter()
            .flatten()
            .find(|known| known.snapshot_id == base.snapshot_id && known.base_seq == base.base_seq);
        let base = known.map_or_else(|| Arc::new(base), Arc::clone);
        self.base = Some(Arc::clone(&base));
        Ok(base)
    }
}
