//! INSERT, UPDATE, DELETE and MERGE: what they read is planned as a query, and its rows say what to write.
//!
//! ```text
//!   UPDATE t SET a = e FROM s WHERE p
//!     ─►  SELECT t.row_id, e AS a FROM t, s WHERE p   ─ DataFusion's planner ─►   input
//!     ─►  Dml: INSERT of the input into a WriteTarget of t                        plan
//! ```
//! DataFusion's own UPDATE and DELETE give a table the filters that they find in an optimised plan, and lose some. Here
//! nothing is given away: joins, subqueries, WITH queries and time travel of what is read are the query's.
//!
//! **Invariant:** a clause that would not be honoured is an error with the next step; none is dropped.

mod conflict;
mod delete;
mod insert;
mod merge;
mod select;
mod target;
mod update;

use std::sync::Arc;

use datafusion::common::display::{PlanType, ToStringifiedPlan};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{ExplainStatement, Statement};
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement, With};

use crate::error::{Error, Result};

/// Plans a statement: one that writes rows as its module says, any other as DataFusion does.
///
/// # Errors
/// [`Error::Invalid`] for a clause that cannot be honoured, [`Error::Query`] for what cannot be planned.
pub(crate) async fn plan(state: &SessionState, statement: Statement) -> Result<LogicalPlan> {
    match statement {
        Statement::Statement(inner) => written(state, None, *inner).await,
        Statement::Explain(explain) if writes(&explain.statement) => {
            explained(state, explain).await
        }
        other => Ok(state.statement_to_plan(other).await?),
    }
}

async fn written(
    state: &SessionState,
    with: Option<With>,
    statement: SqlStatement,
) -> Result<LogicalPlan> {
    match statement {
        SqlStatement::Insert(insert) => Box::pin(insert::plan(state, with, insert)).await,
        SqlStatement::Update(update) => Box::pin(update::plan(state, with, update)).await,
        SqlStatement::Delete(delete) => Box::pin(delete::plan(state, with, delete)).await,
        SqlStatement::Merge(merge) => Box::pin(merge::plan(state, with, merge)).await,
        SqlStatement::Truncate(_) => Err(Error::Invalid(
            "TRUNCATE is not supported: a table keeps its history; DELETE FROM t deletes its rows"
                .to_owned(),
        )),
        SqlStatement::Query(query) => with_query(state, *query).await,
        other => plain(state, other).await,
    }
}

/// `WITH … UPDATE …` is a query whose body is the statement.
async fn with_query(state: &SessionState, query: Query) -> Result<LogicalPlan> {
    match *query.body {
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => Box::pin(written(state, query.with, statement)).await,
        body => {
            let query = Query {
                body: Box::new(body),
                ..query
            };
            plain(state, SqlStatement::Query(Box::new(query))).await
        }
    }
}

async fn plain(state: &SessionState, statement: SqlStatement) -> Result<LogicalPlan> {
    let statement = Statement::Statement(Box::new(statement));
    Ok(state.statement_to_plan(statement).await?)
}

/// Whether a statement writes rows, or is an EXPLAIN of one that does.
pub(crate) fn writes(statement: &Statement) -> bool {
    let statement = match statement {
        Statement::Statement(statement) => statement,
        Statement::Explain(explain) => return writes(&explain.statement),
        _ => return false,
    };
    match statement.as_ref() {
        SqlStatement::Insert(_)
        | SqlStatement::Update(_)
        | SqlStatement::Delete(_)
        | SqlStatement::Merge(_)
        | SqlStatement::Truncate(_) => true,
        SqlStatement::Query(query) => matches!(
            query.body.as_ref(),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        ),
        _ => false,
    }
}

/// Plans an EXPLAIN of something else, for its format and its columns, and puts the plan into it.
async fn explained(state: &SessionState, explain: ExplainStatement) -> Result<LogicalPlan> {
    let plan = Box::pin(plan(state, *explain.statement)).await?;
    let nothing = SqlStatement::Query(Box::new(select::query()));
    let explain = Statement::Explain(ExplainStatement {
        statement: Box::new(Statement::Statement(Box::new(nothing))),
        ..explain
    });
    Ok(match state.statement_to_plan(explain).await? {
        LogicalPlan::Explain(mut explain) => {
            explain.stringified_plans = vec![plan.to_stringified(PlanType::InitialLogicalPlan)];
            explain.plan = Arc::new(plan);
            LogicalPlan::Explain(explain)
        }
        LogicalPlan::Analyze(mut analyze) => {
            analyze.input = Arc::new(plan);
            LogicalPlan::Analyze(analyze)
        }
        other => other,
    })
}

/// A clause that would not be honoured.
fn refused(clause: &str, next: &str) -> Error {
    Error::Invalid(format!("{clause} is not supported: {next}"))
}
