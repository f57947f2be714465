//! The seam between a client and a gateway.
//!
//! Invariant: a transport carries messages and keeps none. Whatever it loses, repeats or delivers twice, the client
//! sends again, and the gateway recognises it.

use std::time::Duration;

use lakesync_proto::{
    DecodeError, PullPage, Push, PushAck, TableDefinition, TableSchema,
};

use crate::sync::{CheckpointRequest, Pull};

/// How a client talks to one gateway.
pub trait Transport: Send {
    /// Hands over a batch, which is accepted whole or refused whole.
    ///
    /// # Errors
    /// [`TransportError::Refused`] when the gateway has looked at it and said no; anything else leaves open whether
    /// the batch was accepted.
    fn push(&self, push: &Push) -> Result<PushAck, TransportError>;

    /// Asks for the deltas behind a cursor.
    ///
    /// # Errors
    /// [`TransportError::Decode`] when a delta names a table or column that the pull's schemas do not know.
    fn pull(&self, pull: &Pull) -> Result<PullPage, TransportError>;

    /// Opens a checkpoint.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses.
    fn checkpoint(&self, request: &CheckpointRequest) -> Result<Box<dyn Chunks>, TransportError>;

    /// The gateway's tables.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses.
    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError>;

    /// Creates a table on the gateway, or evolves it.
    ///
    /// # Errors
    /// [`TransportError::Refused`] when the change is none that a table can make.
    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError>;
}

/// A checkpoint that is being read.
pub trait Chunks: Send {
    /// The next chunk; `None` is the end of the stream.
    ///
    /// # Errors
    /// When the stream breaks off, or a chunk names a table or column that the request's schemas do not know.
    fn next(&mut self) -> Result<Option<PullPage>, TransportError>;
}

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
}

impl TransportError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            TransportError::Unreachable { .. } => true,
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
