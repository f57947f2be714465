//! Where the rows of a plan go when it writes: a table that is only written.
//!
//! A statement is planned as a query whose rows say what to write, then as an INSERT of these into a [`WriteTarget`].
//! So DataFusion plans joins, subqueries and time travel of what is read, `EXPLAIN` shows it all, and no filter has to
//! be found again in an optimised plan.
//!
//! **Invariant:** a plan's columns are those that its [`WritePlan`] names, of types that its table can store.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as QueryResult, plan_err};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use lakesync_proto::{ColumnName, ColumnType, TableSchema};

use super::convert::fits;
use super::sink::StatementSink;
use super::{Verb, WriteSink};
use crate::view::ReadView;

/// A column that is set, and the place of its value among the plan's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The column of the table.
    pub column: ColumnName,
    /// The place of its value.
    pub input: usize,
}

/// What is done with a new row whose id the statement has named before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// The statement is refused.
    Refused,
    /// The first one is written.
    First,
}

/// How new rows are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertAction {
    /// The place of the row id, when the statement gives one.
    pub row_id: Option<usize>,
    /// The columns that the statement gives; the others are null.
    pub columns: Vec<Assigned>,
    /// What is done with an id that comes again.
    pub repeats: Repeats,
}

/// What is done with a row of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new row is made of it.
    Insert(InsertAction),
    /// The row that it names gets other values.
    Update(Vec<Assigned>),
    /// The row that it names goes.
    Delete,
}

impl Action {
    pub(super) fn assigned(&self) -> &[Assigned] {
        match self {
            Action::Insert(insert) => &insert.columns,
            Action::Update(columns) => columns,
            Action::Delete => &[],
        }
    }
}

/// What the columns of a plan mean.
///
/// ```text
///   INSERT   values …
///   UPDATE   row id │ values …
///   DELETE   row id
///   MERGE    row id │ number of the action │ values …
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritePlan {
    pub(super) verb: Verb,
    pub(super) actions: Vec<Action>,
}

/// The place of the row id in the plan of anything but an INSERT.
pub(super) const ROW: usize = 0;
/// The place of the action's number in the plan of a MERGE.
pub(super) const CLAUSE: usize = 1;

impl WritePlan {
    /// New rows.
    #[must_use]
    pub fn insert(insert: InsertAction) -> Self {
        Self {
            verb: Verb::Insert,
            actions: vec![Action::Insert(insert)],
        }
    }

    /// Other values in rows that exist.
    #[must_use]
    pub fn update(columns: Vec<Assigned>) -> Self {
        Self {
            verb: Verb::Update,
            actions: vec![Action::Update(columns)],
        }
    }

    /// Rows that go.
    #[must_use]
    pub fn delete() -> Self {
        Self {
            verb: Verb::Delete,
            actions: vec![Action::Delete],
        }
    }

    /// One of these for each row, by its number; a row without a number is left alone.
    #[must_use]
    pub fn merge(actions: Vec<Action>) -> Self {
        Self {
            verb: Verb::Merge,
            actions,
        }
    }

    /// Refuses columns that cannot hold what the plan gives for them.
    pub(crate) fn check(&self, columns: &Columns, input: &SchemaRef) -> QueryResult<()> {
        for assigned in self.actions.iter().flat_map(Action::assigned) {
            let (column_type, stored) = columns.of(&assigned.column)?;
            let given = input.field(assigned.input).data_type();
            if !fits(given, column_type, stored) {
                return plan_err!(
                    "column `{}` of `{}` is a {column_type}, and a value of type {given} cannot be stored in it; \
                     cast it to one that can",
                    assigned.column,
                    columns.schema.table
                );
            }
        }
        Ok(())
    }
}

impl fmt::Display for WritePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, action) in self.actions.iter().enumerate() {
            f.write_str(if nth == 0 { "" } else { "; " })?;
            let names: Vec<&str> = action
                .assigned()
                .iter()
                .map(|assigned| assigned.column.as_str())
                .collect();
            match action {
                Action::Insert(_) => write!(f, "insert {}", names.join(", "))?,
                Action::Update(_) => write!(f, "set {}", names.join(", "))?,
                Action::Delete => f.write_str("delete")?,
            }
        }
        Ok(())
    }
}

/// The columns of a table with what stores them.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) arrow: SchemaRef,
}

impl Columns {
    /// The type of a column, and what it is stored as.
    pub(super) fn of(&self, column: &ColumnName) -> QueryResult<(ColumnType, &DataType)> {
        let known = self.schema.column(column.as_str());
        let stored = self.arrow.field_with_name(column.as_str()).ok();
        match (known, stored) {
            (Some(known), Some(stored)) => Ok((known.column_type, stored.data_type())),
            _ => plan_err!("`{}` has no column `{column}`", self.schema.table),
        }
    }
}

/// A table at the view that a statement reads, as what it writes to.
pub struct WriteTarget {
    pub(crate) view: Arc<ReadView>,
    pub(crate) columns: Columns,
    pub(crate) sink: Arc<dyn WriteSink>,
    pub(crate) plan: WritePlan,
    /// The schema of the rows that it takes.
    pub(crate) input: SchemaRef,
}

impl WriteTarget {
    /// The plan that writes the rows of `input`.
    pub(crate) fn exec(&self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let sink = StatementSink {
            view: Arc::clone(&self.view),
            columns: self.columns.clone(),
            sink: Arc::clone(&self.sink),
            plan: self.plan.clone(),
            input: Arc::clone(&self.input),
        };
        Arc::new(DataSinkExec::new(input, Arc::new(sink), None))
    }
}

impl fmt::Debug for WriteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteTarget({}: {})", self.view.table(), self.plan)
    }
}

#[async_trait]
impl TableProvider for WriteTarget {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.input)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        plan_err!(
            "what a statement writes to `{}` is only written",
            self.view.table()
        )
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Ok(self.exec(input))
    }
}
