//! What is wrong with an input, on which line, and what to do about it.

use std::fmt;
use std::io;

/// What kind of mistake a [`RowError`] reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RowErrorKind {
    /// The input cannot be read.
    Input,
    /// A line is too long, is not JSON, or is no object.
    Json,
    /// A line is a row among deltas, or the other way round.
    Mixed,
    /// A value does not have the type of its column, or there is no such column.
    Value,
    /// No table can be defined for the rows.
    Definition,
}

/// An input that cannot be pushed. Displays as one line: place, what is wrong, what to do next.
#[derive(Debug)]
pub struct RowError {
    kind: RowErrorKind,
    message: String,
    next: String,
    place: Option<(u64, Option<u64>)>,
    source: Option<io::Error>,
}

impl RowError {
    pub(super) fn new(
        kind: RowErrorKind,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> RowError {
        RowError {
            kind,
            message: message.into(),
            next: next.into(),
            place: None,
            source: None,
        }
    }

    /// The same error with its line, from 1, and its byte in the input, from 0.
    pub(super) fn at(mut self, line: u64, byte: Option<u64>) -> RowError {
        self.place = Some((line, byte));
        self
    }

    pub(super) fn with_source(mut self, source: io::Error) -> RowError {
        self.source = Some(source);
        self
    }

    /// What kind of mistake this is.
    pub fn kind(&self) -> RowErrorKind {
        self.kind
    }

    /// The line it is about, from 1; none when it is about the input as a whole.
    pub fn line(&self) -> Option<u64> {
        self.place.map(|(line, _)| line)
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, Some(byte))) => write!(f, "line {line} (byte {byte}): ")?,
            Some((line, None)) => write!(f, "line {line}: ")?,
            None => {}
        }
        write!(f, "{}; {}", self.message, self.next)
    }
}

impl std::error::Error for RowError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_ref()?;
        Some(source)
    }
}
