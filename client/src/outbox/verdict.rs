//! What a refusal of a push means, decided without looking at the database.
//!
//! Invariant: a person is asked (a dead letter) only about an edit that the gateway named, or that was alone in its push.
//! What says nothing about edits (no token, wrong address, a proxy's page) never costs one.

use lakesync_proto::ErrorCode;

use crate::transport::Refusal;

/// What to do with a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The delta at this place is stamped too far ahead.
    Ahead(usize),
    /// The delta at this place is older than the gateway still merges.
    Late(usize),
    /// The gateway's schema has no place for the delta at this place.
    Schema(usize),
    /// The delta at this place will never be taken.
    Reject(usize),
    /// One of them will never be taken, and the gateway does not say which.
    Split,
    /// None of them was looked at.
    Later,
    /// Whether they were taken is unknown.
    Unknown,
}

impl Verdict {
    /// The place in its batch of the delta that it is about.
    pub(super) fn named(self) -> Option<usize> {
        match self {
            Verdict::Ahead(index)
            | Verdict::Late(index)
            | Verdict::Schema(index)
            | Verdict::Reject(index) => Some(index),
            Verdict::Split | Verdict::Later | Verdict::Unknown => None,
        }
    }
}

/// Judges the refusal of a batch of `count` deltas.
pub(super) fn judge(refusal: &Refusal, count: usize) -> Verdict {
    let code = |wanted: ErrorCode| refusal.code == wanted.as_str();
    // A gateway names the delta. One that is alone in its batch needs no name.
    let named = match refusal.index.filter(|index| *index < count) {
        None if count == 1 => Some(0),
        named => named,
    };
    let is_named = refusal.index.is_some_and(|index| index < count);
    match refusal.status {
        401 | 404 | 405 | 407 | 425 | 429 | 507 => return Verdict::Later,
        503 if code(ErrorCode::BackpressureError) => return Verdict::Later,
        403 if !is_named => return Verdict::Later,
        413 => return named.map_or(Verdict::Split, Verdict::Reject),
        400..=499 if refusal.status != 408 => {}
        _ => return Verdict::Unknown,
    }
    let Some(index) = named else {
        return if is_about_deltas(refusal) {
            Verdict::Split
        } else {
            Verdict::Later
        };
    };
    if code(ErrorCode::ClockDrift) {
        Verdict::Ahead(index)
    } else if code(ErrorCode::LateDelta) {
        Verdict::Late(index)
    } else if code(ErrorCode::UnknownTable) || code(ErrorCode::SchemaError) {
        Verdict::Schema(index)
    } else if is_named || is_about_deltas(refusal) {
        Verdict::Reject(index)
    } else {
        Verdict::Later
    }
}

/// Whether the refusal can only be of what the batch holds. A page of a proxy has no code.
fn is_about_deltas(refusal: &Refusal) -> bool {
    [
        ErrorCode::ValidationError,
        ErrorCode::SchemaError,
        ErrorCode::UnknownTable,
        ErrorCode::ClockDrift,
        ErrorCode::LateDelta,
        ErrorCode::DeltaIdMismatch,
        ErrorCode::DeltaIdReused,
        ErrorCode::SchemaConflict,
    ]
    .iter()
    .any(|code| refusal.code == code.as_str())
}
