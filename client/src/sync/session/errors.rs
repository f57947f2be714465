//! What failed last, and what of it the machine must know.
//!
//! Invariant: an error is shown until the same kind of exchange succeeds.

use std::error::Error;

use lakesync_proto::{DecodeErrorKind, ErrorCode};

use crate::error::{ClientError, ErrorKind};
use crate::sync::machine::{Exchange, Failure, Lane};
use crate::sync::status::SyncError;
use crate::transport::{Refusal, TransportError};

/// The least wait before another live connection when there are none to be had, in milliseconds.
const NOT_LIVE_MS: u64 = 60_000;

/// The last error of each lane, oldest first.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<(Lane, SyncError)>);

impl Errors {
    pub(super) fn last(&self) -> Option<&SyncError> {
        self.0.last().map(|(_, error)| error)
    }

    /// Keeps what is shown of an error, and gives the error back.
    pub(super) fn note(&mut self, lane: Lane, error: ClientError, at_ms: u64) -> ClientError {
        self.show(lane, error.kind(), text(&error), at_ms);
        error
    }

    pub(super) fn note_local(&mut self, error: ClientError, at_ms: u64) -> ClientError {
        self.note(Lane::Local, error, at_ms)
    }

    pub(super) fn show(&mut self, lane: Lane, kind: ErrorKind, message: String, at_ms: u64) {
        self.0.retain(|(other, _)| *other != lane);
        let error = SyncError {
            kind,
            message,
            at_ms,
        };
        self.0.push((lane, error));
    }

    /// An exchange of this lane succeeded.
    pub(super) fn forget(&mut self, lane: Lane) {
        let gone = [lane, Lane::Link];
        self.0.retain(|(other, _)| !gone.contains(other));
    }

    pub(super) fn forget_local(&mut self) {
        self.0.retain(|(other, _)| *other != Lane::Local);
    }

    /// Nothing of this lane can be done now, for `waiting` there is no place at the gateway: what failed here has gone well,
    /// and what the gateway said stands as long as something waits.
    pub(super) fn rest(&mut self, lane: Lane, waiting: i64) {
        self.0.retain(|(other, error)| {
            *other != lane || (waiting > 0 && error.kind != ErrorKind::Local)
        });
    }
}

/// An error with its causes.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What the machine must know of a failed exchange.
pub(super) fn failure_of(error: &TransportError, exchange: Exchange) -> Failure {
    let failure = match error {
        TransportError::Refused(refusal) => refused(refusal),
        TransportError::Decode(error) => match error.kind() {
            DecodeErrorKind::UnknownTable
            | DecodeErrorKind::UnknownColumn
            | DecodeErrorKind::WrongType => Failure::Schema,
            _ => Failure::Garbled,
        },
        TransportError::Token { .. } => Failure::Token,
        TransportError::Answer { .. } | TransportError::TooLong { .. } => Failure::Garbled,
        _ => Failure::NoAnswer,
    };
    match (exchange, failure) {
        (Exchange::Subscribe, _) if matches!(error, TransportError::NotLive { .. }) => {
            Failure::Refused {
                retry_after_ms: Some(NOT_LIVE_MS),
            }
        }
        // Where sockets are not let through, requests may be.
        (Exchange::Subscribe, Failure::NoAnswer) => Failure::Refused {
            retry_after_ms: None,
        },
        (_, failure) => failure,
    }
}

fn refused(refusal: &Refusal) -> Failure {
    match refusal.status {
        401 => Failure::Token,
        _ => Failure::Refused {
            retry_after_ms: refusal
                .retry_after
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        },
    }
}

/// What the machine must know of a failure on this side.
pub(super) fn failure_here(error: &ClientError) -> Failure {
    match error {
        ClientError::UnknownTable { .. } | ClientError::SchemaConflict { .. } => Failure::Schema,
        ClientError::Protocol { .. } => Failure::Garbled,
        _ => Failure::Local,
    }
}

/// Whether the gateway wants the client to begin anew.
pub(super) fn is_expired(error: &TransportError) -> Option<&Refusal> {
    match error {
        TransportError::Refused(refusal)
            if refusal.status == 410 || refusal.code == ErrorCode::CursorExpired.as_str() =>
        {
            Some(refusal)
        }
        _ => None,
    }
}

/// An answer that cannot be right.
pub(super) fn protocol(what: impl Into<String>) -> ClientError {
    ClientError::Protocol { what: what.into() }
}
