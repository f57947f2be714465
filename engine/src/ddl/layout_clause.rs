//! `PARTITIONED BY (…)` and `SORTED BY (…)` of a `CREATE TABLE`, taken out of its tokens.
//!
//! ```text
//! CREATE TABLE t (…) PARTITIONED BY (day(at), bucket(16, id)) SORTED BY (at DESC) AS SELECT …
//!                    └──────────── taken, kept under the place of `t` ──────────┘
//! ```
//! **Invariant**: only what stands outside all brackets, behind the table's name and before `AS`, is a clause; every
//! other token is passed on as it is.

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};
use lakesync_proto::{
    ColumnName, NullOrder, PartitionField, PartitionTransform, SortDirection, SortField,
};

use super::{name, refused};
use crate::syntax::SyntaxError;

/// How a new table's rows shall lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// `PARTITIONED BY`.
    pub(super) partition_by: Vec<PartitionField>,
    /// `SORTED BY`.
    pub(super) sort_by: Vec<SortField>,
}

/// The clauses of a whole text, each by the place of its table's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clauses(Vec<(Location, Layout)>);

impl Clauses {
    /// Those of the table that is named here.
    pub(super) fn of(&self, table: &ObjectName) -> Layout {
        let place = name::span(table).start;
        let found = self.0.iter().find(|(at, _)| *at == place);
        found.map(|(_, layout)| layout.clone()).unwrap_or_default()
    }
}

/// Takes the clauses out of the tokens of a text.
///
/// # Errors
/// With the place, for a clause that is there twice or holds something else than fields.
pub(crate) fn take_clauses(
    tokens: Vec<TokenWithSpan>,
) -> Result<(Vec<TokenWithSpan>, Clauses), SyntaxError> {
    let words: Vec<usize> = (0..tokens.len())
        .filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_)))
        .collect();
    let mut text = Text {
        tokens: &tokens,
        words: &words,
        at: 0,
    };
    let mut clauses = Clauses::default();
    let mut taken: Vec<(usize, usize)> = Vec::new();
    while text.at < words.len() {
        if let Some(table) = text.table_of_create() {
            let mut layout = Layout::default();
            text.clauses(&mut layout, &mut taken)?;
            if layout != Layout::default() {
                clauses.0.push((table, layout));
            }
        }
        text.skip_to_next_statement();
    }
    if taken.is_empty() {
        return Ok((tokens, clauses));
    }
    let mut kept = Vec::with_capacity(tokens.len());
    let mut copied = 0;
    for (from, to) in taken {
        kept.extend_from_slice(&tokens[copied..from]);
        copied = to;
    }
    kept.extend_from_slice(&tokens[copied..]);
    Ok((kept, clauses))
}

/// A walk over the tokens that mean something.
struct Text<'a> {
    tokens: &'a [TokenWithSpan],
    words: &'a [usize],
    at: usize,
}

impl Text<'_> {
    fn token(&self) -> Option<&TokenWithSpan> {
        self.words.get(self.at).map(|index| &self.tokens[*index])
    }

    fn is(&self, token: &Token) -> bool {
        self.token().is_some_and(|found| found.token == *token)
    }

    /// The place of the token, for errors; of the last one behind the end.
    fn place(&self) -> Span {
        let found = self.token().or_else(|| self.tokens.last());
        found.map_or_else(Span::empty, |token| token.span)
    }

    fn word(&self) -> Option<&Word> {
        match &self.token()?.token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        self.word().is_some_and(|word| {
            word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword)
        })
    }

    /// Steps over the words when they are all there.
    fn take(&mut self, keywords: &[&str]) -> bool {
        let from = self.at;
        for keyword in keywords {
            if !self.is_keyword(keyword) {
                self.at = from;
                return false;
            }
            self.at += 1;
        }
        true
    }

    fn take_token(&mut self, token: &Token) -> bool {
        let found = self.is(token);
        self.at += usize::from(found);
        found
    }

    fn skip_to_next_statement(&mut self) {
        while self.at < self.words.len() && !self.take_token(&Token::SemiColon) {
            self.at += 1;
        }
    }

    /// Steps over `CREATE … TABLE [IF NOT EXISTS] <name>` and gives the place of the name.
    fn table_of_create(&mut self) -> Option<Location> {
        if !self.take(&["CREATE"]) {
            return None;
        }
        // OR REPLACE, TEMPORARY and their like, which are refused later.
        while !self.take(&["TABLE"]) {
            self.word()?;
            self.at += 1;
        }
        self.take(&["IF", "NOT", "EXISTS"]);
        self.word()?;
        let place = self.place().start;
        self.at += 1;
        while self.take_token(&Token::Period) {
            self.at += 1;
        }
        Some(place)
    }

    /// Takes the clauses up to `AS` or the end of the statement.
    fn clauses(
        &mut self,
        layout: &mut Layout,
        taken: &mut Vec<(usize, usize)>,
    ) -> Result<(), SyntaxError> {
        let mut depth = 0_usize;
        while let Some(token) = self.token() {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::SemiColon if depth == 0 => return Ok(()),
                _ if depth > 0 => {}
                _ if self.is_keyword("AS") => return Ok(()),
                _ => {
                    let from = self.at;
                    let place = self.place();
                    let twice = |is_empty: bool, what: &str| match is_empty {
                        true => Ok(()),
                        false => {
                            let message = format!("{what} is there twice");
                            Err(refused(place, message, "say it once"))
                        }
                    };
                    if self.take(&["PARTITIONED", "BY"]) {
                        twice(layout.partition_by.is_empty(), "PARTITIONED BY")?;
                        layout.partition_by = self.list(Text::partition_field)?;
                    } else if self.take(&["SORTED", "BY"]) {
                        twice(layout.sort_by.is_empty(), "SORTED BY")?;
                        layout.sort_by = self.list(Text::sort_field)?;
                    }
                    if self.at > from {
                        taken.push((self.words[from], self.words[self.at - 1] + 1));
                        continue;
                    }
                }
            }
            self.at += 1;
        }
        Ok(())
    }

    /// `( field, … )`.
    fn list<F>(
        &mut self,
        field: fn(&mut Self) -> Result<F, SyntaxError>,
    ) -> Result<Vec<F>, SyntaxError> {
        let bracket = |text: &Self| {
            let next = "give the columns in brackets: PARTITIONED BY (day(at)) SORTED BY (at DESC)";
            refused(
                text.place(),
                "a list of fields is not closed or not there",
                next,
            )
        };
        if !self.take_token(&Token::LParen) {
            return Err(bracket(self));
        }
        let mut fields = vec![field(self)?];
        while self.take_token(&Token::Comma) {
            fields.push(field(self)?);
        }
        match self.take_token(&Token::RParen) {
            true => Ok(fields),
            false => Err(bracket(self)),
        }
    }

    /// `c`, `day(c)`, `bucket(16, c)`.
    fn partition_field(&mut self) -> Result<PartitionField, SyntaxError> {
        let place = self.place();
        let Some(first) = self.word().cloned() else {
            return Err(no_field(place));
        };
        self.at += 1;
        if !self.take_token(&Token::LParen) {
            return Ok(PartitionField {
                column: column(&first, place)?,
                transform: PartitionTransform::Identity,
            });
        }
        let number = match self.token().map(|token| &token.token) {
            Some(Token::Number(digits, _)) => {
                let number = digits.parse().map_err(|_| no_field(place))?;
                self.at += 1;
                if !self.take_token(&Token::Comma) {
                    return Err(no_field(place));
                }
                Some(number)
            }
            _ => None,
        };
        let transform = PartitionTransform::named(&first.value, number)
            .map_err(|error| refused(place, error.to_string(), "correct it"))?;
        let column = self.column()?;
        match self.take_token(&Token::RParen) {
            true => Ok(PartitionField { column, transform }),
            false => Err(no_field(place)),
        }
    }

    /// `c [ASC|DESC] [NULLS FIRST|LAST]`.
    fn sort_field(&mut self) -> Result<SortField, SyntaxError> {
        let column = self.column()?;
        let direction = match self.take(&["DESC"]) {
            true => SortDirection::Descending,
            false => {
                self.take(&["ASC"]);
                SortDirection::Ascending
            }
        };
        let nulls = match (
            self.take(&["NULLS", "FIRST"]),
            self.take(&["NULLS", "LAST"]),
        ) {
            (true, _) => NullOrder::First,
            (_, true) => NullOrder::Last,
            _ => direction.usual_nulls(),
        };
        Ok(SortField {
            column,
            direction,
            nulls,
        })
    }

    fn column(&mut self) -> Result<ColumnName, SyntaxError> {
        let place = self.place();
        match self.word().cloned() {
            Some(word) => {
                self.at += 1;
                column(&word, place)
            }
            None => Err(no_field(place)),
        }
    }
}

fn column(word: &Word, place: Span) -> Result<ColumnName, SyntaxError> {
    name::column(&word.clone().into_ident(place))
}

fn no_field(place: Span) -> SyntaxError {
    refused(
        place,
        "this is no field of a partitioning or a sort order",
        "PARTITIONED BY takes c, year(c), month(c), day(c), hour(c), bucket(n, c) and truncate(n, c), SORTED BY takes \
         c [ASC | DESC] [NULLS FIRST | NULLS LAST]",
    )
}
