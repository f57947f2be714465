//! The stable error codes of the wire.
//!
//! Invariant: a code's text never changes once shipped; clients branch on it.

use std::fmt;

use crate::limits::SHOWN_CHARS_MAX;

/// What an error answer's `code` says. HTTP statuses are the gateway's business.
#[derive(Debug, Copy, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is malformed.
    ValidationError,
    /// The schema, or a delta against it, is wrong.
    SchemaError,
    /// The schema is sound, but a table cannot change to it.
    SchemaConflict,
    /// No token, or a bad one.
    AuthError,
    /// The token does not allow this.
    Forbidden,
    /// No such route or gateway.
    NotFound,
    /// A stamp is too far ahead of the gateway's clock.
    ClockDrift,
    /// Too many requests.
    RateLimited,
    /// A flush failed.
    FlushError,
    /// A bug or a failing disk.
    InternalError,
    /// An upstream system failed.
    AdapterError,
    /// The gateway cannot take more for now.
    BackpressureError,
    /// The delta id is not the hash of the delta's content.
    DeltaIdMismatch,
    /// The delta id was accepted before with another op or other content.
    DeltaIdReused,
    /// The delta is stamped below the floor.
    LateDelta,
    /// The cursor is below the retained horizon: load the checkpoint.
    CursorExpired,
    /// The gateway has no such table.
    UnknownTable,
    /// The disk or the memory budget is full; nothing was stored.
    StorageFull,
    /// This server does not do that.
    NotSupported,
}

impl ErrorCode {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::ValidationError => "VALIDATION_ERROR",
            ErrorCode::SchemaError => "SCHEMA_ERROR",
            ErrorCode::SchemaConflict => "SCHEMA_CONFLICT",
            ErrorCode::AuthError => "AUTH_ERROR",
            ErrorCode::Forbidden => "FORBIDDEN",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::ClockDrift => "CLOCK_DRIFT",
            ErrorCode::RateLimited => "RATE_LIMITED",
            ErrorCode::FlushError => "FLUSH_ERROR",
            ErrorCode::InternalError => "INTERNAL_ERROR",
            ErrorCode::AdapterError => "ADAPTER_ERROR",
            ErrorCode::BackpressureError => "BACKPRESSURE_ERROR",
            ErrorCode::DeltaIdMismatch => "DELTA_ID_MISMATCH",
            ErrorCode::DeltaIdReused => "DELTA_ID_REUSED",
            ErrorCode::LateDelta => "LATE_DELTA",
            ErrorCode::CursorExpired => "CURSOR_EXPIRED",
            ErrorCode::UnknownTable => "UNKNOWN_TABLE",
            ErrorCode::StorageFull => "STORAGE_FULL",
            ErrorCode::NotSupported => "NOT_SUPPORTED",
        }
    }

    /// Whether the same request may succeed later without being changed.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorCode::ClockDrift
                | ErrorCode::RateLimited
                | ErrorCode::FlushError
                | ErrorCode::InternalError
                | ErrorCode::AdapterError
                | ErrorCode::BackpressureError
                | ErrorCode::StorageFull
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Shortens text from outside for an error message.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
