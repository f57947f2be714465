//! A bound on how deep the tree of a statement can become, found before the tree is built.
//!
//! Invariant: no tree that the parser builds from tokens that passed [`check`] is deeper than [`CHAIN_TOKENS_MAX`]
//! levels for each of the parser's own recursion levels that are open at once.
//!
//! The parser bounds brackets and prefixes itself (its recursion limit), but it reads chains in a loop:
//! `1 + 1 + 1 …`, `a OR b OR …`, `x::int::int …`, `SELECT … UNION SELECT …` give a tree as deep as they are long. Such
//! a tree overflows the stack when it is dropped, already inside the parser when the chain ends in a syntax error. So
//! the length is checked here, on the tokens: a link of a chain takes at least one token that is no comma and that is
//! not inside brackets which the chain as a whole is outside of.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::error::{Position, SyntaxError, SyntaxErrorKind};

/// Most tokens in a row without a comma or semicolon, brackets and what is in them counted at their longest.
/// A term like `OR a = 1` has 4 tokens, so about a thousand of them are read.
pub(super) const CHAIN_TOKENS_MAX: usize = 4_000;

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
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), SyntaxError> {
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
        check(&tokens).is_ok()
    }

    #[test]
    fn lists_may_be_long_and_chains_may_not() {
        assert!(passes(&format!("SELECT 1 IN (1{})", ", 1".repeat(100_000))));
        assert!(passes(&format!("INSERT INTO t VALUES (-1){}", ", (-1, 'a')".repeat(50_000))));
        assert!(passes(&"SELECT 1;".repeat(10_000)));
        assert!(passes(&format!("SELECT a = 1{}", " OR a = 1".repeat(900))));
        assert!(!passes(&format!("SELECT 1{}", " + 1".repeat(2_000))));
        assert!(!passes(&format!("SELECT 1{}", " IS NULL".repeat(2_000))));
        assert!(!passes(&format!("SELECT a{}", "[1]".repeat(2_000))));
    }

    #[test]
    fn a_chain_is_not_hidden_in_brackets_or_behind_them() {
        let chain = " + 1".repeat(700);
        assert!(passes(&format!("SELECT (1{chain})")));
        // One in the other: each adds its length.
        assert!(!passes(&format!("SELECT (((1{chain}){chain}){chain})")));
        // Side by side as list elements: the longest counts.
        assert!(passes(&format!("SELECT f((1{chain}), (1{chain}), 1{chain})")));
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
}
