//! The token pass: spellings of time travel that the parser does not know become one that it does.
//!
//! ```text
//! t [FOR] VERSION AS OF <one value>          →  t AT (VERSION => <value>)
//! t [FOR] SYSTEM_VERSION AS OF <one value>   →  t AT (VERSION => <value>)
//! t FOR TIMESTAMP AS OF <expression>         →  t TIMESTAMP AS OF <expression>
//! ```
//!
//! Invariant: every token keeps the place it has in the text (an invented one takes the place of a token it stands
//! for), so errors of the parser point into the text; and nothing but the exact words above is touched, unquoted and
//! followed by a value, so a column `version` or an alias `of` stays what it is.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};
use lakesync_providers::Pinned;

use super::as_of::typed_pin;
use super::error::{Position, SyntaxError, SyntaxErrorKind};

/// Tokens the parser can read, and where time-travel clauses begin in them.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) tokens: Vec<TokenWithSpan>,
    pub(super) clauses: Vec<Position>,
}

/// Rewrites the tokens of a whole text.
///
/// # Errors
/// `TimeTravel` when a clause has no single value, stands where no table name can be before it, or when an identifier
/// is a name that [`Pinned`] makes.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Rewritten, SyntaxError> {
    let words: Vec<usize> = (0..tokens.len())
        .filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_)))
        .collect();
    let text = Significant {
        tokens: &tokens,
        words: &words,
    };
    let mut rewritten = Rewritten {
        tokens: Vec::with_capacity(tokens.len()),
        clauses: Vec::new(),
    };
    let mut copied = 0;
    let mut at = 0;
    while at < words.len() {
        text.refuse_pinned_name(at)?;
        let clause = text.clause_at(at)?;
        let (replacement, end) = match clause {
            Clause::None => (vec![tokens[words[at]].clone()], at),
            Clause::Alias => (vec![as_plain_word(&tokens[words[at]])], at),
            Clause::Function => (vec![tokens[words[at]].clone()], at),
            Clause::Timestamp => (Vec::new(), at),
            Clause::Version { word, value } => (text.at_version(at, word, value), value),
        };
        if !matches!(clause, Clause::None | Clause::Alias) {
            rewritten.clauses.extend(text.position(at));
        }
        rewritten
            .tokens
            .extend_from_slice(&tokens[copied..words[at]]);
        rewritten.tokens.extend(replacement);
        copied = words[end] + 1;
        at = end + 1;
    }
    rewritten.tokens.extend_from_slice(&tokens[copied..]);
    Ok(rewritten)
}

/// The texts between the semicolons of `sql`, without those that hold only whitespace and comments.
pub(super) fn between_semicolons<'a>(sql: &'a str, tokens: &[TokenWithSpan]) -> Vec<&'a str> {
    let mut spans = Vec::new();
    let mut span: Option<Span> = None;
    for token in tokens {
        match token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon => spans.extend(span.take()),
            _ => span = Some(span.map_or(token.span, |span| span.union(&token.span))),
        }
    }
    spans.extend(span);
    let mut places = Places::new(sql);
    spans
        .into_iter()
        .map(|span| &sql[places.byte_of(span.start)..places.byte_of(span.end)])
        .collect()
}

/// Turns places into bytes, in one walk over the text; so they must be asked for in order.
struct Places<'a> {
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
    end: usize,
    line: u64,
    column: u64,
}

impl<'a> Places<'a> {
    fn new(sql: &'a str) -> Places<'a> {
        Places {
            chars: sql.char_indices().peekable(),
            end: sql.len(),
            line: 1,
            column: 1,
        }
    }

    fn byte_of(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.chars.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.chars.peek().map_or(self.end, |(byte, _)| *byte)
    }
}

/// What begins at a token.
#[derive(Clone, Copy)]
enum Clause {
    /// Nothing of ours.
    None,
    /// `[FOR] (VERSION|SYSTEM_VERSION) AS OF <value>`, with the indexes of the word and of the value.
    Version { word: usize, value: usize },
    /// The `FOR` of `FOR TIMESTAMP AS OF`.
    Timestamp,
    /// `AT (name => …` or `BEFORE (name => …`, which the parser knows.
    Function,
    /// `AT` or `BEFORE` as a plain name: with table versioning on, the parser would expect arguments.
    Alias,
}

/// The tokens without whitespace and comments.
struct Significant<'a> {
    tokens: &'a [TokenWithSpan],
    words: &'a [usize],
}

impl Significant<'_> {
    fn token(&self, at: usize) -> Option<&TokenWithSpan> {
        self.words.get(at).map(|index| &self.tokens[*index])
    }

    fn position(&self, at: usize) -> Option<Position> {
        self.token(at).and_then(|t| Position::of(t.span))
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(
            self.token(at).map(|t| &t.token),
            Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word)
        )
    }

    fn clause_at(&self, at: usize) -> Result<Clause, SyntaxError> {
        let clause = self.clause_that_begins(at)?;
        if !matches!(clause, Clause::None | Clause::Alias) && at > 0 {
            self.refuse_after(at - 1, at)?;
        }
        Ok(clause)
    }

    fn clause_that_begins(&self, at: usize) -> Result<Clause, SyntaxError> {
        if self.is_word(at, "AT") || self.is_word(at, "BEFORE") {
            return Ok(self.at_or_before(at));
        }
        let has_for = self.is_word(at, "FOR");
        let word = if has_for { at + 1 } else { at };
        let version = self.is_word(word, "VERSION") || self.is_word(word, "SYSTEM_VERSION");
        let timestamp = has_for && self.is_word(word, "TIMESTAMP");
        if !(version || timestamp) || !self.is_word(word + 1, "AS") || !self.is_word(word + 2, "OF")
        {
            return Ok(Clause::None);
        }
        let value = word + 3;
        match (version, self.is_value(value)) {
            (false, _) => Ok(Clause::Timestamp),
            (true, true) => Ok(Clause::Version { word, value }),
            (true, false) if has_for => Err(self.no_value(value)),
            // A column `version` with the alias `of`; if it is not, the parser says what it expected.
            (true, false) => Ok(Clause::None),
        }
    }

    /// `AT` and `BEFORE` are clauses with a named argument, keywords in `AT TIME ZONE` and in triggers, else names.
    fn at_or_before(&self, at: usize) -> Clause {
        let is = |at: usize, token: &Token| self.token(at).is_some_and(|t| t.token == *token);
        if is(at + 1, &Token::LParen) {
            return if is(at + 3, &Token::RArrow) {
                Clause::Function
            } else {
                Clause::None
            };
        }
        let goes_on = if self.is_word(at, "AT") {
            self.is_word(at + 1, "TIME")
        } else {
            ["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
                .iter()
                .any(|event| self.is_word(at + 1, event))
        };
        if goes_on { Clause::None } else { Clause::Alias }
    }

    fn is_value(&self, at: usize) -> bool {
        matches!(
            self.token(at).map(|t| &t.token),
            Some(
                Token::Number(..)
                    | Token::SingleQuotedString(_)
                    | Token::EscapedStringLiteral(_)
                    | Token::DollarQuotedString(_)
                    | Token::Placeholder(_)
            )
        )
    }

    /// `AT (VERSION => <value>)`, with the places of the tokens it replaces.
    fn at_version(&self, first: usize, word: usize, value: usize) -> Vec<TokenWithSpan> {
        let span = |at: usize| self.tokens[self.words[at]].span;
        let value_token = self.tokens[self.words[value]].token.clone();
        vec![
            TokenWithSpan::new(Token::make_keyword("AT"), span(first)),
            TokenWithSpan::new(Token::LParen, span(word)),
            TokenWithSpan::new(Token::make_keyword("VERSION"), span(word)),
            TokenWithSpan::new(Token::RArrow, span(word + 1)),
            TokenWithSpan::new(value_token, span(value)),
            TokenWithSpan::new(Token::RParen, span(value)),
        ]
    }

    fn no_value(&self, at: usize) -> SyntaxError {
        let found = self
            .token(at)
            .map_or_else(|| "the end".to_owned(), |t| t.token.to_string());
        SyntaxError::new(
            SyntaxErrorKind::TimeTravel,
            format!("VERSION AS OF takes one snapshot id, found {found}"),
            "write t FOR VERSION AS OF <snapshot id>",
        )
        .at(self.position(at).or_else(|| self.position(at - 1)))
    }

    /// A closing bracket ends a subquery or a function call, and `AS x` has already named the table.
    fn refuse_after(&self, before: usize, clause: usize) -> Result<(), SyntaxError> {
        let bracket = matches!(self.token(before).map(|t| &t.token), Some(Token::RParen));
        let alias = before
            .checked_sub(1)
            .is_some_and(|as_word| self.is_word(as_word, "AS"));
        let (message, next) = if bracket {
            (
                "only a table can be read as of an earlier state, not a subquery or a table function",
                "put the clause after each table name inside it",
            )
        } else if alias {
            (
                "the alias comes after the time-travel clause",
                "write t VERSION AS OF <snapshot id> AS x",
            )
        } else {
            return Ok(());
        };
        Err(SyntaxError::new(SyntaxErrorKind::TimeTravel, message, next).at(self.position(clause)))
    }

    /// Names that the engine makes are not for typing: a mistyped one would be a table that never exists.
    fn refuse_pinned_name(&self, at: usize) -> Result<(), SyntaxError> {
        let Some(Token::Word(word)) = self.token(at).map(|t| &t.token) else {
            return Ok(());
        };
        match Pinned::parse(&word.value) {
            Some(pinned) => Err(typed_pin(&pinned).at(self.position(at))),
            None => Ok(()),
        }
    }
}

fn as_plain_word(token: &TokenWithSpan) -> TokenWithSpan {
    let mut plain = token.clone();
    if let Token::Word(Word { keyword, .. }) = &mut plain.token {
        *keyword = Keyword::NoKeyword;
    }
    plain
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::super::dialect::LakeDialect;
    use super::*;

    fn tokens(sql: &str) -> Vec<TokenWithSpan> {
        Tokenizer::new(&LakeDialect::for_tokens(0), sql)
            .tokenize_with_location()
            .expect("the text is made of tokens")
    }

    fn check(sql: &str, expected: &str) {
        let without_space = |tokens: Vec<TokenWithSpan>| -> Vec<Token> {
            let tokens = tokens.into_iter().map(|t| t.token);
            tokens
                .filter(|t| !matches!(t, Token::Whitespace(_)))
                .collect()
        };
        let rewritten = rewrite(tokens(sql)).expect("the clauses are right");
        let expected = without_space(tokens(expected));
        assert_eq!(without_space(rewritten.tokens), expected, "{sql}");
    }

    #[test]
    fn version_clauses_become_a_function() {
        for clause in [
            "VERSION AS OF 3",
            "for version as of 3",
            "SYSTEM_VERSION AS OF 3",
            "FOR SYSTEM_VERSION  AS /* why */ OF 3",
        ] {
            check(
                &format!("SELECT * FROM t {clause} AS x WHERE a = 1"),
                "SELECT * FROM t AT (VERSION => 3) AS x WHERE a = 1",
            );
        }
        check(
            "FROM t FOR VERSION AS OF 'audit', u VERSION AS OF $1",
            "FROM t AT (VERSION => 'audit'), u AT (VERSION => $1)",
        );
    }

    #[test]
    fn for_is_dropped_before_timestamp() {
        check(
            "FROM t FOR TIMESTAMP AS OF now() - INTERVAL '1' DAY x",
            "FROM t TIMESTAMP AS OF now() - INTERVAL '1' DAY x",
        );
    }

    #[test]
    fn other_uses_of_the_words_are_left_alone() {
        for sql in [
            "SELECT version AS of FROM timestamp AS of",
            "SELECT version , timestamp FROM version AS t FOR UPDATE",
            "SELECT \"VERSION\" AS OF , \"FOR\" VERSION FROM t",
            "SELECT * FROM t \"VERSION\" AS OF 3",
            "SELECT * FROM t FOR \"VERSION\" AS OF 3",
            "SELECT 'VERSION AS OF 3' , version as , of , 3",
            "SELECT a AT TIME ZONE 'UTC' FROM t at (a, b)",
            "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        ] {
            let before = tokens(sql);
            let after = rewrite(before.clone()).expect("nothing to refuse");
            assert_eq!(after.tokens, before, "{sql}");
            assert_eq!(after.clauses, [], "{sql}");
        }
    }

    #[test]
    fn tokens_keep_their_places() {
        let rewritten = rewrite(tokens("FROM t\n  FOR VERSION AS OF 3 x")).expect("right");
        let place = |wanted: &str| {
            let token = rewritten
                .tokens
                .iter()
                .find(|t| t.token.to_string() == wanted);
            Position::of(token.expect("the token is there").span)
        };
        let position = |line, column| Some(Position { line, column });
        assert_eq!(place("AT"), position(2, 3));
        assert_eq!(place("VERSION"), position(2, 7));
        assert_eq!(place("=>"), position(2, 15));
        assert_eq!(place("3"), position(2, 21));
        assert_eq!(place("x"), position(2, 23));
        assert_eq!(rewritten.clauses, [Position { line: 2, column: 3 }]);
    }

    #[test]
    fn clauses_in_the_wrong_place_are_refused() {
        for (sql, fragment, column) in [
            ("FROM (SELECT 1) FOR VERSION AS OF 3", "only a table", 17),
            ("FROM f(1) VERSION AS OF 3", "only a table", 11),
            ("FROM f(1) FOR TIMESTAMP AS OF now()", "only a table", 11),
            ("FROM t AS x VERSION AS OF 3", "alias comes after", 13),
            ("FROM t AS x AT (VERSION => 3)", "alias comes after", 13),
            ("FROM f(1) BEFORE (TIMESTAMP => 3)", "only a table", 11),
            ("FROM t FOR VERSION AS OF x", "found x", 26),
            ("FROM t FOR VERSION AS OF", "found the end", 23),
            ("FROM \"t@version:3\"", "t VERSION AS OF 3", 6),
        ] {
            let error = rewrite(tokens(sql)).expect_err(sql);
            assert!(error.to_string().contains(fragment), "{sql}: {error}");
            assert_eq!(error.position().map(|p| p.column), Some(column), "{sql}");
        }
    }
}
