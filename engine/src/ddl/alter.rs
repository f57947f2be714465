//! `ALTER TABLE`: what Iceberg can do without rewriting a file.
//!
//! **Invariant**: all changes of one statement are made at once, from the table as it is then, or none.

use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable as SqlAlterTable, AlterTableOperation as Operation, ColumnDef,
    ColumnOption, DataType, DropBehavior, Ident,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use lakesync_proto::{ColumnDefinition, ColumnName, ColumnType, TableDefinition};

use super::column_type::column_type;
use super::create::check_options;
use super::name::{self, TableRef};
use super::refused;
use crate::syntax::{Position, SyntaxError};

/// A table to change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AlterTable {
    /// Which.
    pub(super) table: TableRef,
    /// `IF EXISTS`.
    pub(super) if_exists: bool,
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq)]
enum Change {
    Add {
        column: ColumnDefinition,
        if_not_exists: bool,
    },
    Drop {
        column: ColumnName,
        if_exists: bool,
    },
    Type {
        column: ColumnName,
        to: ColumnType,
    },
}

impl AlterTable {
    /// The definition of the table once it is changed.
    ///
    /// # Errors
    /// What is wrong, for a column that is there already, or is not there.
    pub(super) fn apply(&self, mut definition: TableDefinition) -> Result<TableDefinition, String> {
        for change in &self.changes {
            let name = change.column();
            // Names are compared without case, as SQLite does.
            let mut columns = definition.columns.iter();
            let found =
                columns.position(|column| column.name.as_str().eq_ignore_ascii_case(name.as_str()));
            let lacks = || {
                format!(
                    "`{}` has no column {name}; DESCRIBE lists them",
                    self.table.table
                )
            };
            match (change, found) {
                (
                    Change::Add {
                        if_not_exists: true,
                        ..
                    },
                    Some(_),
                )
                | (
                    Change::Drop {
                        if_exists: true, ..
                    },
                    None,
                ) => {}
                (Change::Add { .. }, Some(_)) => {
                    return Err(format!(
                        "`{}` has a column {name} already; ADD COLUMN IF NOT EXISTS passes over it",
                        self.table.table
                    ));
                }
                (Change::Add { column, .. }, None) => definition.columns.push(column.clone()),
                (Change::Drop { .. }, Some(at)) => drop(definition.columns.remove(at)),
                (Change::Type { to, .. }, Some(at)) => definition.columns[at].column_type = *to,
                (Change::Drop { .. } | Change::Type { .. }, None) => return Err(lacks()),
            }
        }
        Ok(definition)
    }
}

impl Change {
    fn column(&self) -> &ColumnName {
        match self {
            Self::Add { column, .. } => &column.name,
            Self::Drop { column, .. } | Self::Type { column, .. } => column,
        }
    }
}

/// Reads a statement.
///
/// # Errors
/// With the place, for a change that a table of ours cannot make.
pub(super) fn read(sql: &SqlAlterTable) -> Result<AlterTable, SyntaxError> {
    let place = name::span(&sql.name);
    if sql.only || sql.location.is_some() || sql.on_cluster.is_some() || sql.table_type.is_some() {
        return Err(refused(
            place,
            "ALTER TABLE takes no ONLY, LOCATION, CLUSTER or kind of table",
            "leave it out",
        ));
    }
    let table = TableRef::read(&sql.name)?;
    let mut changes = Vec::with_capacity(sql.operations.len());
    for operation in &sql.operations {
        changes.extend(change(operation).map_err(|error| error.or_at(Position::of(place)))?);
    }
    Ok(AlterTable {
        table,
        if_exists: sql.if_exists,
        changes,
    })
}

fn change(operation: &Operation) -> Result<Vec<Change>, SyntaxError> {
    match operation {
        Operation::AddColumn {
            if_not_exists,
            column_def,
            column_position: None,
            ..
        } => Ok(vec![Change::Add {
            column: added(column_def)?,
            if_not_exists: *if_not_exists,
        }]),
        Operation::DropColumn {
            column_names,
            if_exists,
            drop_behavior: None | Some(DropBehavior::Restrict),
            ..
        } => column_names
            .iter()
            .map(|name| {
                Ok(Change::Drop {
                    column: name::column(name)?,
                    if_exists: *if_exists,
                })
            })
            .collect(),
        Operation::AlterColumn {
            column_name,
            op:
                AlterColumnOperation::SetDataType {
                    data_type,
                    using: None,
                    ..
                },
        } => Ok(vec![retyped(column_name, data_type)?]),
        Operation::ModifyColumn {
            col_name,
            data_type,
            options,
            column_position: None,
        } if options.is_empty() => Ok(vec![retyped(col_name, data_type)?]),
        other => {
            let (what, next) = refusal(other);
            Err(refused(Span::empty(), what, next))
        }
    }
}

fn added(column: &ColumnDef) -> Result<ColumnDefinition, SyntaxError> {
    check_options(column, false)?;
    let mut options = column.options.iter().map(|def| &def.option);
    if options.any(|option| matches!(option, ColumnOption::PrimaryKey(_))) {
        return Err(refused(
            column.name.span,
            "the key of a table does not change",
            "make a new table with that key: CREATE TABLE u (…, PRIMARY KEY (…)) AS SELECT …",
        ));
    }
    if column.data_type == DataType::Unspecified {
        return Err(refused(
            column.name.span,
            "the new column has no type",
            "give it one: ADD COLUMN c text",
        ));
    }
    Ok(ColumnDefinition {
        name: name::column(&column.name)?,
        column_type: column_type(&column.data_type, column.name.span)?,
    })
}

fn retyped(column: &Ident, data_type: &DataType) -> Result<Change, SyntaxError> {
    Ok(Change::Type {
        column: name::column(column)?,
        to: column_type(data_type, column.span)?,
    })
}

/// Why a change cannot be made, and what to do instead.
fn refusal(operation: &Operation) -> (String, &'static str) {
    match operation {
        Operation::RenameColumn { .. } | Operation::ChangeColumn { .. } => (
            "a column is not renamed: clients that are offline write to it by its name".to_owned(),
            "add the new column, copy the values, and drop the old one when no client writes to it",
        ),
        Operation::RenameTable { .. } => (
            "a table is not renamed: clients that are offline write to it by its name".to_owned(),
            "make a new one with the rows: CREATE TABLE u AS SELECT * FROM t",
        ),
        Operation::AddColumn { .. } | Operation::ModifyColumn { .. } => (
            format!("{operation}: columns have no place and no options"),
            "leave FIRST, AFTER and options out",
        ),
        Operation::DropColumn { .. } => (
            "DROP COLUMN has no CASCADE: nothing hangs on a column".to_owned(),
            "leave it out",
        ),
        Operation::AlterColumn {
            op: AlterColumnOperation::SetDataType { .. },
            ..
        } => (
            "a type changes without USING: old files are read as they are".to_owned(),
            "only a decimal's precision can grow; else add a column and copy the values",
        ),
        Operation::AlterColumn { .. } => (
            format!("{operation}: columns outside the key are optional and have no defaults"),
            "leave it as it is, and write the value with the row",
        ),
        Operation::AddConstraint { .. }
        | Operation::DropConstraint { .. }
        | Operation::DropPrimaryKey { .. } => (
            "the key of a table does not change, and other constraints do not exist".to_owned(),
            "make a new table with that key: CREATE TABLE u (…, PRIMARY KEY (…)) AS SELECT …",
        ),
        other => (
            format!("ALTER TABLE … {other} is not supported"),
            "ALTER TABLE does ADD COLUMN c type, DROP COLUMN c, and ALTER COLUMN c TYPE decimal(p, s) that widens",
        ),
    }
}
