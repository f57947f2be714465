//! What DataFusion's planner drops without a word, refused: a time-travel clause that nobody turned into a pinned name, and
//! named arguments of table functions.
//!
//! **Invariant:** in a session that has this planner, a clause is honoured or an error; it never gives today's rows.

use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::{
    RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor};

/// A planner of relations that plans none, and refuses those whose clauses would have no effect.
#[derive(Debug)]
pub struct RefuseDropped;

impl RelationPlanner for RefuseDropped {
    fn plan_relation(
        &self,
        relation: TableFactor,
        _context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (name, version, arguments) = match &relation {
            TableFactor::Table {
                name,
                version,
                args,
                ..
            } => (name, version.as_ref(), args.as_ref().map(|args| &args.args)),
            TableFactor::Function { name, args, .. } => (name, None, Some(args)),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        if let Some(clause) = version {
            return plan_err!(
                "`{name} {clause}` cannot be read here; use a pinned name such as \"{name}@seq:5\", or lake_at('{name}', 'seq', 5)"
            );
        }
        let dropped =
            |arg: &&FunctionArg| !matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
        if let Some(arg) = arguments.into_iter().flatten().find(dropped) {
            return plan_err!(
                "{name} takes its arguments by position, so `{arg}` would be left out; write the value alone"
            );
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}
