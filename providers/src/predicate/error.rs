//! Why a condition was refused.

use std::fmt;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

/// A condition that is none, or one that cannot be decided from a row and claims alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredicateError {
    /// What is wrong and what to do.
    pub reason: String,
    /// Where in the SQL text: line and column, from 1.
    pub place: Option<(u64, u64)>,
}

impl fmt::Display for PredicateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => {
                write!(f, "line {line}, column {column}: {}", self.reason)
            }
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for PredicateError {}

impl PredicateError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            place: None,
        }
    }

    pub(super) fn at(mut self, place: Location) -> Self {
        self.place = (place.line > 0).then_some((place.line, place.column));
        self
    }

    /// An error about a name, at the first token that is this name.
    pub(super) fn about(name: &str, reason: impl Into<String>, tokens: &[TokenWithSpan]) -> Self {
        let named = |token: &&TokenWithSpan| match &token.token {
            Token::Word(word) => word.value.eq_ignore_ascii_case(name),
            _ => false,
        };
        let place = tokens.iter().find(named).map(|token| token.span.start);
        let error = Self::new(reason);
        match place {
            Some(place) => error.at(place),
            None => error,
        }
    }

    /// What the planner refused.
    pub(super) fn planning(error: &DataFusionError, tokens: &[TokenWithSpan]) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound {
                    field,
                    valid_fields,
                } => {
                    let columns = valid_fields.iter().map(|column| column.name.as_str());
                    let columns = columns.collect::<Vec<_>>().join(", ");
                    let name = field.name.as_str();
                    let reason = format!(
                        "there is no column `{name}`; there are: {columns} (a name with capitals needs double quotes)"
                    );
                    Self::about(name, reason, tokens)
                }
                other => Self::new(other.to_string()),
            },
            DataFusionError::SQL(error, _) => match error.as_ref() {
                ParserError::ParserError(text) | ParserError::TokenizerError(text) => {
                    Self::new(text.as_str())
                }
                ParserError::RecursionLimitExceeded => Self::new("it is too deep"),
            },
            other => Self::new(other.strip_backtrace()),
        }
    }
}
