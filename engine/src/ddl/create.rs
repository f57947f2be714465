//! `CREATE TABLE`, as sqlparser reads it, as a table of ours.
//!
//! **Invariant**: the statement is what its parts that are read here print; anything else in it is refused.

use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable as SqlCreateTable, CreateTableOptions, Expr,
    HiveDistributionStyle, HiveFormat, IndexColumn, Query, TableConstraint,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use lakesync_proto::{ColumnDefinition, ColumnName};

use super::column_type::column_type;
use super::layout_clause::Layout;
use super::name::{self, TableRef};
use super::refused;
use crate::syntax::{SyntaxError, lookup_name};

/// A table to make.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CreateTable {
    /// Which.
    pub(super) table: TableRef,
    /// `IF NOT EXISTS`.
    pub(super) if_not_exists: bool,
    /// Its columns; none are given when they are the query's.
    pub(super) columns: Vec<ColumnDefinition>,
    /// Its key.
    pub(super) primary_key: Vec<ColumnName>,
    /// How its rows lie.
    pub(super) layout: Layout,
    /// `AS SELECT …`.
    pub(super) query: Option<Box<Query>>,
}

/// Reads a statement.
///
/// # Errors
/// With the place, for a clause that a table of ours cannot have.
pub(super) fn read(sql: &SqlCreateTable, layout: Layout) -> Result<CreateTable, SyntaxError> {
    let place = name::span(&sql.name);
    refuse_clauses(sql, place)?;
    let table = TableRef::read(&sql.name)?;
    let primary_key = primary_key(sql, place)?;
    let mut columns = Vec::with_capacity(sql.columns.len());
    for column in &sql.columns {
        let name = name::column(&column.name)?;
        check_options(column, primary_key.contains(&name))?;
        columns.push(ColumnDefinition {
            name,
            column_type: column_type(&column.data_type, column.name.span)?,
        });
    }
    Ok(CreateTable {
        table,
        if_not_exists: sql.if_not_exists,
        columns,
        primary_key,
        layout,
        query: sql.query.clone(),
    })
}

/// The key columns, of the table's constraint or of a column's own.
fn primary_key(sql: &SqlCreateTable, place: Span) -> Result<Vec<ColumnName>, SyntaxError> {
    let mut keys: Vec<Vec<ColumnName>> = Vec::new();
    for column in &sql.columns {
        let mut options = column.options.iter().map(|def| &def.option);
        if options.any(|option| matches!(option, ColumnOption::PrimaryKey(_))) {
            keys.push(vec![name::column(&column.name)?]);
        }
    }
    for constraint in &sql.constraints {
        let TableConstraint::PrimaryKey(key) = constraint else {
            let message = format!("a table has no constraint but PRIMARY KEY: {constraint}");
            return Err(refused(place, message, CONSTRAINT));
        };
        keys.push(
            key.columns
                .iter()
                .map(key_column)
                .collect::<Result<_, _>>()?,
        );
    }
    match keys.len() {
        0 => Ok(Vec::new()),
        1 => Ok(keys.remove(0)),
        _ => Err(refused(
            place,
            "PRIMARY KEY is there more than once",
            "name all key columns together: PRIMARY KEY (a, b)",
        )),
    }
}

const CONSTRAINT: &str =
    "leave it out: writes that are merged later cannot be checked against other rows";

fn key_column(column: &IndexColumn) -> Result<ColumnName, SyntaxError> {
    match &column.column.expr {
        Expr::Identifier(name) => name::column(name),
        other => Err(refused(
            Span::empty(),
            format!("{other} is no key column"),
            "a key is a list of columns: PRIMARY KEY (a, b)",
        )),
    }
}

/// Refuses what a column cannot have.
pub(super) fn check_options(column: &ColumnDef, is_key: bool) -> Result<(), SyntaxError> {
    let name = &column.name;
    for def in &column.options {
        let next = match &def.option {
            ColumnOption::PrimaryKey(_) => continue,
            ColumnOption::NotNull if is_key => continue,
            ColumnOption::Null if !is_key => continue,
            ColumnOption::NotNull => {
                "leave it out: columns outside the key are optional, as a write may set only some of them"
            }
            ColumnOption::Null => "leave it out: key columns are never null",
            ColumnOption::Default(_) => "leave it out, and write the value with the row",
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                "leave it out; without a key, row ids are made by whoever writes the row"
            }
            ColumnOption::Unique(_) | ColumnOption::ForeignKey(_) | ColumnOption::Check(_) => {
                CONSTRAINT
            }
            _ => "leave it out: a column has a name and a type",
        };
        let message = format!("column {} cannot be {}", lookup_name(name), def.option);
        return Err(refused(name.span, message, next));
    }
    Ok(())
}

/// Refuses every clause that is not read.
fn refuse_clauses(sql: &SqlCreateTable, place: Span) -> Result<(), SyntaxError> {
    let read = CreateTableBuilder::new(sql.name.clone())
        .if_not_exists(sql.if_not_exists)
        .columns(sql.columns.clone())
        .constraints(sql.constraints.clone())
        .query(sql.query.clone())
        .hive_formats(sql.hive_formats.clone().filter(is_empty_format))
        .build();
    if read == *sql {
        return Ok(());
    }
    let (clause, next) = if sql.or_replace {
        (
            "OR REPLACE",
            "a table is not replaced: clients hold rows of it; give the new one another name",
        )
    } else if sql.temporary {
        (
            "TEMPORARY",
            "a table stays; for one statement take a WITH query",
        )
    } else if sql.external {
        ("EXTERNAL", "load files with lakesync push")
    } else if sql.like.is_some() || sql.clone.is_some() {
        (
            "LIKE or CLONE",
            "copy the rows: CREATE TABLE u AS SELECT * FROM t",
        )
    } else if sql.clustered_by.is_some() || sql.cluster_by.is_some() {
        (
            "CLUSTERED BY",
            "take PARTITIONED BY (bucket(16, c)) and SORTED BY (c)",
        )
    } else if sql.hive_distribution != HiveDistributionStyle::NONE || sql.partition_by.is_some() {
        ("PARTITION BY", "take PARTITIONED BY (…) behind the columns")
    } else if sql.order_by.is_some() {
        ("ORDER BY", "take SORTED BY (…)")
    } else if sql.primary_key.is_some() {
        (
            "PRIMARY KEY behind the brackets",
            "put it inside: CREATE TABLE t (…, PRIMARY KEY (a))",
        )
    } else if sql.table_options != CreateTableOptions::None {
        (
            "WITH, OPTIONS or an engine",
            "leave it out: a table has columns, a key, partitions and an order",
        )
    } else {
        (
            "a clause that is not known here",
            "a table has columns, a key, PARTITIONED BY and SORTED BY",
        )
    };
    let message = format!("CREATE TABLE with {clause} is not supported");
    Err(refused(place, message, next))
}

fn is_empty_format(format: &HiveFormat) -> bool {
    *format == HiveFormat::default()
}
