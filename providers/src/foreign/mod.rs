//! Tables that another program made in our catalog: one Iceberg snapshot, read-only, with its deletes applied.
//!
//! ```text
//!   data files ─ by the equality deletes that apply to them ─┬─ none:  masked by position
//!                                                            └─ some:  masked, then joined away
//! ```
//! Position deletes are read as those of our own tables (see `scan::dead`); equality deletes, which name rows by values,
//! are an anti-join in which null equals null. Columns are found by field id, so a rename there is a rename here.
//!
//! **Invariant:** what cannot be read exactly (deletion vectors, files that are no Parquet) is an error, never other rows.

mod as_of;
mod deletes;
mod layout;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{JoinType, NullEquality, Result as QueryResult};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident,
};
use datafusion::physical_plan::ExecutionPlan;
use iceberg::table::Table;
use lakesync_proto::GatewayId;

use crate::error::{Error, Result};
use crate::files::ParquetTable;
use crate::lake::{DataFileInfo, LakeError, Warehouse, find_snapshot, live_files};
use crate::narrowed::narrowed;
use crate::scan::{Dead, Sorted};
use crate::session::session;
use crate::travel::AsOf;
use deletes::{Equality, applicable};
pub(crate) use layout::Layout;

/// One snapshot of a table of another program.
#[derive(Debug)]
pub struct ForeignTable {
    warehouse: Warehouse,
    table: Table,
    snapshot: Option<i64>,
    layout: Layout,
}

impl ForeignTable {
    /// The table called `name` of a gateway's namespace as it is now; none when there is no such table.
    ///
    /// # Errors
    /// When the catalog or the table's metadata cannot be read.
    pub async fn load(
        warehouse: &Warehouse,
        gateway: &GatewayId,
        name: &str,
    ) -> Result<Option<Self>> {
        let Some(table) = warehouse.foreign_table(gateway, name).await? else {
            return Ok(None);
        };
        // The newest snapshot may be older than the newest columns.
        let columns = Arc::clone(table.metadata().current_schema());
        Ok(Some(Self {
            warehouse: warehouse.clone(),
            layout: Layout::of(&table, &columns)?,
            snapshot: table.metadata().current_snapshot_id(),
            table,
        }))
    }

    /// The table called `name` as of a past moment: one of its snapshots, tags or branches, or a time.
    ///
    /// # Errors
    /// [`Error::ForeignMoment`] for a moment that its metadata does not know; as [`ForeignTable::load`].
    pub async fn load_as_of(
        warehouse: &Warehouse,
        gateway: &GatewayId,
        name: &str,
        as_of: &AsOf,
    ) -> Result<Option<Self>> {
        let Some(table) = warehouse.foreign_table(gateway, name).await? else {
            return Ok(None);
        };
        let snapshot = as_of::snapshot(&table, as_of)?;
        Self::at(warehouse, table, snapshot).map(Some)
    }

    /// `table` as of the snapshot with this id, with the columns of then.
    ///
    /// # Errors
    /// `NotFound` without such a snapshot; when a column is of a type that Arrow does not have.
    pub fn at(warehouse: &Warehouse, table: Table, snapshot: i64) -> Result<Self> {
        let columns = find_snapshot(&table, snapshot)?.schema(table.metadata());
        let columns = columns.map_err(LakeError::iceberg("find its schema", table.identifier()))?;
        Ok(Self {
            warehouse: warehouse.clone(),
            layout: Layout::of(&table, &columns)?,
            snapshot: Some(snapshot),
            table,
        })
    }

    /// The Iceberg table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The rows as a logical plan.
    ///
    /// # Errors
    /// When a manifest or a delete file cannot be read, or a file is of a kind that is not read here.
    pub async fn plan(&self) -> Result<LogicalPlan> {
        let files = match self.snapshot {
            Some(_) => live_files(&self.table, self.snapshot).await?,
            None => Vec::new(),
        };
        let name = self.table.identifier().name().to_owned();
        let sorted = Sorted::out(&name, files)?;
        let all: Arc<[DataFileInfo]> = sorted.data.as_slice().into();
        let all = ParquetTable::of_files(&self.warehouse, &self.layout, all);
        let task = session(&self.warehouse).task_ctx();
        let dead = Dead::by_position(&task, &all, &sorted).await?;
        let mut groups: BTreeMap<Vec<usize>, Vec<DataFileInfo>> = BTreeMap::new();
        for file in &sorted.data {
            let deletes = applicable(file, &sorted.equality);
            groups.entry(deletes).or_default().push(file.clone());
        }
        if groups.is_empty() {
            groups.insert(Vec::new(), Vec::new());
        }
        let mut whole: Option<LogicalPlan> = None;
        for (deletes, files) in groups {
            let dead = dead.among(&files);
            let rows = ParquetTable::of_files(&self.warehouse, &self.layout, files.into());
            let label = format!(
                "snapshot={}, equality_deletes={}",
                self.snapshot.unwrap_or_default(),
                deletes.len()
            );
            let rows = Arc::new(rows.without(dead).labelled(label));
            let scan = LogicalPlanBuilder::scan(name.clone(), provider_as_source(rows), None)?;
            let equality = deletes.iter().map(|at| &sorted.equality[*at]);
            let plan = self.without(scan, equality)?;
            whole = Some(match whole {
                None => plan,
                Some(before) => LogicalPlanBuilder::from(before).union(plan)?.build()?,
            });
        }
        Ok(whole.expect("there is a group"))
    }

    /// The rows of `scan` that none of these files deletes, with the table's columns.
    fn without<'a>(
        &self,
        scan: LogicalPlanBuilder,
        deletes: impl Iterator<Item = &'a DataFileInfo>,
    ) -> Result<LogicalPlan> {
        let mut by_columns: BTreeMap<&[i32], Vec<DataFileInfo>> = BTreeMap::new();
        for file in deletes {
            let files = by_columns.entry(&file.equality_ids).or_default();
            files.push(file.clone());
        }
        let mut rows = scan;
        for (number, (ids, files)) in by_columns.into_iter().enumerate() {
            let equality = Equality::of(&self.layout, ids)?;
            let deleted = ParquetTable::of_files(&self.warehouse, &equality.layout, files.into());
            let deleted = provider_as_source(Arc::new(deleted));
            let name = format!("equality_deletes_{number}");
            let deleted = LogicalPlanBuilder::scan(name, deleted, None)?.build()?;
            let keys = (equality.columns, equality.deleted);
            let null = NullEquality::NullEqualsNull;
            rows = rows.join_detailed(deleted, JoinType::LeftAnti, keys, None, null)?;
        }
        let columns = self.layout.shown().fields().iter();
        let columns: Vec<Expr> = columns.map(|field| ident(field.name())).collect();
        Ok(rows.project(columns)?.build()?)
    }
}

#[async_trait]
impl TableProvider for ForeignTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.layout.shown())
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
        let plan = narrowed(self.plan().await?, projection, filters, limit)?;
        state.create_physical_plan(&plan).await
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _op: InsertOp,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Err(Error::ForeignTable {
            table: self.table.identifier().to_string(),
        }
        .into())
    }
}
