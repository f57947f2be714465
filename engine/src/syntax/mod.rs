//! SQL text in, what the engine runs out.
//!
//! ```text
//! text ─ tokens ─ nesting check ─ token passes ─ DataFusion's parser ─ time travel ─ Query | Call | ExplainCall | Ddl
//!                                                                       when it runs └─ the moments that are expressions
//! ```
//!
//! Invariant: a text is parsed as a whole before any of it runs, and what comes out holds no clause that a later step
//! would ignore. The text is never printed and parsed again: sqlparser prints clauses that it cannot read back.

mod as_of;
mod call;
mod clause;
mod dialect;
mod error;
mod nesting;
mod pin;
mod sugar;
mod tokens;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use datafusion::common::DataFusionError;
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, ExplainStatement, Statement};
use datafusion::sql::sqlparser::ast::{Ident, Statement as SqlStatement, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{TokenWithSpan, Tokenizer};

use dialect::LakeDialect;

use crate::ddl::{Clauses, Ddl, take_clauses};

pub use call::{Arguments, Call, CallArgument, CallValue, PROCEDURE_SCHEMA, When};
pub use error::{Position, SyntaxError, SyntaxErrorKind};
pub(crate) use pin::pin;

/// The longest SQL text that is read, in bytes: large enough for generated INSERTs, small enough to hold as a tree.
pub const SQL_BYTES_MAX: usize = 1 << 20;

/// How many brackets, subqueries and prefixes may be open at once. It is DataFusion's own default.
const RECURSION_MAX: usize = 50;

/// Stack for the parser, in bytes of address space. Between two of its own checks it may need more than what it then
/// asks for: without optimisation ten nested EXISTS overflow a thread's 2 MiB, far below [`RECURSION_MAX`].
const STACK_BYTES: usize = 32 << 20;

/// One statement of a SQL text.
#[derive(Clone, Debug, PartialEq)]
pub enum LakeStatement {
    /// A statement for DataFusion, with its time-travel clauses turned into the names of
    /// [`Pinned`](lakesync_providers::Pinned) tables. Those whose moments are expressions are still there, checked, and
    /// are turned when the statement runs.
    Query(Box<Statement>),
    /// `CALL system.…(…)`.
    Call(Call),
    /// `EXPLAIN … CALL system.…(…)`.
    ExplainCall(ExplainCall),
    /// A statement that makes, changes or describes a table.
    Ddl(Ddl),
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT …] CALL system.…(…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainCall {
    /// The call to explain.
    pub call: Call,
    /// `ANALYZE`: run it and report on it.
    pub analyze: bool,
    /// `VERBOSE`: show more.
    pub verbose: bool,
    /// `FORMAT`: the format's name as it was written.
    pub format: Option<String>,
}

/// Parses all statements of a text; none when it holds only comments.
///
/// # Errors
/// A [`SyntaxError`] with the place and the next step. Nothing of the text has been run then.
pub fn parse(sql: &str) -> Result<Vec<LakeStatement>, SyntaxError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(SyntaxError::new(
            SyntaxErrorKind::TooLarge,
            format!(
                "the text has {} bytes, more than {SQL_BYTES_MAX}",
                sql.len()
            ),
            "split it; rows are loaded with lakesync push",
        ));
    }
    stacker::grow(STACK_BYTES, || {
        statements(sql)
            .and_then(|(statements, clauses)| {
                let finish = |statement| finish(statement, &clauses);
                statements.into_iter().map(finish).collect()
            })
            .map_err(|error| error.in_text(sql))
    })
}

/// Takes a text apart into the texts of its statements, for sending them one at a time. The whole text is parsed
/// first, so a mistake in the last statement is found before the first is sent.
///
/// # Errors
/// As [`parse`]; also when a statement holds semicolons of its own.
pub fn split(sql: &str) -> Result<Vec<&str>, SyntaxError> {
    let count = parse(sql)?.len();
    let tokens = tokenize(sql)?;
    let texts = tokens::between_semicolons(sql, &tokens);
    if texts.len() == count {
        return Ok(texts);
    }
    Err(SyntaxError::new(
        SyntaxErrorKind::Statement,
        "a statement has semicolons inside it",
        "run that statement alone",
    ))
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, SyntaxError> {
    Tokenizer::new(&LakeDialect::for_tokens(0), sql)
        .tokenize_with_location()
        .map_err(|error| parser_error(&ParserError::from(error), sql))
}

fn statements(sql: &str) -> Result<(VecDeque<Statement>, Clauses), SyntaxError> {
    let tokens = tokenize(sql)?;
    nesting::check_tokens(&tokens)?;
    let (tokens, clauses) = take_clauses(sugar::rewrite(tokens)?)?;
    let dialect = LakeDialect::for_tokens(tokens.len());
    let rewritten = tokens::rewrite(tokens)?;
    let statements = DFParserBuilder::new(rewritten.tokens)
        .with_dialect(&dialect)
        .with_recursion_limit(RECURSION_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| {
            let error = datafusion_error(&error, sql);
            match error.position() {
                _ if dialect.is_exhausted() => exhausted(),
                Some(at) if rewritten.clauses.contains(&at) => misplaced(at),
                _ => error,
            }
        })?;
    Ok((statements, clauses))
}

fn finish(mut statement: Statement, clauses: &Clauses) -> Result<LakeStatement, SyntaxError> {
    nesting::check_statement(&mut statement)?;
    as_of::rewrite(&mut statement)?;
    if let Statement::Statement(inner) = &statement
        && let Some(ddl) = Ddl::of(inner, clauses)?
    {
        return Ok(LakeStatement::Ddl(ddl));
    }
    match statement {
        Statement::Statement(inner) => match *inner {
            SqlStatement::Call(function) => Call::from_function(function).map(LakeStatement::Call),
            inner => Ok(LakeStatement::Query(Box::new(Statement::Statement(
                Box::new(inner),
            )))),
        },
        Statement::Explain(explain) => explained(explain),
        other => Ok(LakeStatement::Query(Box::new(other))),
    }
}

fn explained(explain: ExplainStatement) -> Result<LakeStatement, SyntaxError> {
    let call = match explain.statement.as_ref() {
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Call(function) => Some(Call::from_function(function.clone())?),
            _ => None,
        },
        _ => None,
    };
    Ok(match call {
        Some(call) => LakeStatement::ExplainCall(ExplainCall {
            call,
            analyze: explain.analyze,
            verbose: explain.verbose,
            format: explain.format,
        }),
        None => LakeStatement::Query(Box::new(Statement::Explain(explain))),
    })
}

/// Visits what is SQL in a statement of DataFusion's own.
fn visit_parts<V: VisitorMut>(statement: &mut Statement, visitor: &mut V) -> ControlFlow<V::Break> {
    match statement {
        Statement::Statement(statement) => statement.visit(visitor),
        Statement::Explain(explain) => visit_parts(&mut explain.statement, visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(visitor),
            CopyToSource::Relation(name) => visitor.pre_visit_relation(name),
        },
        Statement::CreateExternalTable(create) => create.order_exprs.visit(visitor),
        Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

/// A name as DataFusion looks it up: unquoted in lower case.
pub(crate) fn lookup_name(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}

/// The parser stumbled over a clause of ours, so it is somewhere no table name was just read.
fn misplaced(at: Position) -> SyntaxError {
    SyntaxError::new(
        SyntaxErrorKind::TimeTravel,
        "a time-travel clause does not belong here",
        "put it directly after the name of a table that is read, before its alias: \
         SELECT … FROM t VERSION AS OF <snapshot id> AS x",
    )
    .at(Some(at))
}

fn exhausted() -> SyntaxError {
    SyntaxError::new(
        SyntaxErrorKind::TooLarge,
        "the statement takes too long to parse; there is a mistake inside nested CAST, POSITION, ARRAY or the like",
        "try the innermost of them alone",
    )
}

fn datafusion_error(error: &DataFusionError, sql: &str) -> SyntaxError {
    match error {
        DataFusionError::SQL(error, _) => parser_error(error, sql),
        DataFusionError::Diagnostic(_, error) | DataFusionError::Context(_, error) => {
            datafusion_error(error, sql)
        }
        other => statement_error(&other.strip_backtrace(), sql),
    }
}

fn parser_error(error: &ParserError, sql: &str) -> SyntaxError {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            statement_error(message, sql)
        }
        ParserError::RecursionLimitExceeded => SyntaxError::new(
            SyntaxErrorKind::TooLarge,
            format!("brackets or subqueries are nested more than {RECURSION_MAX} deep"),
            "take inner queries out into WITH queries, and leave out brackets",
        ),
    }
}

/// sqlparser ends its messages with the place, and names the end of the text by a token without one.
fn statement_error(message: &str, sql: &str) -> SyntaxError {
    let (message, position) = match message.rsplit_once(" at Line: ") {
        Some((before, place)) => (before, place_of(place)),
        None if message.ends_with("EOF") => (message, Some(end_of(sql))),
        None => (message, None),
    };
    SyntaxError::new(
        SyntaxErrorKind::Statement,
        message,
        "correct the statement; nothing was run",
    )
    .at(position)
}

fn place_of(place: &str) -> Option<Position> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Position {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    })
}

fn end_of(sql: &str) -> Position {
    let text = sql.trim_end();
    let last_line = text.rsplit('\n').next().unwrap_or(text);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Position {
        line: count(text.split('\n').count()),
        column: count(last_line.chars().count() + 1),
    }
}

#[cfg(test)]
mod tests;
