//! What a driver is told to do, and what it tells back.
//!
//! Invariant: a driver does one step, gives its reply, and asks for the next; it decides nothing.

use std::fmt;
use std::sync::Arc;

use lakesync_proto::{ClientId, PullPage, Push, PushAck, Schemas, TableName, TableSchema};

use crate::digest::GatewayDigest;
use crate::transport::TransportError;

/// What to do now.
#[derive(Clone)]
pub enum Step {
    /// Send these edits: [`Reply::Pushed`].
    Push(Push),
    /// Ask for a page: [`Reply::Pulled`].
    Pull(Pull),
    /// Open a checkpoint and read its first chunk, forgetting any that is open: [`Reply::Chunk`]. A chunk without
    /// `has_more` is the last; the stream may then be let go.
    Checkpoint(CheckpointRequest),
    /// Read the next chunk of the open checkpoint: [`Reply::Chunk`].
    Chunk,
    /// Ask for the gateway's schemas: [`Reply::Schemas`].
    Schemas,
    /// Open a live connection: [`Reply::Subscribed`], then [`Reply::Live`] whenever a page comes, and
    /// [`Reply::LiveEnded`] when it ends.
    Subscribe(Subscribe),
    /// Ask for the gateway's digest of what this client sees: [`Reply::Digest`].
    Digest {
        /// Who asks.
        client_id: ClientId,
    },
    /// Close the live connection, without a reply. Nothing that it brought may be told afterwards.
    Unsubscribe,
    /// Ask the application for a new token: [`Reply::Token`].
    RefreshToken,
    /// Nothing, until this wall clock in milliseconds, a local edit, a live page or a wish of the application, whichever
    /// comes first. Without a time only the others end it. It has no reply: the session is asked for the next step. A
    /// checkpoint that is open is let go: when there is more of it to read it is opened anew.
    Wait {
        /// When to ask again.
        until_ms: Option<u64>,
    },
    /// The session has ended, as it was asked to.
    Stopped,
}

/// Which page.
#[derive(Clone)]
pub struct Pull {
    /// Who asks.
    pub client_id: ClientId,
    /// Where to go on, as the gateway gave it; empty is the beginning.
    pub cursor: String,
    /// Greatest number of deltas in the answer.
    pub limit: u32,
    /// The hash over the gateway's schemas that this client knows.
    pub schemas_hash: Option<u64>,
    /// By which the answer's values are read.
    pub schemas: Arc<dyn Schemas + Send + Sync>,
}

/// Which checkpoint.
#[derive(Clone)]
pub struct CheckpointRequest {
    /// Who asks.
    pub client_id: ClientId,
    /// Which tables; empty means all.
    pub tables: Vec<TableName>,
    /// What goes on behind a chunk that came before.
    pub resume: Option<String>,
    /// By which the answer's values are read.
    pub schemas: Arc<dyn Schemas + Send + Sync>,
}

/// Which live pages.
#[derive(Clone)]
pub struct Subscribe {
    /// Who asks.
    pub client_id: ClientId,
    /// Where to go on.
    pub cursor: String,
    /// By which the pages' values are read.
    pub schemas: Arc<dyn Schemas + Send + Sync>,
}

/// What came of a step.
#[derive(Debug)]
pub enum Reply {
    /// Of [`Step::Push`].
    Pushed(Result<PushAck, TransportError>),
    /// Of [`Step::Pull`].
    Pulled(Result<PullPage, TransportError>),
    /// Of [`Step::Checkpoint`] and [`Step::Chunk`]; `None` is the stream's end.
    Chunk(Result<Option<PullPage>, TransportError>),
    /// Of [`Step::Schemas`].
    Schemas(Result<Vec<TableSchema>, TransportError>),
    /// Of [`Step::Subscribe`].
    Subscribed(Result<(), TransportError>),
    /// A page of the live connection.
    Live(PullPage),
    /// The live connection has ended.
    LiveEnded(TransportError),
    /// The live connection's token ends soon.
    Expiring,
    /// Of [`Step::Digest`].
    Digest(Result<GatewayDigest, TransportError>),
    /// Of [`Step::RefreshToken`]: whether there is a new one now.
    Token(bool),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Push(push) => write!(f, "Push({} deltas)", push.deltas.len()),
            Step::Pull(pull) => write!(f, "Pull({:?}, {})", pull.cursor, pull.limit),
            Step::Checkpoint(request) => {
                write!(f, "Checkpoint({:?}, {:?})", request.tables, request.resume)
            }
            Step::Chunk => f.write_str("Chunk"),
            Step::Schemas => f.write_str("Schemas"),
            Step::Subscribe(subscribe) => write!(f, "Subscribe({:?})", subscribe.cursor),
            Step::Digest { .. } => f.write_str("Digest"),
            Step::Unsubscribe => f.write_str("Unsubscribe"),
            Step::RefreshToken => f.write_str("RefreshToken"),
            Step::Wait { until_ms } => write!(f, "Wait({until_ms:?})"),
            Step::Stopped => f.write_str("Stopped"),
        }
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull")
            .field("client_id", &self.client_id)
            .field("cursor", &self.cursor)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CheckpointRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointRequest")
            .field("client_id", &self.client_id)
            .field("tables", &self.tables)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("client_id", &self.client_id)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
