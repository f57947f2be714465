//! What a decoder refuses, and where.
//!
//! Invariant: an error is as exact as the encoding allows: the delta's index, its table and row, the field, and the
//! byte where JSON has one.

use std::fmt;

use crate::error::{ErrorCode, shown};

/// The kind of a refusal.
#[derive(Debug, Copy, Clone, PartialEq, Eq, Hash)]
pub enum DecodeErrorKind {
    /// The bytes are no JSON or no protobuf.
    Malformed,
    /// A field is missing or null.
    MissingField,
    /// A field has the wrong type or an illegal value.
    BadField,
    /// There is no such table.
    UnknownTable,
    /// The table has no such column.
    UnknownColumn,
    /// A value is none of its column's type.
    WrongType,
    /// There are more deltas or columns than allowed.
    TooMany,
}

/// Why a body was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Refusal>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    fault: Fault,
    /// What the body is a list of.
    item: &'static str,
    index: Option<usize>,
    table: Option<String>,
    row: Option<String>,
}

impl DecodeError {
    /// What kind of refusal it is.
    pub fn kind(&self) -> DecodeErrorKind {
        self.0.fault.kind
    }

    /// The index of the failing delta or action in the body, from 0; none when the body itself is wrong.
    pub fn delta(&self) -> Option<usize> {
        self.0.index
    }

    /// The failing delta's table as the sender wrote it, shortened.
    pub fn table(&self) -> Option<&str> {
        self.0.table.as_deref()
    }

    /// The failing delta's row id as the sender wrote it, shortened.
    pub fn row(&self) -> Option<&str> {
        self.0.row.as_deref()
    }

    /// The failing field: a key of the message, or a column's name when its value is wrong.
    pub fn field(&self) -> Option<&str> {
        self.0.fault.field.as_deref()
    }

    /// The byte of the body where the failing text begins; none for protobuf.
    pub fn position(&self) -> Option<usize> {
        self.0.fault.position
    }

    /// What is wrong, without the place.
    pub fn reason(&self) -> &str {
        &self.0.fault.reason
    }

    /// The wire code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self.kind() {
            DecodeErrorKind::UnknownTable => ErrorCode::UnknownTable,
            DecodeErrorKind::UnknownColumn | DecodeErrorKind::WrongType => ErrorCode::SchemaError,
            _ => ErrorCode::ValidationError,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal {
            fault,
            item,
            index,
            table,
            row,
        } = &*self.0;
        let mut separator = "";
        if let Some(index) = index {
            write!(f, "{item} {index}")?;
            separator = ", ";
        }
        for (name, text) in [("table", table), ("row", row), ("field", &fault.field)] {
            if let Some(text) = text {
                write!(f, "{separator}{name} {text:?}")?;
                separator = ", ";
            }
        }
        if !separator.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&fault.reason)?;
        match fault.position {
            Some(position) => write!(f, " (byte {position})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> DecodeError {
        DecodeError(Box::new(Refusal {
            fault,
            item: "delta",
            index: None,
            table: None,
            row: None,
        }))
    }
}

/// A refusal that does not know its delta yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    kind: DecodeErrorKind,
    field: Option<String>,
    reason: String,
    position: Option<usize>,
}

impl Fault {
    pub(crate) fn new(kind: DecodeErrorKind, reason: impl Into<String>) -> Fault {
        Fault {
            kind,
            field: None,
            reason: reason.into(),
            position: None,
        }
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Fault {
        Fault::new(DecodeErrorKind::Malformed, reason)
    }

    pub(crate) fn missing(field: &str) -> Fault {
        let reason = format!("Missing required fields: {field}");
        Fault::new(DecodeErrorKind::MissingField, reason).field(field)
    }

    pub(crate) fn bad(field: &str, reason: impl Into<String>) -> Fault {
        Fault::new(DecodeErrorKind::BadField, reason).field(field)
    }

    pub(crate) fn too_many(field: &str, count: usize, limit: usize) -> Fault {
        let reason = format!("Too many {field}: {count}, {limit} are allowed");
        Fault::new(DecodeErrorKind::TooMany, reason).field(field)
    }

    pub(crate) fn field(mut self, field: &str) -> Fault {
        self.field = Some(shown(field));
        self
    }

    /// Tells the byte, unless a deeper place is known already.
    pub(crate) fn or_at(mut self, position: Option<usize>) -> Fault {
        self.position = self.position.or(position);
        self
    }

    /// Tells the delta, by its index and by its table and row as the sender wrote them.
    pub(crate) fn in_delta(
        self,
        delta: usize,
        table: Option<&str>,
        row: Option<&str>,
    ) -> DecodeError {
        let (table, row) = (table.map(shown), row.map(shown));
        DecodeError(Box::new(Refusal {
            fault: self,
            item: "delta",
            index: Some(delta),
            table,
            row,
        }))
    }

    /// Tells the action, by its index.
    pub(crate) fn in_action(self, action: usize) -> DecodeError {
        DecodeError(Box::new(Refusal {
            fault: self,
            item: "action",
            index: Some(action),
            table: None,
            row: None,
        }))
    }
}
