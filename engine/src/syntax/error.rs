//! What is wrong with a SQL text, where, and what to do about it.
//!
//! Invariant: an error of this module means that nothing of the text was run, because a text is parsed as a whole
//! before its first statement is.

use std::fmt;

use datafusion::sql::sqlparser::tokenizer::Span;

/// A place in a SQL text. Lines and columns count from 1; a column is a number of characters, not of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl Position {
    /// Where a span begins; none for a span that is not from the text.
    pub(crate) fn of(span: Span) -> Option<Position> {
        (span.start.line > 0).then_some(Position {
            line: span.start.line,
            column: span.start.column,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What kind of mistake a [`SyntaxError`] reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyntaxErrorKind {
    /// The text is no statement that the dialect knows, or holds a clause that the engine would have to ignore.
    Statement,
    /// The text is longer, or nests deeper, than the engine takes.
    TooLarge,
    /// A time-travel clause that is wrong, not supported, or on something that cannot travel.
    TimeTravel,
    /// A `CALL` whose procedure name or arguments are wrong.
    Call,
}

/// A SQL text that cannot be run. Displays as one line: place, what is wrong, what to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyntaxError {
    kind: SyntaxErrorKind,
    message: String,
    next: String,
    position: Option<Position>,
    excerpt: Option<String>,
}

/// The longest piece of a line that an excerpt shows on either side of the mistake, in characters.
const EXCERPT_CHARS: usize = 50;

impl SyntaxError {
    /// An error of `kind` that says what is wrong (`message`) and the caller's `next` step.
    pub fn new(
        kind: SyntaxErrorKind,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> SyntaxError {
        SyntaxError {
            kind,
            message: message.into(),
            next: next.into(),
            position: None,
            excerpt: None,
        }
    }

    /// The same error with the place it is about, when that is known.
    #[must_use]
    pub fn at(mut self, position: Option<Position>) -> SyntaxError {
        self.position = position.or(self.position);
        self
    }

    /// The same error at `position` when it has no place of its own.
    pub(crate) fn or_at(self, position: Option<Position>) -> SyntaxError {
        match self.position {
            Some(_) => self,
            None => self.at(position),
        }
    }

    /// What kind of mistake this is.
    pub fn kind(&self) -> SyntaxErrorKind {
        self.kind
    }

    /// Where in the text the mistake is; none when it concerns the text as a whole.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Two lines for people, without a line end: the line of the text that is wrong, and a caret under the place.
    pub fn excerpt(&self) -> Option<&str> {
        self.excerpt.as_deref()
    }

    /// The same error with the excerpt of `sql` it is about.
    pub(super) fn in_text(mut self, sql: &str) -> SyntaxError {
        self.excerpt = self.position.and_then(|at| excerpt(sql, at));
        self
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        write!(f, "{}; {}", self.message, self.next)
    }
}

impl std::error::Error for SyntaxError {}

fn excerpt(sql: &str, at: Position) -> Option<String> {
    let index = usize::try_from(at.line.checked_sub(1)?).ok()?;
    let column = usize::try_from(at.column.checked_sub(1)?).ok()?;
    let line = sql.split('\n').nth(index)?;
    let start = column.saturating_sub(EXCERPT_CHARS);
    let shown: String = line
        .chars()
        .skip(start)
        .take(2 * EXCERPT_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Some(format!(
        "{}\n{:>2$}",
        shown.trim_end(),
        '^',
        column - start + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u64, column: u64) -> Position {
        Position { line, column }
    }

    #[test]
    fn an_excerpt_marks_the_place_under_its_line() {
        let text = "select 1;\nselect é\tform t";
        assert_eq!(
            excerpt(text, place(2, 10)).as_deref(),
            Some("select é form t\n         ^")
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let shown = excerpt(&text, place(1, 301)).expect("the place is in the text");
        let (line, caret) = shown.split_once('\n').expect("two lines");
        assert_eq!(line.chars().count(), 100);
        assert_eq!(line.find('X'), caret.find('^'));
    }

    #[test]
    fn a_place_outside_the_text_has_no_excerpt() {
        assert_eq!(excerpt("select 1", place(4, 1)), None);
        assert_eq!(excerpt("select 1", place(0, 0)), None);
    }
}
