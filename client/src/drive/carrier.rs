//! One step over a transport.
//!
//! Invariant: at most one checkpoint and one live connection are open. What a closed connection told is never handed on.

use std::fmt;
use std::sync::Arc;

use crate::sync::{Reply, Step, Subscribe};
use crate::transport::{
    Chunks, LiveConnection, LiveEvents, LiveReplies, Transport, TransportError,
};
use crate::watch::Signal;

/// What is open between two steps.
pub(crate) struct Carrier {
    /// Raised when the live connection tells something.
    signal: Arc<Signal>,
    chunks: Option<Box<dyn Chunks>>,
    live: Option<Live>,
}

/// The fields' order is the order in which they go: a reader that waits for room in the queue is let go first.
struct Live {
    replies: LiveReplies,
    _connection: Box<dyn LiveConnection>,
}

impl Carrier {
    pub(crate) fn new(signal: Arc<Signal>) -> Carrier {
        Carrier {
            signal,
            chunks: None,
            live: None,
        }
    }

    /// Does it, and tells what came of it; nothing of a step that has no reply.
    pub(crate) fn carry(&mut self, transport: &dyn Transport, step: &Step) -> Option<Reply> {
        Some(match step {
            Step::Push(push) => Reply::Pushed(transport.push(push)),
            Step::Pull(pull) => Reply::Pulled(transport.pull(pull)),
            Step::Checkpoint(request) => {
                self.chunks = None;
                match transport.checkpoint(request) {
                    Ok(chunks) => {
                        self.chunks = Some(chunks);
                        self.chunk()
                    }
                    Err(error) => Reply::Chunk(Err(error)),
                }
            }
            Step::Chunk => self.chunk(),
            Step::Schemas => Reply::Schemas(transport.schemas()),
            Step::Digest { client_id } => Reply::Digest(transport.digest(client_id)),
            Step::Subscribe(subscribe) => Reply::Subscribed(self.subscribe(transport, subscribe)),
            Step::Unsubscribe => {
                self.live = None;
                return None;
            }
            Step::RefreshToken => Reply::Token(transport.refresh_token()),
            Step::Wait { .. } => {
                self.chunks = None;
                return None;
            }
            Step::Stopped => {
                self.close();
                return None;
            }
        })
    }

    /// What the live connection has told since. One that has ended is let go with its last word.
    pub(crate) fn told(&mut self) -> Option<Reply> {
        let told = self.live.as_ref()?.replies.take();
        if matches!(told, Some(Reply::LiveEnded(_))) {
            self.live = None;
        }
        told
    }

    /// Lets go of what is open.
    pub(crate) fn close(&mut self) {
        self.live = None;
        self.chunks = None;
    }

    fn chunk(&mut self) -> Reply {
        let Some(chunks) = &mut self.chunks else {
            // The session that asks has not opened it here: it goes on from its resume token.
            return Reply::Chunk(Err(TransportError::Unreachable {
                url: "the checkpoint".to_owned(),
                source: "it is not open any more".into(),
            }));
        };
        let chunk = chunks.next();
        let more = chunk
            .as_ref()
            .is_ok_and(|page| page.as_ref().is_some_and(|page| page.has_more));
        if !more {
            self.chunks = None;
        }
        Reply::Chunk(chunk)
    }

    fn subscribe(
        &mut self,
        transport: &dyn Transport,
        subscribe: &Subscribe,
    ) -> Result<(), TransportError> {
        self.live = None;
        let signal = Arc::clone(&self.signal);
        let (events, replies) = LiveEvents::channel(move || signal.raise());
        let connection = transport.live(subscribe, events)?;
        self.live = Some(Live {
            replies,
            _connection: connection,
        });
        Ok(())
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("checkpoint", &self.chunks.is_some())
            .field("live", &self.live.is_some())
            .finish()
    }
}
