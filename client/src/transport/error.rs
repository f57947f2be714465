//! What can go wrong on the way to a gateway.
//!
//! Invariant: [`TransportError::Refused`] is a gateway's own word, or one that is safe to take for it. What a proxy, a
//! login page or another server says is [`TransportError::Foreign`], so it can never condemn an edit.

use std::time::Duration;

use lakesync_proto::DecodeError;

/// A failed exchange with a gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The gateway's address cannot be used.
    #[error("{url} is no gateway address: {reason}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A certificate that was given to trust cannot be read.
    #[error("the certificate cannot be read: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },

    /// No answer. Whether the request took effect is unknown; asking again is safe.
    #[error("no answer from {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The gateway answered, and said no.
    #[error(transparent)]
    Refused(Box<Refusal>),

    /// Something that is no LakeSync gateway answered: a proxy, the login page of a network, another server.
    #[error("{url} answered {status}, and it is no LakeSync gateway: {hint}")]
    Foreign {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it is, and what to do.
        hint: String,
    },

    /// The answer is longer than this transport reads.
    #[error("the answer from {url} exceeds {limit_bytes} bytes: ask for fewer deltas")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The bound, in bytes.
        limit_bytes: u64,
    },

    /// The answer does not decode.
    #[error("the answer cannot be read")]
    Decode(#[from] DecodeError),

    /// The answer is no answer to this question.
    #[error("the answer from {url} cannot be read: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The application has no token to present.
    #[error("there is no token: {reason}")]
    Token {
        /// What the application said.
        reason: String,
    },

    /// Live pages are not to be had this way; asking for pages is.
    #[error("no live connection: {reason}")]
    NotLive {
        /// Why.
        reason: &'static str,
    },
}

impl TransportError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            TransportError::Unreachable { .. }
            | TransportError::Foreign { .. }
            | TransportError::Token { .. } => true,
            TransportError::Refused(refusal) => refusal.is_retryable(),
            _ => false,
        }
    }
}

/// What a gateway says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code}, status {status})")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The stable error code; empty when the answer had none.
    pub code: String,
    /// The gateway's text.
    pub message: String,
    /// The position in the batch of the delta it names.
    pub index: Option<usize>,
    /// The id under which the gateway's own log knows this request.
    pub request_id: Option<String>,
    /// How long to wait before asking again.
    pub retry_after: Option<Duration>,
    /// The further fields of the answer, such as `skewMs`, `tables` and `cursor`: a JSON object.
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl Refusal {
    /// Whether the same request may succeed later: the gateway is busy, draining or failed.
    pub fn is_retryable(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..)
    }
}
