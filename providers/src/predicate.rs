//! Conditions on a table's rows that may ask for the claims of whoever reads: sync rules.
//!
//! ```text
//!  filters ──┐                                   ┌► keys   column = jwt('claim')
//!            ├► expression ─► formula ─► terms ──┼► row    no claim
//!  where  ───┘  (DataFusion)   no NOT     OR of  ├► gate   only claims
//!                                                └► claim  the rest
//! ```
//! **Invariant:** a condition means what the same text means in a query, with the claims as constants of the type that
//! they are compared with. A claim that is missing or of another type makes false what asks for it, negated or not.

mod claim;
mod error;
mod field;
mod filter;
mod formula;
mod parameter;
mod rows;
mod sql;
mod term;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use lakesync_proto::{ClaimValue, TableSchema};

pub use claim::claim_values;
pub use error::PredicateError;
pub use field::Field;
pub use filter::{Filter, FilterOp, ListOrder};
pub use rows::{Row, Rows};
pub use sql::{check_sql, claims_in};
pub use term::{Bound, ClaimCondition, Key, RowCondition, Term};

#[cfg(test)]
mod tests;

use formula::Formula;
use parameter::{Parameter, Takes, literal};

/// A condition, compiled for one table.
#[derive(Debug)]
pub struct Predicate {
    terms: Vec<Term>,
    claims: BTreeMap<String, ListOrder>,
}

impl Predicate {
    /// Compiles a condition: all of `filters`, and `sql` when there is one. Nothing of both holds for every row.
    ///
    /// # Errors
    /// [`PredicateError`] naming the column, function or text at fault, with its place in the SQL.
    pub fn compile(
        schema: &TableSchema,
        filters: &[Filter],
        sql: Option<&str>,
    ) -> Result<Self, PredicateError> {
        let (mut parts, mut parameters) = match sql {
            Some(sql) => {
                let parsed = sql::parse(schema, sql)?;
                (vec![parsed.formula], parsed.parameters)
            }
            None => (Vec::new(), Vec::new()),
        };
        for filter in filters {
            parts.push(Formula::Atom(atom(schema, filter, &mut parameters)?));
        }
        Self::new(schema, Formula::All(parts), parameters)
    }

    fn new(
        schema: &TableSchema,
        formula: Formula,
        parameters: Vec<Parameter>,
    ) -> Result<Self, PredicateError> {
        let mut claims = BTreeMap::new();
        for parameter in &parameters {
            let order = match parameter.takes {
                Takes::One => ListOrder::Ignored,
                Takes::First => ListOrder::Counts,
            };
            let held = claims.entry(parameter.claim.clone()).or_insert(order);
            *held = order.max(*held);
        }
        let parameters: Arc<[Parameter]> = parameters.into();
        let terms = match formula.terms() {
            Some(terms) => {
                let terms = terms.into_iter();
                let term = |atoms| Term::of_atoms(schema, atoms, &parameters);
                terms.map(term).collect::<Result<_, _>>()?
            }
            None => vec![Term::of_whole(schema, formula, &parameters)?],
        };
        Ok(Self { terms, claims })
    }

    /// Its alternatives: a row satisfies the condition when it satisfies any of them.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The claims that it asks for.
    #[must_use]
    pub fn claims(&self) -> &BTreeMap<String, ListOrder> {
        &self.claims
    }

    /// The columns that it looks at; some may come more than once.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.terms.iter().flat_map(Term::fields)
    }
}

/// A filter as an expression.
fn atom(
    schema: &TableSchema,
    filter: &Filter,
    parameters: &mut Vec<Parameter>,
) -> Result<Expr, PredicateError> {
    let Filter { column, op, value } = filter;
    let refused = |reason: String| PredicateError::new(format!("filter `{filter}`: {reason}"));
    let field = Field::named(schema, column).ok_or_else(|| {
        let columns = schema.columns.iter().map(|column| column.name.as_str());
        let columns = columns.collect::<Vec<_>>().join(", ");
        refused(format!(
            "there is no column `{column}`; there are: row_id, {columns}"
        ))
    })?;
    let column_type = field.column_type;
    let value = match filter.claim() {
        Some(claim) => {
            parameters.push(Parameter {
                claim: claim.to_owned(),
                column_type,
                takes: match op.list_order() {
                    ListOrder::Counts => Takes::First,
                    ListOrder::Ignored => Takes::One,
                },
            });
            let index = parameters.len() - 1;
            parameters[index].expr(index).ok()
        }
        None => claim::claim_value(&ClaimValue::Text(value.clone()), column_type)
            .and_then(|value| literal(&value, column_type)),
    };
    let value =
        value.ok_or_else(|| refused(format!("its value is no {column_type}, as the column is")))?;
    let left = Box::new(field.expr());
    let order = |operator| {
        Expr::BinaryExpr(BinaryExpr::new(
            left.clone(),
            operator,
            Box::new(value.clone()),
        ))
    };
    Ok(match op {
        FilterOp::Eq | FilterOp::In => Expr::InList(InList::new(left, vec![value], false)),
        FilterOp::Neq => Expr::InList(InList::new(left, vec![value], true)),
        FilterOp::Gt => order(Operator::Gt),
        FilterOp::Lt => order(Operator::Lt),
        FilterOp::Gte => order(Operator::GtEq),
        FilterOp::Lte => order(Operator::LtEq),
    })
}
