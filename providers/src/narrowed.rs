//! What a scan is asked for, put on top of a table's logical plan.
//!
//! **Invariant:** filters apply to the rows of the plan, the limit to those that the filters leave.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

/// These columns of the rows that all filters keep, so many of them.
pub(crate) fn narrowed(
    plan: LogicalPlan,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<LogicalPlan> {
    let mut plan = LogicalPlanBuilder::from(plan);
    if let Some(filter) = filters.iter().cloned().reduce(Expr::and) {
        plan = plan.filter(filter)?;
    }
    if let Some(projection) = projection {
        let schema = Arc::clone(plan.schema());
        plan = plan.project(projection.iter().map(|&i| {
            let (qualifier, field) = schema.qualified_field(i);
            Expr::from((qualifier, field))
        }))?;
    }
    if let Some(limit) = limit {
        plan = plan.limit(0, Some(limit))?;
    }
    plan.build()
}
