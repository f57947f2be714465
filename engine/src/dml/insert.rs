//! `INSERT INTO t [(…)] VALUES … | SELECT … [ON CONFLICT …]`
//!
//! Without a list of columns the values are those of the table's own columns, in their order; one more value in front
//! is the row id.
//!
//! **Invariant:** an INSERT adds rows; what it does not say of them is null.

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Insert, Query, SetExpr, Statement as SqlStatement, TableObject, Value, With,
    visit_expressions,
};
use lakesync_proto::{ColumnName, columns};
use lakesync_providers::{Assigned, InsertAction, Repeats, Verb, WritePlan};

use super::select::{both, stored};
use super::target::Target;
use super::{conflict, plain, refused};
use crate::error::{Error, Result};
use crate::syntax::lookup_name;

/// Plans an INSERT.
pub(super) async fn plan(
    state: &SessionState,
    with: Option<With>,
    mut insert: Insert,
) -> Result<LogicalPlan> {
    refuse(&insert)?;
    let TableObject::TableName(name) = &insert.table else {
        return Err(refused("INSERT INTO a function", "name a table"));
    };
    let Some(mut source) = insert.source.take() else {
        return Err(refused("INSERT without rows", "add VALUES (…) or a SELECT"));
    };
    source.with = both(with, source.with.take());
    let target = Target::named(state, Verb::Insert, name).await?;
    if let Some(on) = insert.on.take() {
        let conflict = conflict::Conflict {
            on,
            columns: insert.columns,
        };
        return conflict::plan(state, (name.clone(), target), *source, conflict).await;
    }
    if has_placeholder(&source) {
        // Their types are those of the columns, which only DataFusion's own INSERT tells them.
        insert.source = Some(source);
        return plain(state, SqlStatement::Insert(insert)).await;
    }
    let query = SqlStatement::Query(Box::new(with_defaults(*source)));
    let query = Statement::Statement(Box::new(query));
    let input = state.statement_to_plan(query).await?;
    let given = given(&target, &insert.columns, input.schema().fields().len())?;
    target.planned(
        input,
        WritePlan::insert(action(&given, 0, Repeats::Refused)),
    )
}

/// What an INSERT gives a value for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// The row id.
    RowId,
    /// A column.
    Column(ColumnName),
}

impl Given {
    pub(super) fn name(&self) -> &str {
        match self {
            Given::RowId => columns::ROW_ID,
            Given::Column(column) => column.as_str(),
        }
    }
}

/// What `count` values are given for, by the list of columns or, without one, by their number.
pub(super) fn given(target: &Target, listed: &[Ident], count: usize) -> Result<Vec<Given>> {
    let schema = target.schema();
    let all = schema.columns.iter().map(|column| &column.name);
    let all = all.map(|name| Given::Column(name.clone()));
    let given: Vec<Given> = match listed {
        [] if count == schema.columns.len() + 1 => {
            std::iter::once(Given::RowId).chain(all).collect()
        }
        [] => all.collect(),
        listed => listed
            .iter()
            .map(|name| match lookup_name(name).as_str() {
                columns::ROW_ID => Ok(Given::RowId),
                name => target.column(name).map(Given::Column),
            })
            .collect::<Result<_>>()?,
    };
    for (at, one) in given.iter().enumerate() {
        if given[..at].contains(one) {
            let (name, table) = (one.name(), &schema.table);
            let text = format!("column `{name}` of `{table}` is listed twice");
            return Err(Error::Invalid(text));
        }
    }
    if given.len() != count {
        let names: Vec<&str> = given.iter().map(Given::name).collect();
        return Err(Error::Invalid(format!(
            "the rows have {count} values, and `{}` takes {}: {}",
            schema.table,
            given.len(),
            names.join(", ")
        )));
    }
    Ok(given)
}

/// New rows of values that stand from `first` on in the plan.
pub(super) fn action(given: &[Given], first: usize, repeats: Repeats) -> InsertAction {
    let mut action = InsertAction {
        row_id: None,
        columns: Vec::new(),
        repeats,
    };
    for (input, given) in (first..).zip(given) {
        match given {
            Given::RowId => action.row_id = Some(input),
            Given::Column(column) => action.columns.push(Assigned {
                column: column.clone(),
                input,
            }),
        }
    }
    action
}

/// The query with null for the word DEFAULT in its VALUES.
pub(super) fn with_defaults(mut source: Query) -> Query {
    if let SetExpr::Values(values) = source.body.as_mut() {
        for value in values.rows.iter_mut().flatten() {
            let before = std::mem::replace(value, super::select::null());
            *value = stored(before);
        }
    }
    source
}

fn has_placeholder(source: &Query) -> bool {
    let found = visit_expressions(source, |expr| match expr {
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn refuse(insert: &Insert) -> Result<()> {
    const UPSERT: &str = "write INSERT … ON CONFLICT (key) DO UPDATE SET … or DO NOTHING";
    if insert.replace_into || insert.or.is_some() || insert.ignore {
        return Err(refused("REPLACE, INSERT OR … and INSERT IGNORE", UPSERT));
    }
    if insert.overwrite {
        return Err(refused(
            "INSERT OVERWRITE",
            "DELETE FROM t first, then INSERT; both are kept in the table's history",
        ));
    }
    if insert.returning.is_some() {
        return Err(refused("RETURNING", "SELECT the rows afterwards"));
    }
    if insert.table_alias.is_some() {
        return Err(refused("an alias for the table of INSERT", "leave it out"));
    }
    let rest = [
        (insert.partitioned.is_some(), "PARTITION (…)"),
        (!insert.after_columns.is_empty(), "a second list of columns"),
        (!insert.assignments.is_empty(), "INSERT … SET"),
        (insert.priority.is_some(), "a priority"),
        (insert.insert_alias.is_some(), "an alias for the new row"),
        (insert.settings.is_some(), "SETTINGS"),
        (insert.format_clause.is_some(), "FORMAT"),
    ];
    match rest.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, clause)) => Err(refused(clause, "write INSERT INTO t (a, b) VALUES (1, 2)")),
        None => Ok(()),
    }
}
