//! The queue between a live connection and the one who drives the session.
//!
//! Invariant: it holds at most [`LIVE_REPLIES_MAX`] replies. A driver that is busy stops the connection's reader, which
//! stops the gateway; nothing grows.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::sync::Reply;
use crate::transport::TransportError;

/// Replies that wait for the driver: enough to decode one page while another is applied, little enough to hold.
const LIVE_REPLIES_MAX: usize = 4;

/// Where a live connection tells what comes.
#[derive(Clone)]
pub struct LiveEvents {
    sender: SyncSender<Reply>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// What a live connection told, for the driver to take.
pub struct LiveReplies {
    receiver: Receiver<Reply>,
    /// Its end has been handed out.
    ended: Cell<bool>,
}

impl LiveEvents {
    /// Both ends of a queue. `wake` is called after each reply, from the connection's thread.
    pub fn channel(wake: impl Fn() + Send + Sync + 'static) -> (LiveEvents, LiveReplies) {
        let (sender, receiver) = sync_channel(LIVE_REPLIES_MAX);
        let events = LiveEvents {
            sender,
            wake: Arc::new(wake),
        };
        let ended = Cell::new(false);
        (events, LiveReplies { receiver, ended })
    }

    /// Tells one reply: [`Reply::Live`], [`Reply::LiveEnded`] or [`Reply::Expiring`]. Waits while the queue is full.
    /// False when nobody listens any more: the connection is to end.
    pub fn tell(&self, reply: Reply) -> bool {
        let told = self.sender.send(reply).is_ok();
        (self.wake)();
        told
    }
}

impl LiveReplies {
    /// The oldest reply that was not taken yet. A connection that has gone without a word has ended, too; its end is told
    /// once.
    pub fn take(&self) -> Option<Reply> {
        let reply = match self.receiver.try_recv() {
            Ok(reply) => reply,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) if self.ended.get() => return None,
            Err(TryRecvError::Disconnected) => Reply::LiveEnded(TransportError::Unreachable {
                url: "the live connection".to_owned(),
                source: "its reader has ended".into(),
            }),
        };
        if matches!(reply, Reply::LiveEnded(_)) {
            self.ended.set(true);
        }
        Some(reply)
    }
}

impl fmt::Debug for LiveEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveEvents").finish_non_exhaustive()
    }
}

impl fmt::Debug for LiveReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveReplies").finish_non_exhaustive()
    }
}
