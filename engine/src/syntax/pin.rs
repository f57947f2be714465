//! The second half of time travel: clauses whose moments are expressions become pinned names when the statement runs.
//!
//! [`parse`](super::parse) has checked them and pinned those that are literals. The others have to wait for the session
//! that the statement runs in: its functions and its `now()`, of which a statement has one.
//!
//! Invariant: after [`pin`] no clause is left in the statement.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::Expr as PlannedExpr;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, ExprWithAlias, TableFactor, Value, VisitorMut};

use super::as_of::{clause_position, pin_table};
use super::clause::{Clause, WORKS, literal, refuse};
use super::error::SyntaxError;
use super::{STACK_BYTES, visit_parts};

/// Gives every table that is read as of a moment its pinned name, with the functions and the time of `state`.
///
/// # Errors
/// `TimeTravel`, with the place, for a moment that is no constant or no moment.
pub(crate) fn pin(statement: &mut Statement, state: &SessionState) -> Result<(), SyntaxError> {
    stacker::grow(STACK_BYTES, || {
        match visit_parts(statement, &mut Pin { state }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    })
}

struct Pin<'a> {
    state: &'a SessionState,
}

impl VisitorMut for Pin<'_> {
    type Break = Box<SyntaxError>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        let TableFactor::Table {
            name,
            alias,
            version,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let Some(version) = version.take() else {
            return ControlFlow::Continue(());
        };
        let at = clause_position(&version, name);
        let as_of = Clause::of(&version)
            .and_then(|clause| clause.as_of(|expr| self.value(expr).map(Some)))
            .and_then(|as_of| as_of.ok_or_else(|| refuse("the clause names no moment", WORKS)));
        match as_of {
            Ok(as_of) => {
                pin_table(name, alias, as_of);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error.or_at(at))),
        }
    }
}

impl Pin<'_> {
    fn value(&self, expr: &Expr) -> Result<ScalarValue, SyntaxError> {
        if let Some(value) = literal(expr) {
            return Ok(value);
        }
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            return Err(refuse(
                format!("the parameter {name} has no value"),
                "write the moment into the statement",
            ));
        }
        let next = "write a literal, or an expression such as now() - interval '1 hour'";
        match self.evaluated(expr) {
            Ok(PlannedExpr::Literal(value, _)) => Ok(value),
            Ok(_) => Err(refuse(format!("{expr} is not a constant"), next)),
            Err(error) => Err(refuse(error.strip_backtrace(), next)),
        }
    }

    fn evaluated(&self, expr: &Expr) -> datafusion::error::Result<PlannedExpr> {
        let schema = DFSchema::empty();
        let expr = ExprWithAlias {
            expr: expr.clone(),
            alias: None,
        };
        let expr = self
            .state
            .create_logical_expr_from_sql_expr(expr, &schema)?;
        let now = self.state.execution_props().query_execution_start_time;
        let context = SimplifyContext::default()
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_query_execution_start_time(now);
        let simplifier = ExprSimplifier::new(context);
        simplifier.simplify(simplifier.coerce(expr, &schema)?)
    }
}
