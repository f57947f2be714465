//! ★ The union table: hot and cold as one.
//!
//! ```text
//!   Union
//!   ├── base (Parquet, masked)    rows of the base that no hot delta touches
//!   └── resolved overlay          the touched rows, complete
//! ```
//! With no hot delta the plan *is* the plain Parquet plan. Without key indexes (see `scan`) the touched rows are not
//! masked but joined away: LeftAnti on row_id of the plain base and the row ids of the overlay. `EXPLAIN` tells which.
//!
//! **Invariant:** filters and limits apply to merged rows. They are given to both branches, which is
//! sound because every row of either branch is final.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::common::utils::get_available_parallelism;
use datafusion::common::{JoinType, Result as QueryResult, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use lakesync_proto::columns;

use crate::definition_sql::create_table_sql;
use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::lake::arrow_schema;
use crate::narrowed::narrowed;
use crate::overlay::{WANTED, completed, row_id_schema};
use crate::scan::{Division, LiveChunk, Moment, OverlayTable, Patching, Split};
use crate::text_views::{in_types_of, plan_in_types_of, with_text_views};
use crate::view::ReadView;
use crate::write::{Assigned, Columns, InsertAction, Repeats, WritePlan, WriteSink, WriteTarget};

/// How the base is read without the rows that hot deltas touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Files are patched or masked, whichever is best, or joined when key indexes do not know the rows' positions.
    Patched,
    /// They are masked by their positions, always; or joined as above.
    Masked,
    /// They are joined away, always: what masked reads are compared with.
    Joined,
}

/// One table at one read view.
pub struct UnionTable {
    view: Arc<ReadView>,
    schema: SchemaRef,
    sink: Option<Arc<dyn WriteSink>>,
    touched: Touched,
    moment: Moment,
    /// What an INSERT without a row id means: "derive it".
    derive_row_id: Expr,
    /// The statement that makes it, once somebody has asked.
    definition: OnceLock<String>,
}

impl UnionTable {
    /// The table at `view`; writable when there is a `sink`.
    ///
    /// # Errors
    /// When the Iceberg schema has no Arrow form.
    pub fn new(view: Arc<ReadView>, sink: Option<Arc<dyn WriteSink>>) -> Result<Self> {
        Ok(Self {
            schema: with_text_views(&arrow_schema(&view.base.table)?),
            view,
            sink,
            touched: Touched::Patched,
            moment: Moment::Present,
            derive_row_id: lit(""),
            definition: OnceLock::new(),
        })
    }

    /// Reads the base without the touched rows in this way.
    #[must_use]
    pub fn with_touched(mut self, touched: Touched) -> Self {
        self.touched = touched;
        self
    }

    /// Says in `EXPLAIN` that the view is of a past moment.
    #[must_use]
    pub(crate) fn of_the_past(mut self) -> Self {
        self.moment = Moment::Past;
        self
    }

    /// The view that it reads.
    #[must_use]
    pub fn view(&self) -> &Arc<ReadView> {
        &self.view
    }

    /// What takes the rows of `plan`, which have the schema `input`.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; a planning error that names a column which cannot hold what it would be given.
    pub fn target(&self, plan: WritePlan, input: SchemaRef) -> Result<WriteTarget> {
        let Some(sink) = &self.sink else {
            return Err(Error::ReadOnly {
                table: self.view.table().to_string(),
            });
        };
        let columns = Columns {
            schema: Arc::clone(&self.view.schema),
            arrow: Arc::clone(&self.schema),
        };
        plan.check(&columns, &input)?;
        Ok(WriteTarget {
            view: Arc::clone(&self.view),
            columns,
            sink: Arc::clone(sink),
            plan,
            input,
        })
    }

    /// The merged rows as a logical plan, projected to nothing less than all columns; made for a query with these filters.
    async fn plan(&self, state: &dyn Session, filters: &[Expr]) -> Result<LogicalPlan> {
        let view = &self.view;
        let name = view.table().to_string();
        let base = view.base.scan(&view.warehouse).await?;
        if view.hot_deltas().next().is_none() {
            let base = base.with_text_views();
            return scan(&name, Arc::new(base))?.build().map_err(Error::from);
        }
        let resolved = view.resolved().await?;
        let mut split = self.split(state);
        let patching = match self.touched {
            Touched::Patched => Some(Patching::WhereBest),
            Touched::Masked => Some(Patching::Never),
            Touched::Joined => None,
        };
        let Some((masks, patching)) = resolved.masks.as_ref().zip(patching) else {
            split.overlay_rows = resolved.row_count();
            let files = base.files().len();
            let whole = base.clone();
            let base = scan(&name, Arc::new(base.labelled(split.joined(files))))?;
            let ids = in_memory(row_id_schema(), &resolved.touched()?)?;
            let ids = scan("overlay", ids)?.build()?;
            let keys = (vec![columns::ROW_ID], vec![WANTED]);
            let untouched = base.join(ids, JoinType::LeftAnti, keys, None)?.build()?;
            let untouched = plan_in_types_of(untouched, &self.schema)?;
            return self.with_overlay(untouched, whole, &resolved.chunks, split);
        };
        let left_out = base.left_out(state, filters);
        let choice = (patching, left_out.as_slice());
        let division = Division::choose(split, resolved, masks, &base, choice);
        let chunks = division.overlay(&resolved.chunks);
        split.overlay_rows = chunks.iter().map(LiveChunk::row_count).sum();
        let whole = base.clone();
        let division = division.with_overlay_rows(split.overlay_rows);
        let base = base.with_text_views().divided(division);
        let base = scan(&name, Arc::new(base))?;
        self.with_overlay(base, whole, &chunks, split)
    }

    /// With the rows of the overlay's chunks: those that are held whole, and those that `whole`, the whole base, completes.
    fn with_overlay(
        &self,
        mut rows: LogicalPlanBuilder,
        whole: ParquetTable,
        chunks: &[LiveChunk],
        split: Split,
    ) -> Result<LogicalPlan> {
        let name = self.view.table().as_ref();
        let (held, decided): (Vec<LiveChunk>, Vec<LiveChunk>) =
            chunks.iter().cloned().partition(LiveChunk::is_whole);
        if !held.is_empty() {
            let held = held
                .iter()
                .map(|chunk| Ok(in_types_of(&chunk.batch()?, &self.schema)?));
            let held: Vec<RecordBatch> = held.collect::<Result<_>>()?;
            let held = OverlayTable::new(Arc::clone(&self.schema), &held, split.to_string())?;
            rows = rows.union(scan(name, Arc::new(held))?.build()?)?;
        }
        if !decided.is_empty() {
            let stored = whole.schema();
            let whole = scan(name, Arc::new(whole))?;
            let completed = completed(whole, &decided, &stored)?;
            rows = rows.union(plan_in_types_of(completed, &self.schema)?.build()?)?;
        }
        Ok(rows.build()?)
    }

    fn split(&self, state: &dyn Session) -> Split {
        let view = &self.view;
        let newest = view.hot.newest_ms();
        let now = state.execution_props().query_execution_start_time;
        let now = now.and_then(|now| u64::try_from(now.timestamp_millis()).ok());
        Split {
            seq: view.seq,
            base_seq: view.base.base_seq,
            moment: self.moment,
            overlay_rows: 0,
            freshness_ms: now
                .zip(newest)
                .map(|(now, newest)| now.saturating_sub(newest)),
        }
    }
}

pub(crate) fn scan(name: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlanBuilder> {
    let source = provider_as_source(table);
    Ok(LogicalPlanBuilder::scan(name, source, None)?)
}

/// Batches as a table; several are dealt out, so that more than one core has work.
pub(crate) fn in_memory(
    schema: SchemaRef,
    batches: &[RecordBatch],
) -> Result<Arc<dyn TableProvider>> {
    let each = batches.len().div_ceil(get_available_parallelism().max(2));
    let mut partitions: Vec<_> = batches.chunks(each.max(1)).map(<[_]>::to_vec).collect();
    if partitions.is_empty() {
        partitions.push(Vec::new());
    }
    Ok(Arc::new(MemTable::try_new(schema, partitions)?))
}

impl fmt::Debug for UnionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnionTable")
            .field("table", self.view.table())
            .field("seq", &self.view.seq)
            .field("writable", &self.sink.is_some())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for UnionTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        let view = &self.view;
        let made = || create_table_sql(&view.gateway, &view.schema);
        Some(self.definition.get_or_init(made))
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        (column == columns::ROW_ID).then_some(&self.derive_row_id)
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
        let plan = self.plan(state, filters).await?;
        let plan = narrowed(plan, projection, filters, limit)?;
        state.create_physical_plan(&plan).await
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        if insert_op != InsertOp::Append {
            return plan_err!("only INSERT INTO is supported on `{}`", self.view.table());
        }
        // DataFusion's planner gives every column, in the table's order.
        let fields = self.schema.fields().iter().enumerate();
        let columns = fields.filter_map(|(input, field)| {
            let column = self.view.schema.column(field.name())?.name.clone();
            Some(Assigned { column, input })
        });
        let plan = WritePlan::insert(InsertAction {
            row_id: self.schema.index_of(columns::ROW_ID).ok(),
            columns: columns.collect(),
            repeats: Repeats::Refused,
        });
        Ok(self.target(plan, Arc::clone(&self.schema))?.exec(input))
    }
}
