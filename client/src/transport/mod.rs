//! The seam between a client and a gateway.
//!
//! Invariant: a transport carries messages and keeps none. Whatever it loses, repeats or delivers twice, the client
//! sends again, and the gateway recognises it.

mod error;
mod live_events;

#[cfg(feature = "http")]
mod address;
#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod checkpoint;
#[cfg(feature = "http")]
mod credentials;
#[cfg(feature = "http")]
mod date;
#[cfg(feature = "http")]
mod exchange;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "live")]
mod live;
#[cfg(feature = "live")]
mod live_reader;
#[cfg(feature = "live")]
mod proxy;
#[cfg(feature = "http")]
mod roots;
#[cfg(feature = "live")]
mod socket;
#[cfg(test)]
mod tests;

use lakesync_proto::{ClientId, PullPage, Push, PushAck, TableDefinition, TableSchema};

use crate::digest::GatewayDigest;
use crate::sync::{CheckpointRequest, Pull, Subscribe};

pub use error::{Refusal, TransportError};
#[cfg(feature = "http")]
pub use exchange::Timeouts;
#[cfg(feature = "http")]
pub use http::HttpTransport;
pub use live_events::{LiveEvents, LiveReplies};

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

    /// The digest of what this client sees.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses.
    fn digest(&self, client_id: &ClientId) -> Result<GatewayDigest, TransportError>;

    /// Opens a live connection: returns once the gateway has taken the subscription, and tells `events` every page from
    /// then on, the first one included, from a thread of its own.
    ///
    /// # Errors
    /// [`TransportError::NotLive`] when this transport has no such thing: the client asks for pages instead. Others as
    /// of any exchange.
    fn live(
        &self,
        subscribe: &Subscribe,
        events: LiveEvents,
    ) -> Result<Box<dyn LiveConnection>, TransportError> {
        let _ = (subscribe, events);
        Err(TransportError::NotLive {
            reason: "this transport has no live connections",
        })
    }

    /// Asks the application for a token in place of the one that was refused. Tells whether there is another one now.
    fn refresh_token(&self) -> bool {
        false
    }

    /// The gateway's wall clock in milliseconds since 1970, as the answer to the last exchange told it; none when that
    /// exchange had no answer, or the answer told no time.
    fn gateway_ms(&self) -> Option<u64> {
        None
    }
}

/// A checkpoint that is being read.
pub trait Chunks: Send {
    /// The next chunk; `None` is the end of the stream.
    ///
    /// # Errors
    /// When the stream breaks off, or a chunk names a table or column that the request's schemas do not know.
    fn next(&mut self) -> Result<Option<PullPage>, TransportError>;
}

/// A live connection that is open. Dropping it closes it.
pub trait LiveConnection: Send {
    /// Says goodbye. Whatever it would have told from now on is not told. Returns at once.
    fn close(&mut self);
}
