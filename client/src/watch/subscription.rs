//! A callback's life.
//!
//! Invariant: when a subscription is dropped no further call begins. One that is under way on another thread ends by
//! itself; dropping never waits, so it may happen within the callback.

use std::sync::Arc;

use super::inbox::{Callback, Inbox};
use crate::LocalDb;

/// Keeps a callback alive; dropping it ends the calls.
#[derive(Debug)]
#[must_use = "the callback is called for as long as this is held"]
pub struct Subscription {
    inbox: Arc<Inbox>,
}

impl Subscription {
    /// Has `callback` called from now on, and at once when there is something to tell.
    pub(crate) fn begin(db: LocalDb, inbox: Arc<Inbox>, callback: Callback) -> Subscription {
        db.hub().call(&inbox, callback);
        Subscription { inbox }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.stop_calling();
    }
}
