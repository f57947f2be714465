//! Bounds on how deep the tree and the plan of a statement become.
//!
//! Invariant: what passes neither overflows the stack in the parser, nor later in DataFusion when it runs on threads
//! with 8 MiB of stack; without optimisation DataFusion takes about 10 KiB of stack for each level of an expression.
//!
//! The parser bounds brackets and prefixes itself (its recursion limit), but it reads chains in a loop: `1 + 1 + 1 …`,
//! `a OR b OR …`, `x::int::int …`, `SELECT … UNION SELECT …` give a tree as deep as they are long. Far too deep a tree
//! overflows the stack when it is dropped, already inside the parser when the chain ends in a syntax error. So there
//! are two checks: [`check_tokens`] before the tree is built, coarse but sure; [`check_statement`] on the tree, exact.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SetExpr, TableFactor, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::error::{Position, SyntaxError, SyntaxErrorKind};
use super::visit_parts;

/// Most tokens in a row without a comma or semicolon, brackets and what is in them counted at their longest. A link of
/// a chain takes at least one token that is no comma and not inside brackets which the whole chain is outside of, so
/// no tree is deeper than this for each bracket level that is open at once.
const CHAIN_TOKENS_MAX: usize = 16_000;

/// Most levels of an expression.
const LEVELS_MAX: usize = 300;

/// Most joins, set operations, subqueries and window functions of a statement: the steps that DataFusion puts one on
/// top of the other.
const STEPS_MAX: usize = 300;

/// Refuses a statement whose plan could become too deep.
pub(super) fn check_statement(statement: &mut Statement) -> Result<(), SyntaxError> {
    let mut depth = Depth::default();
    let place = match visit_parts(statement, &mut depth) {
        ControlFlow::Continue(()) => None,
        ControlFlow::Break(place) => Some(place),
    };
    match depth.refused {
        Some(error) => Err(error.at(place)),
        None => Ok(()),
    }
}

/// Counts, and once a limit is passed goes on to the next name or literal, whose place it breaks with: asking the tree
/// for its span would descend to its end on the stack.
#[derive(Default)]
struct Depth {
    levels: usize,
    steps: usize,
    refused: Option<SyntaxError>,
}

type Flow = ControlFlow<Position>;

impl VisitorMut for Depth {
    type Break = Position;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        self.levels += 1;
        if self.levels > LEVELS_MAX {
            self.refuse(
                format!("an expression has more than {LEVELS_MAX} levels"),
                "write long OR chains as IN (…) and long || chains as concat(…)",
            );
        }
        if matches!(expr, Expr::Function(function) if function.over.is_some()) {
            self.step(1);
        }
        match (&self.refused, place_of_leaf(expr)) {
            (Some(_), Some(place)) => ControlFlow::Break(place),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> Flow {
        self.levels -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        self.step(1);
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::SetOperation { left, right, .. } => {
                    self.step(1);
                    bodies.extend([left.as_ref(), right.as_ref()]);
                }
                SetExpr::Select(select) => self.step(joins(select)),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = factor
        {
            self.step(table_with_joins.joins.len());
        }
        ControlFlow::Continue(())
    }
}

impl Depth {
    fn step(&mut self, count: usize) {
        self.steps += count;
        if self.steps > STEPS_MAX {
            self.refuse(
                format!(
                    "a statement has more than {STEPS_MAX} joins, set operations, subqueries and window functions"
                ),
                "split it, or write long UNION chains of constants as VALUES (…)",
            );
        }
    }

    fn refuse(&mut self, message: String, next: &str) {
        self.refused
            .get_or_insert_with(|| SyntaxError::new(SyntaxErrorKind::TooLarge, message, next));
    }
}

fn place_of_leaf(expr: &Expr) -> Option<Position> {
    match expr {
        Expr::Identifier(name) => Position::of(name.span),
        Expr::CompoundIdentifier(names) => Position::of(names.first()?.span),
        Expr::Value(value) => Position::of(value.span),
        _ => None,
    }
}

fn joins(select: &Select) -> usize {
    let joined = select.from.iter().map(|table| 1 + table.joins.len());
    joined.sum::<usize>().saturating_sub(1)
}

/// What has been seen between two brackets.
#[derive(Default)]
struct Level {
    /// Tokens since the last comma.
    tokens: usize,
    /// The longest inner level since the last comma.
    inner: usize,
    /// The longest run before the last comma.
    longest: usize,
}

impl Level {
    fn run(&self) -> usize {
        self.tokens + self.inner
    }

    fn total(&self) -> usize {
        self.longest.max(self.run())
    }

    fn separate(&mut self) {
        *self = Level {
            longest: self.total(),
            ..Level::default()
        };
    }

    fn close(&mut self, inner: &Level) {
        self.inner = self.inner.max(inner.total());
    }
}

/// Refuses tokens whose statement could become too deep a tree.
pub(super) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<(), SyntaxError> {
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::SemiColon => {
                outer.clear();
                level = Level::default();
                continue;
            }
            Token::Comma => {
                level.separate();
                continue;
            }
            Token::LParen | Token::LBracket | Token::LBrace => {
                level.tokens += 1;
                outer.push(std::mem::take(&mut level));
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if let Some(mut parent) = outer.pop() {
                    parent.close(&level);
                    level = parent;
                }
                level.tokens += 1;
            }
            _ => level.tokens += 1,
        }
        if level.run() > CHAIN_TOKENS_MAX {
            return Err(SyntaxError::new(
                SyntaxErrorKind::TooLarge,
                format!("an expression or query runs over more than {CHAIN_TOKENS_MAX} words and signs without a comma"),
                "write long OR chains as IN (…), long UNION chains as VALUES (…) or several statements",
            )
            .at(Position::of(token.span)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::super::dialect::LakeDialect;
    use super::*;

    fn passes(sql: &str) -> bool {
        let tokens = Tokenizer::new(&LakeDialect::for_tokens(0), sql)
            .tokenize_with_location()
            .expect("the text is made of tokens");
        check_tokens(&tokens).is_ok()
    }

    #[test]
    fn lists_may_be_long_and_chains_may_not() {
        assert!(passes(&format!("SELECT 1 IN (1{})", ", 1".repeat(100_000))));
        assert!(passes(&format!(
            "INSERT INTO t VALUES (-1){}",
            ", (-1, 'a')".repeat(50_000)
        )));
        assert!(passes(&"SELECT 1;".repeat(10_000)));
        assert!(passes(&format!(
            "SELECT CASE a{} END",
            " WHEN 1 THEN 2".repeat(3_000)
        )));
        assert!(!passes(&format!("SELECT 1{}", " + 1".repeat(8_000))));
        assert!(!passes(&format!("SELECT 1{}", " IS NULL".repeat(8_000))));
        assert!(!passes(&format!("SELECT a{}", "[1]".repeat(8_000))));
    }

    #[test]
    fn a_chain_is_not_hidden_in_brackets_or_behind_them() {
        let chain = " + 1".repeat(CHAIN_TOKENS_MAX / 5);
        assert!(passes(&format!("SELECT (1{chain}){chain}")));
        // One in the other: each adds its length.
        assert!(!passes(&format!("SELECT (((1{chain}){chain}){chain})")));
        // Side by side as list elements: the longest counts.
        assert!(passes(&format!(
            "SELECT f((1{chain}), (1{chain}), 1{chain})"
        )));
        // A list element ends its run, but not that of the function call it is in.
        assert!(!passes(&format!("SELECT f(1{chain}, 1){chain}{chain}")));
        assert!(!passes(&format!("SELECT f(1, 1{chain}){chain}{chain}")));
    }

    #[test]
    fn brackets_that_do_not_match_do_no_harm() {
        assert!(passes("SELECT )))(((]]]{{{"));
        assert!(passes(&")".repeat(CHAIN_TOKENS_MAX)));
        assert!(!passes(&")".repeat(CHAIN_TOKENS_MAX + 1)));
    }

    fn check_depth(sql: &str) -> bool {
        match super::super::parse(sql) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    SyntaxErrorKind::TooLarge,
                    "{sql:.60}: {error}"
                );
                false
            }
        }
    }

    #[test]
    fn plans_have_a_greatest_depth() {
        // The statement for a size, and by how much it may exceed the limit's number.
        type Nested = fn(usize) -> String;
        let statements: &[(Nested, usize)] = &[
            (|n| format!("SELECT 1{}", " + 1".repeat(n)), 0),
            (|n| format!("SELECT a{} FROM t", "::int".repeat(n)), 0),
            (
                |n| format!("SELECT * FROM t WHERE a = 1{}", " OR a = 1".repeat(n)),
                1,
            ),
            (
                |n| format!("SELECT * FROM t ORDER BY a{}", " || a".repeat(n)),
                0,
            ),
            (
                |n| format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n)),
                0,
            ),
            (
                |n| format!("SELECT 1 UNION SELECT 1{}", " INTERSECT SELECT 1".repeat(n)),
                1,
            ),
            (|n| format!("SELECT 1 FROM t{}", ", t".repeat(n)), 0),
            (
                |n| format!("SELECT 1 FROM t{}", " CROSS JOIN t".repeat(n)),
                0,
            ),
            (
                |n| format!("SELECT 1 FROM u, (t{})", " CROSS JOIN t".repeat(n)),
                1,
            ),
            (|n| format!("SELECT 1{}", ", (SELECT 1)".repeat(n)), 0),
            (
                |n| format!("SELECT 1{} FROM t", ", sum(a) OVER (ORDER BY b)".repeat(n)),
                0,
            ),
            (
                |n| {
                    format!(
                        "WITH a AS (SELECT 1){} SELECT 1",
                        ", a AS (SELECT 1)".repeat(n)
                    )
                },
                1,
            ),
            (
                |n| format!("COPY (SELECT 1{}) TO 'x'", " UNION SELECT 1".repeat(n)),
                0,
            ),
            (
                |n| format!("EXPLAIN INSERT INTO t SELECT 1{}", " + 1".repeat(n)),
                0,
            ),
        ];
        for (statement, more) in statements {
            let most = LEVELS_MAX - 1 - more;
            assert!(check_depth(&statement(most)), "{:.60}", statement(1));
            assert!(!check_depth(&statement(most + 1)), "{:.60}", statement(1));
        }
    }

    #[test]
    fn a_statement_that_is_too_deep_is_refused_with_a_place_in_it() {
        let sql = format!("SELECT 1;\nSELECT abc{}", " + 1".repeat(LEVELS_MAX));
        let error = super::super::parse(&sql).expect_err("too deep");
        assert_eq!(error.position(), Some(Position { line: 2, column: 8 }));
    }
}
