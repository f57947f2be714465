//! Claims in a condition: parameters that are filled in for whoever reads.
//!
//! **Invariant:** a parameter has the type of what it is compared with, and a claim is that or nothing. `=` and `in`
//! take any value of a claim's list, `<>` and `not in` want none of them; anywhere else a claim of several values
//! makes the condition false.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Field as ArrowField;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{InList, Placeholder};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator, lit};
use datafusion::prelude::Column;
use lakesync_proto::{ClaimValue, Claims, ColumnType, TableSchema, Value};

use super::claim::claim_value;
use super::field::{JWT, arrow_type, claim_type};
use crate::columnar;

/// Which values of a claim's list count where only one can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// The only one.
    One,
    /// The first: how filters in JSON compare orders.
    First,
}

/// What one parameter stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) claim: String,
    pub(super) column_type: ColumnType,
    pub(super) takes: Takes,
}

impl Parameter {
    /// The expression that stands for it at `index`.
    pub(super) fn expr(&self, index: usize) -> Result<Expr> {
        let field = ArrowField::new(JWT, arrow_type(self.column_type)?, true);
        let id = format!("${index}");
        Ok(Expr::Placeholder(Placeholder::new_with_field(
            id,
            Some(Arc::new(field)),
        )))
    }

    /// The claim's values that have the type, when there is one.
    fn some(&self, claims: &Claims) -> Option<Vec<Expr>> {
        let values = claims.get(&self.claim)?.iter();
        let values: Vec<Expr> = values.filter_map(|value| self.literal(value)).collect();
        (!values.is_empty()).then_some(values)
    }

    /// All values of the claim, when each has the type.
    fn all(&self, claims: &Claims) -> Option<Vec<Expr>> {
        let values = claims.get(&self.claim)?.iter();
        values.map(|value| self.literal(value)).collect()
    }

    /// The one value that counts.
    fn one(&self, claims: &Claims) -> Option<Expr> {
        match (claims.get(&self.claim)?, self.takes) {
            ([one], Takes::One) | ([one, ..], Takes::First) => self.literal(one),
            _ => None,
        }
    }

    fn literal(&self, value: &ClaimValue) -> Option<Expr> {
        literal(&claim_value(value, self.column_type)?, self.column_type)
    }
}

/// The number of the parameter that an expression is.
pub(super) fn index_of(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Placeholder(placeholder) => placeholder.id.strip_prefix('$')?.parse().ok(),
        _ => None,
    }
}

/// The claim that a call of `jwt` names.
pub(super) fn claim_of(expr: &Expr) -> Option<&str> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    match (call.func.name() == JWT, call.args.as_slice()) {
        (true, [Expr::Literal(name, _)]) => name.try_as_str()?.filter(|name| !name.is_empty()),
        _ => None,
    }
}

/// Whether an expression asks for a claim.
pub(super) fn asks(expr: &Expr) -> bool {
    let found = expr.exists(|part| Ok(index_of(part).is_some()));
    found.expect("looking does not fail")
}

/// Takes the claims out of an expression.
pub(super) struct Parameters<'a> {
    schema: &'a TableSchema,
    columns: &'a DFSchema,
    found: Vec<Parameter>,
    /// Which of them have met something that gives them a type.
    typed: BTreeSet<usize>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(schema: &'a TableSchema, columns: &'a DFSchema) -> Self {
        Self {
            schema,
            columns,
            found: Vec::new(),
            typed: BTreeSet::new(),
        }
    }

    pub(super) fn into_inner(self) -> Vec<Parameter> {
        self.found
    }

    /// Replaces calls of `jwt`, from the leaves up: a parameter gets its type from what stands beside it.
    pub(super) fn take(&mut self, condition: Expr) -> Result<Expr> {
        let taken = condition.transform_up(|expr| self.take_one(expr).map(Transformed::yes))?;
        self.typed(taken.data, Some(ColumnType::Boolean))
    }

    fn take_one(&mut self, expr: Expr) -> Result<Expr> {
        if let Some(claim) = claim_of(&expr) {
            let parameter = Parameter {
                claim: claim.to_owned(),
                column_type: ColumnType::String,
                takes: Takes::One,
            };
            self.found.push(parameter);
            let index = self.found.len() - 1;
            return self.found[index].expr(index);
        }
        match expr {
            // Names that the planner gives say nothing in a condition.
            Expr::Alias(alias) => Ok(*alias.expr),
            Expr::Column(column) => Ok(Expr::Column(Column::from_name(column.name))),
            Expr::Cast(cast) if index_of(&cast.expr).is_some() => {
                self.typed(*cast.expr, claim_type(&cast.data_type))
            }
            Expr::TryCast(cast) if index_of(&cast.expr).is_some() => {
                self.typed(*cast.expr, claim_type(&cast.data_type))
            }
            Expr::BinaryExpr(binary) => self.binary(binary),
            Expr::Not(inner) => {
                let inner = self.typed(*inner, Some(ColumnType::Boolean))?;
                Ok(Expr::Not(Box::new(inner)))
            }
            Expr::InList(list) => self.list(list),
            Expr::Between(between) => {
                let column_type = self.type_beside(&between.expr, &between.low)?;
                Ok(Expr::Between(Between {
                    low: Box::new(self.typed(*between.low, column_type)?),
                    high: Box::new(self.typed(*between.high, column_type)?),
                    expr: Box::new(self.typed(*between.expr, column_type)?),
                    negated: between.negated,
                }))
            }
            other => Ok(other),
        }
    }

    /// An operation with a parameter; `=` and `<>` become lists, which a claim of several values fills.
    fn binary(&mut self, binary: BinaryExpr) -> Result<Expr> {
        let BinaryExpr { left, op, right } = binary;
        let column_type = match op.is_logic_operator() {
            true => Some(ColumnType::Boolean),
            false => self.type_beside(&left, &right)?,
        };
        let left = self.typed(*left, column_type)?;
        let right = self.typed(*right, column_type)?;
        let negated = op == Operator::NotEq;
        Ok(match (index_of(&left), index_of(&right)) {
            (None, Some(_)) if is_equality(op) => {
                Expr::InList(InList::new(Box::new(left), vec![right], negated))
            }
            (Some(_), None) if is_equality(op) => {
                Expr::InList(InList::new(Box::new(right), vec![left], negated))
            }
            _ => Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))),
        })
    }

    fn list(&mut self, list: InList) -> Result<Expr> {
        let InList {
            expr,
            list,
            negated,
        } = list;
        let Some(first) = list.first() else {
            return Ok(Expr::InList(InList::new(expr, list, negated)));
        };
        let column_type = self.type_beside(&expr, first)?;
        let expr = self.typed(*expr, column_type)?;
        let list = list.into_iter();
        let list: Vec<Expr> = list
            .map(|item| self.typed(item, column_type))
            .collect::<Result<_>>()?;
        if index_of(&expr).is_none() || list.iter().any(|item| index_of(item).is_some()) {
            return Ok(Expr::InList(InList::new(Box::new(expr), list, negated)));
        }
        // A claim among constants: any of its values may be any of them.
        let one = |item| Expr::InList(InList::new(Box::new(item), vec![expr.clone()], false));
        let any = list.into_iter().map(one).reduce(Expr::or);
        let any = any.unwrap_or_else(|| lit(false));
        Ok(match negated {
            true => Expr::Not(Box::new(any)),
            false => any,
        })
    }

    /// The type that a parameter among the two is to have; none when neither is one.
    fn type_beside(&self, left: &Expr, right: &Expr) -> Result<Option<ColumnType>> {
        let beside = match (index_of(left), index_of(right)) {
            (None, _) => left,
            (Some(_), None) => right,
            (Some(_), Some(_)) => return Ok(None),
        };
        if let Expr::Column(column) = beside
            && let Some(column) = self.schema.column(&column.name)
        {
            return Ok(Some(column.column_type));
        }
        Ok(claim_type(&beside.get_type(self.columns)?))
    }

    /// Gives a parameter its type, unless it has one; what is none stays as it is.
    fn typed(&mut self, expr: Expr, column_type: Option<ColumnType>) -> Result<Expr> {
        match (index_of(&expr), column_type) {
            (Some(index), Some(column_type)) if self.typed.insert(index) => {
                self.found[index].column_type = column_type;
                self.found[index].expr(index)
            }
            _ => Ok(expr),
        }
    }
}

fn is_equality(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq)
}

/// An atom of a formula with the claims filled in; none when it cannot hold for them.
pub(super) fn bind(atom: &Expr, parameters: &[Parameter], claims: &Claims) -> Option<Expr> {
    let atom = match atom {
        // Any of the values will do, so those that are none of the type may be left out.
        Expr::InList(list) if !list.negated => {
            let items = filled(&list.list, |index| parameters[index].some(claims))?;
            let expr = list.expr.clone();
            Expr::InList(InList::new(expr, items, false))
        }
        other => other.clone(),
    };
    let mut holds = true;
    let bound = atom.transform_down(|expr| {
        let replaced = match &expr {
            Expr::InList(list) => {
                let items = filled(&list.list, |index| parameters[index].all(claims));
                let list_of = |items| InList::new(list.expr.clone(), items, list.negated);
                items.map(|items| Expr::InList(list_of(items)))
            }
            other => match index_of(other) {
                None => return Ok(Transformed::no(expr)),
                Some(index) => parameters[index].one(claims),
            },
        };
        match replaced {
            Some(replaced) => Ok(Transformed::yes(replaced)),
            None => {
                holds = false;
                Ok(Transformed::new(expr, false, TreeNodeRecursion::Stop))
            }
        }
    });
    bound.ok().filter(|_| holds).map(|bound| bound.data)
}

/// An atom with nulls for the claims: whether it can be planned at all.
pub(super) fn bind_nulls(atom: &Expr, parameters: &[Parameter]) -> Option<Expr> {
    let bound = atom.clone().transform_down(|expr| {
        let null = index_of(&expr).and_then(|index| {
            let data_type = arrow_type(parameters[index].column_type).ok()?;
            ScalarValue::try_from(&data_type).ok()
        });
        Ok(match null {
            Some(null) => Transformed::yes(Expr::Literal(null, None)),
            None => Transformed::no(expr),
        })
    });
    bound.ok().map(|bound| bound.data)
}

/// The items of a list with each parameter replaced by its values; none when one has none.
fn filled(items: &[Expr], values: impl Fn(usize) -> Option<Vec<Expr>>) -> Option<Vec<Expr>> {
    let item = |item: &Expr| match index_of(item) {
        None => Some(vec![item.clone()]),
        Some(index) => values(index),
    };
    let filled: Option<Vec<Vec<Expr>>> = items.iter().map(item).collect();
    filled.map(|items| items.concat())
}

/// A value of `column_type` as an expression.
pub(super) fn literal(value: &Value, column_type: ColumnType) -> Option<Expr> {
    let array = columnar::column(column_type, std::iter::once(Some(value))).ok()?;
    let scalar = ScalarValue::try_from_array(&array, 0).ok()?;
    Some(Expr::Literal(scalar, None))
}
