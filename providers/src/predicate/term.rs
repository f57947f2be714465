//! One alternative of a condition, divided by who decides it.
//!
//! ```text
//! owner = jwt('sub') and done = false and jwt('role') = 'lead' and level <= jwt('level')
//! ─────── key ──────     ─── row ────     ─────── gate ───────     ─────── claim ───────
//! looked up by hash      once a row       once an audience         once an audience and value
//! ```
//! **Invariant:** a row belongs to a term for some claims when all four hold; each is there or says nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::InList;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::Column;
use lakesync_proto::{Claims, TableSchema, Value};

use super::error::PredicateError;
use super::field::{Field, PLANNER, arrow_schema, plan_schema};
use super::formula::Formula;
use super::parameter::{Parameter, asks, bind, bind_nulls, index_of};
use super::rows::{Rows, holds, plain};
use crate::columnar;
use crate::error::Result;

/// A column that must equal one of a claim's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The column.
    pub field: Field,
    /// The claim.
    pub claim: String,
}

/// One alternative of a condition.
#[derive(Debug)]
pub struct Term {
    keys: Vec<Key>,
    row: Option<RowCondition>,
    gate: Option<ClaimCondition>,
    claim: Option<ClaimCondition>,
}

impl Term {
    /// A term of atoms that must all hold.
    pub(super) fn of_atoms(
        schema: &TableSchema,
        atoms: Vec<Expr>,
        parameters: &Arc<[Parameter]>,
    ) -> Result<Self, PredicateError> {
        let (mut keys, mut row, mut gate, mut claim) = (vec![], vec![], vec![], vec![]);
        for atom in atoms {
            match key_of(schema, &atom, parameters) {
                Some(key) => keys.push(key),
                None if !asks(&atom) => row.push(Formula::Atom(atom)),
                None if atom.column_refs().is_empty() => gate.push(Formula::Atom(atom)),
                None => claim.push(Formula::Atom(atom)),
            }
        }
        let some = |atoms: Vec<Formula>| (!atoms.is_empty()).then_some(Formula::All(atoms));
        let on_claims = |formula| ClaimCondition::new(schema, formula, parameters);
        Ok(Self {
            keys,
            row: some(row)
                .map(|formula| RowCondition::new(schema, formula))
                .transpose()?,
            gate: some(gate).map(on_claims).transpose()?,
            claim: some(claim).map(on_claims).transpose()?,
        })
    }

    /// A term of a condition that has too many alternatives to take apart.
    pub(super) fn of_whole(
        schema: &TableSchema,
        formula: Formula,
        parameters: &Arc<[Parameter]>,
    ) -> Result<Self, PredicateError> {
        let (mut row, mut claim) = (None, None);
        match parameters.is_empty() {
            true => row = Some(RowCondition::new(schema, formula)?),
            false => claim = Some(ClaimCondition::new(schema, formula, parameters)?),
        }
        Ok(Self {
            keys: Vec::new(),
            row,
            gate: None,
            claim,
        })
    }

    /// The columns that must equal claims.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The condition on the row alone.
    #[must_use]
    pub fn row(&self) -> Option<&RowCondition> {
        self.row.as_ref()
    }

    /// The condition on the claims alone.
    #[must_use]
    pub fn gate(&self) -> Option<&ClaimCondition> {
        self.gate.as_ref()
    }

    /// The condition on both that is no equality.
    #[must_use]
    pub fn claim(&self) -> Option<&ClaimCondition> {
        self.claim.as_ref()
    }

    /// The columns that the term looks at.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        let keys = self.keys.iter().map(|key| &key.field);
        let row = self.row.iter().flat_map(|row| &row.fields);
        let claim = self.claim.iter().flat_map(|claim| &claim.fields);
        keys.chain(row).chain(claim)
    }
}

/// The key that an atom is: a column in one claim.
fn key_of(schema: &TableSchema, atom: &Expr, parameters: &[Parameter]) -> Option<Key> {
    let Expr::InList(InList {
        expr,
        list,
        negated: false,
    }) = atom
    else {
        return None;
    };
    let (Expr::Column(column), [item]) = (expr.as_ref(), list.as_slice()) else {
        return None;
    };
    let parameter = &parameters[index_of(item)?];
    let field = Field::named(schema, &column.name)?;
    Some(Key {
        field,
        claim: parameter.claim.clone(),
    })
}

/// A condition on a row alone.
#[derive(Debug)]
pub struct RowCondition {
    text: String,
    fields: Vec<Field>,
    physical: Arc<dyn PhysicalExpr>,
}

impl RowCondition {
    fn new(schema: &TableSchema, formula: Formula) -> Result<Self, PredicateError> {
        let expr = formula.into_expr();
        let fields = fields_in(schema, &expr);
        Ok(Self {
            text: shown(&expr, &[]),
            physical: physical(expr, &fields)?,
            fields,
        })
    }

    /// For which rows it holds.
    #[must_use]
    pub fn matches(&self, rows: &Rows<'_>) -> Vec<bool> {
        match rows.batch(&self.fields) {
            Ok(batch) => holds(self.physical.as_ref(), &batch),
            // Admission has checked every value's type; a row that breaks it is nobody's.
            Err(_) => vec![false; rows.len()],
        }
    }
}

impl fmt::Display for RowCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A condition that asks for claims.
#[derive(Debug)]
pub struct ClaimCondition {
    text: String,
    fields: Vec<Field>,
    formula: Formula,
    parameters: Arc<[Parameter]>,
}

impl ClaimCondition {
    fn new(
        schema: &TableSchema,
        formula: Formula,
        parameters: &Arc<[Parameter]>,
    ) -> Result<Self, PredicateError> {
        let expr = formula.clone().into_expr();
        let fields = fields_in(schema, &expr);
        let nulls = formula.bound(&|atom| bind_nulls(atom, parameters));
        // Planned once with nulls, so that what cannot be planned is refused now and not when somebody reads.
        physical(nulls.into_expr(), &fields)?;
        Ok(Self {
            text: shown(&expr, parameters),
            fields,
            formula,
            parameters: Arc::clone(parameters),
        })
    }

    /// The columns whose values it asks for.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The condition for the holders of `claims`; none when it holds for no row.
    #[must_use]
    pub fn bind(&self, claims: &Claims) -> Option<Bound> {
        let bound = self
            .formula
            .bound(&|atom| bind(atom, &self.parameters, claims));
        let physical = physical(bound.into_expr(), &self.fields).ok()?;
        Some(Bound {
            fields: self.fields.clone(),
            physical,
        })
    }
}

impl fmt::Display for ClaimCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A condition with the claims filled in.
#[derive(Clone, Debug)]
pub struct Bound {
    fields: Vec<Field>,
    physical: Arc<dyn PhysicalExpr>,
}

impl Bound {
    /// The columns whose values it takes, in this order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether it holds for a row with these values, one for each of [`Bound::fields`].
    #[must_use]
    pub fn holds(&self, values: &[Value]) -> bool {
        self.batch(values)
            .is_ok_and(|batch| holds(self.physical.as_ref(), &batch) == [true])
    }

    fn batch(&self, values: &[Value]) -> Result<RecordBatch> {
        let array = |(field, value): (&Field, &Value)| {
            let value = plain(value.clone());
            columnar::column(field.column_type, std::iter::once(Some(&value)))
        };
        let arrays = self.fields.iter().zip(values).map(array);
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let schema = arrow_schema(&self.fields)?;
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }
}

/// The fields that an expression names, each once, in a fixed order.
fn fields_in(schema: &TableSchema, expr: &Expr) -> Vec<Field> {
    let names = expr.column_refs().into_iter();
    let names: BTreeSet<&str> = names.map(|column| column.name.as_str()).collect();
    let fields = names.into_iter();
    fields
        .filter_map(|name| Field::named(schema, name))
        .collect()
}

fn physical(expr: Expr, fields: &[Field]) -> Result<Arc<dyn PhysicalExpr>, PredicateError> {
    let schema = plan_schema(fields)?;
    let planned = PLANNER.create_physical_expr(expr, &schema);
    planned.map_err(|error| PredicateError::planning(&error, &[]))
}

/// An expression as SQL, claims as `jwt('…')`.
fn shown(expr: &Expr, parameters: &[Parameter]) -> String {
    let named = expr.clone().transform_up(|expr| {
        Ok(match index_of(&expr) {
            Some(index) => {
                let name = format!("jwt('{}')", parameters[index].claim);
                Transformed::yes(Expr::Column(Column::from_name(name)))
            }
            None => Transformed::no(expr),
        })
    });
    let named = named.expect("replacing does not fail").data;
    named.human_display().to_string()
}
