//! The table that a statement writes: found, and asked for its columns.
//!
//! **Invariant:** the row id and the key are never set on a row that exists.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::sql::TableReference;
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, Ident, ObjectName, ObjectNamePart, Query,
    Statement as SqlStatement, TableFactor,
};
use lakesync_proto::{ColumnName, TableSchema, columns};
use lakesync_providers::{Error as TableError, UnionTable, Verb, WritePlan};

use super::refused;
use super::select::{column, stored};
use crate::error::{Error, Result};
use crate::syntax::lookup_name;

/// A table of the lake that a statement writes.
pub(super) struct Target {
    verb: Verb,
    provider: Arc<dyn TableProvider>,
    /// What its columns are named with in the statement.
    pub(super) qualifier: Vec<Ident>,
}

impl Target {
    /// The table that `factor` names.
    pub(super) async fn of(state: &SessionState, verb: Verb, factor: &TableFactor) -> Result<Self> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
        else {
            return Err(refused(
                &format!("{verb} of anything but a table"),
                "name the table",
            ));
        };
        if alias
            .as_ref()
            .is_some_and(|alias| !alias.columns.is_empty())
        {
            return Err(refused(
                &format!("an alias with column names for the table of {verb}"),
                "give it an alias only",
            ));
        }
        let mut target = Self::named(state, verb, name).await?;
        if let Some(alias) = alias {
            target.qualifier = vec![alias.name.clone()];
        }
        Ok(target)
    }

    /// The table called `name`.
    pub(super) async fn named(state: &SessionState, verb: Verb, name: &ObjectName) -> Result<Self> {
        let reference = object_name_to_table_reference(name.clone(), true)?;
        let schema = state.schema_for_ref(reference.clone())?;
        let provider = schema.table(reference.table()).await?.ok_or_else(|| {
            let text = format!("table '{reference}' not found");
            Error::from(DataFusionError::Plan(text))
        })?;
        if provider.as_any().downcast_ref::<UnionTable>().is_none() {
            let table = reference.table().to_owned();
            return Err(DataFusionError::from(TableError::ReadOnly { table }).into());
        }
        let idents = name.0.iter().filter_map(ObjectNamePart::as_ident);
        Ok(Self {
            verb,
            provider,
            qualifier: idents.cloned().collect(),
        })
    }

    fn table(&self) -> &UnionTable {
        let table = self.provider.as_any().downcast_ref();
        table.expect("it was one when the target was found")
    }

    /// The table's schema.
    pub(super) fn schema(&self) -> &TableSchema {
        &self.table().view().schema
    }

    /// The table's row id in the statement.
    pub(super) fn row_id(&self) -> Expr {
        column(&self.qualifier, columns::ROW_ID)
    }

    /// The plan that writes the rows of `query` as `writes` says.
    pub(super) async fn plan(
        &self,
        state: &SessionState,
        query: Query,
        writes: WritePlan,
    ) -> Result<LogicalPlan> {
        let query = SqlStatement::Query(Box::new(query));
        let query = Statement::Statement(Box::new(query));
        let input = state.statement_to_plan(query).await?;
        self.planned(input, writes)
    }

    /// As [`Target::plan`], for rows that are planned already.
    pub(super) fn planned(&self, input: LogicalPlan, writes: WritePlan) -> Result<LogicalPlan> {
        let schema = Arc::clone(input.schema().inner());
        let target = self.table().target(writes, schema);
        let target = target.map_err(DataFusionError::from)?;
        let name = format!("{} of {}", self.verb, self.schema().table);
        Ok(LogicalPlan::Dml(DmlStatement::new(
            TableReference::bare(name),
            provider_as_source(Arc::new(target)),
            WriteOp::Insert(InsertOp::Append),
            Arc::new(input),
        )))
    }

    /// The assignments of a SET list, column by column.
    pub(super) fn assignments(
        &self,
        assignments: Vec<Assignment>,
    ) -> Result<Vec<(ColumnName, Expr)>> {
        let mut set: Vec<(ColumnName, Expr)> = Vec::new();
        for Assignment { target, value } in assignments {
            let pairs = match (target, value) {
                (AssignmentTarget::ColumnName(name), value) => vec![(name, value)],
                (AssignmentTarget::Tuple(names), Expr::Tuple(values))
                    if names.len() == values.len() =>
                {
                    names.into_iter().zip(values).collect()
                }
                (AssignmentTarget::Tuple(_), _) => {
                    return Err(refused(
                        "SET (…) = anything but as many values in brackets",
                        "assign the columns one by one",
                    ));
                }
            };
            for (name, value) in pairs {
                let column = self.settable(&name)?;
                if set.iter().any(|(other, _)| *other == column) {
                    return Err(Error::Invalid(format!(
                        "column `{column}` of `{}` is set twice",
                        self.schema().table
                    )));
                }
                set.push((column, stored(value)));
            }
        }
        Ok(set)
    }

    /// A column that may be set on a row that exists.
    fn settable(&self, name: &ObjectName) -> Result<ColumnName> {
        let text = self.own_name(name)?;
        let table = &self.schema().table;
        if text == columns::ROW_ID {
            return Err(Error::Invalid(format!(
                "row_id says which row of `{table}` it is and never changes; delete the row and insert another"
            )));
        }
        let column = self.column(&text)?;
        if self.schema().primary_key.contains(&column) {
            return Err(Error::Invalid(format!(
                "`{column}` is a key column of `{table}`, and the key of a row never changes, because other clients know \
                 the row by it; delete the row and insert it with its new key"
            )));
        }
        Ok(column)
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Result<ColumnName> {
        let schema = self.schema();
        if let Some(column) = schema.column(name) {
            return Ok(column.name.clone());
        }
        let names: Vec<&str> = schema
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        Err(Error::Invalid(format!(
            "`{}` has no column `{name}`; it has {}",
            schema.table,
            names.join(", ")
        )))
    }

    /// The last part of a name whose other parts, if any, are the table's in this statement.
    pub(super) fn own_name(&self, name: &ObjectName) -> Result<String> {
        let parts: Vec<String> = name
            .0
            .iter()
            .filter_map(ObjectNamePart::as_ident)
            .map(lookup_name)
            .collect();
        let own: Vec<String> = self.qualifier.iter().map(lookup_name).collect();
        match parts.split_last() {
            Some((last, of)) if parts.len() == name.0.len() && own.ends_with(of) => {
                Ok(last.clone())
            }
            _ => Err(Error::Invalid(format!(
                "`{name}` is no column of `{}`, which is what the {} writes",
                self.schema().table,
                self.verb
            ))),
        }
    }
}
