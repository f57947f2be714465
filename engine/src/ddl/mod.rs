//! Tables in SQL: `CREATE TABLE`, `ALTER TABLE`, `DESCRIBE`.
//!
//! ```text
//! tokens ── layout_clause: PARTITIONED BY, SORTED BY ──┐
//! sqlparser's tree ── create, alter, column_type ──────┴─► Ddl ── run ──► the gateway, as POST /v1/admin/schema does
//! ```
//! sqlparser has no transforms in `PARTITIONED BY`, so those two clauses are taken out of the tokens before it reads them.
//!
//! **Invariant**: what a statement says and the lake cannot do is refused by name, with its place and what to do instead;
//! no clause is read and forgotten.

mod alter;
mod column_type;
mod create;
mod describe;
mod layout_clause;
mod name;
mod run;

use datafusion::sql::sqlparser::ast::{DescribeAlias, ObjectType, Statement};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::syntax::{Position, SyntaxError, SyntaxErrorKind};

pub(crate) use layout_clause::{Clauses, take_clauses};
pub(crate) use run::{Caller, run};

/// A statement that makes, changes or describes a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Ddl(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Create(Box<create::CreateTable>),
    Alter(alter::AlterTable),
    /// With the statement itself, for tables that are not ours.
    Describe(name::TableRef, Box<Statement>),
}

impl Ddl {
    /// Whether it only reads.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(self.0, Kind::Describe(..))
    }

    /// The statement, when it is one of ours; `clauses` are those that were taken out of the text.
    ///
    /// # Errors
    /// [`SyntaxError`] with the place and the next step, for what a table cannot have or a change cannot do.
    pub(crate) fn of(statement: &Statement, clauses: &Clauses) -> Result<Option<Ddl>, SyntaxError> {
        let kind = match statement {
            Statement::CreateTable(table) => {
                let layout = clauses.of(&table.name);
                Kind::Create(Box::new(create::read(table, layout)?))
            }
            Statement::AlterTable(table) => Kind::Alter(alter::read(table)?),
            Statement::Drop {
                object_type: ObjectType::Table,
                names,
                ..
            } => {
                let place = names.first().map_or_else(Span::empty, name::span);
                return Err(refused(place, DROP, "delete its rows: DELETE FROM t"));
            }
            Statement::ExplainTable {
                describe_alias: DescribeAlias::Describe | DescribeAlias::Desc,
                table_name,
                ..
            } => match name::TableRef::read(table_name) {
                Ok(table) => Kind::Describe(table, Box::new(statement.clone())),
                // A metadata table or another catalog's: DataFusion describes those.
                Err(_) => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Ddl(kind)))
    }
}

const DROP: &str = "a table is not dropped: clients hold rows of it, and its past can be asked for";

/// A mistake at `place`.
fn refused(place: Span, message: impl Into<String>, next: impl Into<String>) -> SyntaxError {
    SyntaxError::new(SyntaxErrorKind::Statement, message, next).at(Position::of(place))
}
