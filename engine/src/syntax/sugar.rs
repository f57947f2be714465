//! `OPTIMIZE` and `VACUUM`: other words for calls.
//!
//! ```text
//! OPTIMIZE [TABLE] [g.]t [FULL] [DRY RUN]              →  CALL system.optimize('g.t', full => true, dry_run => true)
//! VACUUM [[TABLE] [g.]t] [RETAIN n HOURS|DAYS] [DRY RUN]  →  CALL system.vacuum('g.t', retain_hours => n, dry_run => true)
//! ```
//! They stand where a statement begins, also behind `EXPLAIN`.
//!
//! **Invariant:** every word of such a statement is read or refused with its place; no other statement is touched, and an
//! invented token has the place of a word that it stands for.

use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::error::{Position, SyntaxError, SyntaxErrorKind};

/// Puts calls in place of the statements of a text that are sugar for one.
///
/// # Errors
/// With the place, for a word that does not belong there.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SyntaxError> {
    if !tokens
        .iter()
        .any(|token| is(token, "OPTIMIZE") || is(token, "VACUUM"))
    {
        return Ok(tokens);
    }
    let mut rewritten = Vec::with_capacity(tokens.len());
    for statement in tokens.split_inclusive(|token| token.token == Token::SemiColon) {
        let words: Vec<&TokenWithSpan> = statement
            .iter()
            .filter(|token| {
                !matches!(
                    token.token,
                    Token::Whitespace(_) | Token::SemiColon | Token::EOF
                )
            })
            .collect();
        let explained = usize::from(words.first().is_some_and(|word| is(word, "EXPLAIN")));
        let call = match words.get(explained) {
            Some(word) if is(word, "OPTIMIZE") => optimize(&words[explained..])?,
            Some(word) if is(word, "VACUUM") => vacuum(&words[explained..])?,
            _ => {
                rewritten.extend_from_slice(statement);
                continue;
            }
        };
        rewritten.extend(words[..explained].iter().map(|word| (*word).clone()));
        rewritten.extend(call);
        let end = |token: &&TokenWithSpan| matches!(token.token, Token::SemiColon | Token::EOF);
        rewritten.extend(statement.iter().filter(end).cloned());
    }
    Ok(rewritten)
}

const OPTIMIZE: &str = "write OPTIMIZE [TABLE] t [FULL] [DRY RUN]";
const VACUUM: &str = "write VACUUM [t] [RETAIN n HOURS|DAYS] [DRY RUN]";

fn optimize(words: &[&TokenWithSpan]) -> Result<Vec<TokenWithSpan>, SyntaxError> {
    let mut text = Text::new(words, OPTIMIZE);
    let mut call = Call::begin(text.span(), "optimize");
    text.take(&["TABLE"]);
    match text.table()? {
        Some((name, span)) => call.argument(span, None, Token::SingleQuotedString(name)),
        None => return Err(text.wrong("OPTIMIZE needs the name of a table")),
    }
    let span = text.span();
    if text.take(&["FULL"]) {
        call.argument(span, Some("full"), boolean());
    }
    text.end(call)
}

fn vacuum(words: &[&TokenWithSpan]) -> Result<Vec<TokenWithSpan>, SyntaxError> {
    let mut text = Text::new(words, VACUUM);
    let mut call = Call::begin(text.span(), "vacuum");
    let named = text.take(&["TABLE"]);
    match text.table()? {
        Some((name, span)) => call.argument(span, None, Token::SingleQuotedString(name)),
        None if named => return Err(text.wrong("TABLE needs a name behind it")),
        None => {}
    }
    if text.take(&["RETAIN"]) {
        let span = text.span();
        let hours = text.hours()?;
        call.argument(
            span,
            Some("retain_hours"),
            Token::Number(hours.to_string(), false),
        );
    }
    text.end(call)
}

/// The words of one statement, read from left to right.
struct Text<'a> {
    words: &'a [&'a TokenWithSpan],
    at: usize,
    usage: &'static str,
}

impl<'a> Text<'a> {
    /// Behind the first word.
    fn new(words: &'a [&'a TokenWithSpan], usage: &'static str) -> Self {
        Self {
            words,
            at: 1,
            usage,
        }
    }

    /// The place of the next word, or of the last one.
    fn span(&self) -> Span {
        let word = self.words.get(self.at).or(self.words.last());
        word.map_or_else(Span::empty, |word| word.span)
    }

    /// Steps over the words when they are all there.
    fn take(&mut self, keywords: &[&str]) -> bool {
        let found = keywords.iter().enumerate().all(|(n, keyword)| {
            self.words
                .get(self.at + n)
                .is_some_and(|word| is(word, keyword))
        });
        self.at += if found { keywords.len() } else { 0 };
        found
    }

    /// `t` or `g.t`, and its place; none when no name stands here.
    fn table(&mut self) -> Result<Option<(String, Span)>, SyntaxError> {
        let span = self.span();
        let Some(first) = self.name() else {
            return Ok(None);
        };
        if self
            .words
            .get(self.at)
            .is_none_or(|word| word.token != Token::Period)
        {
            return Ok(Some((first, span)));
        }
        self.at += 1;
        match self.name() {
            Some(second) => Ok(Some((format!("{first}.{second}"), span))),
            None => Err(self.wrong("a name is missing behind the dot")),
        }
    }

    /// A name as it is looked up: in lower case unless it was quoted. The words of the clauses are names only in quotes.
    fn name(&mut self) -> Option<String> {
        let Token::Word(word) = &self.words.get(self.at)?.token else {
            return None;
        };
        let clauses = ["FULL", "DRY", "RETAIN"];
        let name = match word.quote_style {
            Some(_) => word.value.clone(),
            None if clauses
                .iter()
                .any(|clause| word.value.eq_ignore_ascii_case(clause)) =>
            {
                return None;
            }
            None => word.value.to_ascii_lowercase(),
        };
        self.at += 1;
        Some(name)
    }

    /// `n HOURS` or `n DAYS`, in hours.
    fn hours(&mut self) -> Result<u64, SyntaxError> {
        let number = match self.words.get(self.at).map(|word| &word.token) {
            Some(Token::Number(digits, _)) => digits.parse::<u64>().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.wrong("RETAIN needs a whole number"))?;
        self.at += 1;
        let hours = if self.take(&["HOURS"]) || self.take(&["HOUR"]) {
            Some(number)
        } else if self.take(&["DAYS"]) || self.take(&["DAY"]) {
            number.checked_mul(24)
        } else {
            return Err(self.wrong("RETAIN needs its unit, HOURS or DAYS"));
        };
        hours.ok_or_else(|| self.wrong("RETAIN is too long"))
    }

    /// `[DRY RUN]` and nothing more.
    fn end(mut self, mut call: Call) -> Result<Vec<TokenWithSpan>, SyntaxError> {
        let span = self.span();
        if self.take(&["DRY", "RUN"]) {
            call.argument(span, Some("dry_run"), boolean());
        }
        match self.words.get(self.at) {
            None => Ok(call.end()),
            Some(word) => Err(self.wrong(&format!("{} does not belong here", word.token))),
        }
    }

    fn wrong(&self, message: &str) -> SyntaxError {
        SyntaxError::new(SyntaxErrorKind::Statement, message, self.usage)
            .at(Position::of(self.span()))
    }
}

/// The tokens of a call as they come together.
struct Call {
    tokens: Vec<TokenWithSpan>,
    arguments: usize,
    span: Span,
}

impl Call {
    fn begin(span: Span, procedure: &str) -> Self {
        let tokens = [
            Token::make_keyword("CALL"),
            Token::make_word("system", None),
            Token::Period,
            Token::make_word(procedure, None),
            Token::LParen,
        ];
        let tokens = tokens
            .into_iter()
            .map(|token| TokenWithSpan::new(token, span));
        Self {
            tokens: tokens.collect(),
            arguments: 0,
            span,
        }
    }

    fn argument(&mut self, span: Span, name: Option<&str>, value: Token) {
        let mut push = |token| self.tokens.push(TokenWithSpan::new(token, span));
        if self.arguments > 0 {
            push(Token::Comma);
        }
        if let Some(name) = name {
            push(Token::make_word(name, None));
            push(Token::RArrow);
        }
        push(value);
        self.arguments += 1;
    }

    fn end(mut self) -> Vec<TokenWithSpan> {
        self.tokens
            .push(TokenWithSpan::new(Token::RParen, self.span));
        self.tokens
    }
}

fn boolean() -> Token {
    Token::make_keyword("TRUE")
}

fn is(token: &TokenWithSpan, keyword: &str) -> bool {
    match &token.token {
        Token::Word(Word {
            value,
            quote_style: None,
            ..
        }) => value.eq_ignore_ascii_case(keyword),
        _ => false,
    }
}
