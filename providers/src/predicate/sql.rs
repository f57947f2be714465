//! A condition in SQL, read and checked; `jwt('claim')` becomes a parameter.
//!
//! **Invariant:** what passes is decided by the row and the claims alone: no time, no chance, no other row. The text
//! is bounded before it is read, and read on a stack that it cannot overflow.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};
use lakesync_proto::TableSchema;

use super::error::PredicateError;
use super::field::{JWT, PLANNER, table_schema};
use super::formula::Formula;
use super::parameter::{Parameter, Parameters};

/// The most tokens of a condition: its tree is no deeper.
const TOKENS_MAX: usize = 1_000;
/// The most brackets inside each other: the parser tries some of them in several ways.
const BRACKETS_MAX: usize = 20;
/// The stack of the thread that plans a condition, in bytes: 10 KiB for each token.
const STACK_BYTES: usize = 16 << 20;
/// The most levels of a condition that is no `AND`, `OR` or `NOT`: it is evaluated on threads with 2 MiB of stack.
const LEVELS_MAX: usize = 50;

/// Functions that make as much as a number says, which may come from a client's row.
const UNBOUNDED: [&str; 8] = [
    "array_repeat",
    "array_resize",
    "generate_series",
    "list_resize",
    "lpad",
    "range",
    "repeat",
    "rpad",
];

/// A condition as a formula, with what its parameters stand for.
pub(super) struct Parsed {
    pub(super) formula: Formula,
    pub(super) parameters: Vec<Parameter>,
}

/// Reads a condition on rows of `schema`.
pub(super) fn parse(schema: &TableSchema, sql: &str) -> Result<Parsed, PredicateError> {
    let tokens = tokens(sql)?;
    with_room(|| plan(schema, sql, &tokens))
}

/// Whether a text is a SQL expression at all, whatever the table.
///
/// # Errors
/// [`PredicateError`] with the place.
pub fn check_sql(sql: &str) -> Result<(), PredicateError> {
    let tokens = tokens(sql)?;
    with_room(|| {
        read(sql)
            .map(drop)
            .map_err(|error| PredicateError::planning(&error, &tokens))
    })
}

/// The claims that a SQL text asks for, in order, whatever the table.
///
/// # Errors
/// [`PredicateError`] when the text is none.
pub fn claims_in(sql: &str) -> Result<Vec<String>, PredicateError> {
    let tokens = tokens(sql)?.into_iter().map(|token| token.token);
    let tokens: Vec<Token> = tokens
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .collect();
    let claim = |call: &[Token]| match call {
        [
            Token::Word(word),
            Token::LParen,
            Token::SingleQuotedString(claim),
        ] if word.value.eq_ignore_ascii_case(JWT) => Some(claim.clone()),
        _ => None,
    };
    Ok(tokens.windows(3).filter_map(claim).collect())
}

/// Runs `work` on a stack that no condition within the bounds overflows.
fn with_room<T: Send>(
    work: impl FnOnce() -> Result<T, PredicateError> + Send,
) -> Result<T, PredicateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("lakesync-rules".to_owned())
            .stack_size(STACK_BYTES);
        let started = thread.spawn_scoped(scope, work);
        let planned = started
            .map_err(|error| PredicateError::new(format!("no thread to plan it: {error}")))?
            .join();
        planned.unwrap_or_else(|_| {
            let reason = "the planner cannot handle it; write it in another way";
            Err(PredicateError::new(reason))
        })
    })
}

fn read(sql: &str) -> Result<ExprWithAlias, DataFusionError> {
    let dialect = &PLANNER.config().options().sql_parser.dialect;
    PLANNER.sql_to_expr_with_alias(sql, dialect)
}

fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, PredicateError> {
    let tokens = Tokenizer::new(&GenericDialect, sql)
        .tokenize_with_location()
        .map_err(|error| PredicateError::new(error.message).at(error.location))?;
    let (mut words, mut depth) = (0_usize, 0_usize);
    for token in &tokens {
        match &token.token {
            Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => {
                continue;
            }
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => {}
        }
        words += 1;
        if words > TOKENS_MAX || depth > BRACKETS_MAX {
            let reason = format!(
                "it is too long or too deep: {TOKENS_MAX} words and signs and {BRACKETS_MAX} brackets inside each \
                 other are allowed; make several buckets of it"
            );
            return Err(PredicateError::new(reason).at(token.span.start));
        }
    }
    Ok(tokens)
}

fn plan(
    schema: &TableSchema,
    sql: &str,
    tokens: &[TokenWithSpan],
) -> Result<Parsed, PredicateError> {
    let columns = table_schema(schema)?;
    let planning = |error| PredicateError::planning(&error, tokens);
    let read = read(sql).map_err(planning)?;
    if let Some(name) = &read.alias {
        let reason = "a condition has no name";
        return Err(PredicateError::about(&name.value, reason, tokens));
    }
    let expr = PLANNER
        .create_logical_expr_from_sql_expr(read, &columns)
        .map_err(planning)?;
    check(&expr, tokens)?;
    let mut parameters = Parameters::new(schema, &columns);
    let expr = parameters.take(expr).map_err(planning)?;
    let gives = expr.get_type(&columns).map_err(planning)?;
    if !gives.equals_datatype(&arrow::datatypes::DataType::Boolean) {
        let reason = format!("it is a {gives}, and a condition is true or false");
        return Err(PredicateError::new(reason));
    }
    let formula = Formula::of(expr);
    check_levels(&formula)?;
    Ok(Parsed {
        formula,
        parameters: parameters.into_inner(),
    })
}

/// Refuses what more than the row and the claims decides.
fn check(expr: &Expr, tokens: &[TokenWithSpan]) -> Result<(), PredicateError> {
    let mut refused = None;
    let mut refuse = |name: &str, reason: &str| {
        refused = Some(PredicateError::about(name, reason, tokens));
        TreeNodeRecursion::Stop
    };
    let walked = expr.apply(|expr| {
        Ok(match expr {
            Expr::AggregateFunction(call) => refuse(
                call.func.name(),
                "an aggregate looks at other rows; a condition sees one",
            ),
            Expr::WindowFunction(call) => refuse(
                call.fun.name(),
                "a window looks at other rows; a condition sees one",
            ),
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_) => refuse(
                "select",
                "a subquery looks at other rows; a condition sees one, so put what it asks for into a claim",
            ),
            Expr::ScalarFunction(call) if call.func.name() == JWT => {
                match super::parameter::claim_of(expr) {
                    Some(_) => TreeNodeRecursion::Continue,
                    None => refuse(JWT, "jwt takes the name of one claim, as in jwt('sub')"),
                }
            }
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                let name = call.func.name();
                let reason = format!(
                    "{name} is another value tomorrow, and nobody would be told; write a column instead"
                );
                refuse(name, &reason)
            }
            Expr::ScalarFunction(call) if UNBOUNDED.contains(&call.func.name()) => {
                let name = call.func.name();
                let reason = format!(
                    "{name} makes as much as a number in a row says, which is no condition's business"
                );
                refuse(name, &reason)
            }
            Expr::Placeholder(_) | Expr::ScalarVariable(_, _) => {
                refuse("", "a claim is jwt('name'); there are no other parameters")
            }
            Expr::GroupingSet(_) | Expr::Unnest(_) | Expr::OuterReferenceColumn(_, _) => {
                refuse("", "it is no condition on one row")
            }
            _ => TreeNodeRecursion::Continue,
        })
    });
    match (refused, walked) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(PredicateError::planning(&error, tokens)),
        (None, Ok(_)) => Ok(()),
    }
}

fn check_levels(formula: &Formula) -> Result<(), PredicateError> {
    match formula {
        Formula::All(parts) | Formula::Any(parts) => parts.iter().try_for_each(check_levels),
        Formula::Atom(expr) if levels(expr) > LEVELS_MAX => Err(PredicateError::new(format!(
            "an expression has more than {LEVELS_MAX} levels; write a long chain as IN (…) or concat(…)"
        ))),
        Formula::Atom(_) => Ok(()),
    }
}

fn levels(expr: &Expr) -> usize {
    let mut deepest = 0;
    let walked = expr.apply_children(|child| {
        deepest = deepest.max(levels(child));
        Ok(TreeNodeRecursion::Continue)
    });
    walked.expect("counting does not fail");
    deepest + 1
}
