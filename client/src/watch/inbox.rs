//! What has gathered for one watcher and was not read yet.
//!
//! Invariant: an inbox holds a bounded amount however long nobody reads it: changes merge into one set, dead letters beyond
//! the bound stay in the outbox alone. No lock is held while a callback runs.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakesync_proto::TableName;

use super::changes::Changes;
use super::signal::Signal;
use crate::outbox::DeadLetter;

/// Dead letters that wait to be told to one callback. A gateway that refuses more edits at once than these tells the same
/// story in each; all of them are in the outbox.
const DEAD_TOLD_MAX: usize = 1_000;

/// What a watcher wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Rows of these tables; empty means all.
    Tables(BTreeSet<TableName>),
    /// Which tables changed, without their rows, and commits that changed none.
    Commits,
    /// How syncing goes.
    Status,
    /// Own edits that were refused.
    Dead,
}

/// Called with what has gathered.
pub(crate) type Callback = Box<dyn FnMut(Mail) + Send>;

/// One watcher's.
pub(crate) struct Inbox {
    interest: Interest,
    mail: Mutex<Mail>,
    callback: Mutex<Option<Callback>>,
    signal: Signal,
}

/// What has gathered.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) changes: Changes,
    pub(crate) dead: VecDeque<DeadLetter>,
    /// Something came since the last reading.
    fresh: bool,
    /// A callback wants to hear of it.
    called: bool,
}

impl Inbox {
    /// An inbox; `first` tells whether there is something to read already.
    pub(crate) fn new(interest: Interest, first: First) -> Arc<Inbox> {
        let mail = Mail {
            fresh: first == First::Ready,
            ..Mail::default()
        };
        Arc::new(Inbox {
            interest,
            mail: Mutex::new(mail),
            callback: Mutex::new(None),
            signal: Signal::default(),
        })
    }

    /// Raised whenever something comes.
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Takes what has gathered; none when nothing came since the last time.
    pub(crate) fn take(&self) -> Option<Mail> {
        let mut mail = self.mail();
        if !mail.fresh {
            return None;
        }
        let called = mail.called;
        let taken = std::mem::take(&mut *mail);
        mail.called = called;
        Some(taken)
    }

    /// A commit of this database.
    pub(crate) fn put_changes(&self, changes: &Changes) {
        let mut mail = self.mail();
        match &self.interest {
            Interest::Tables(tables) => {
                let wanted = |table: &TableName| tables.is_empty() || tables.contains(table);
                if !changes.tables.keys().any(wanted) {
                    return;
                }
                mail.changes.absorb(changes, wanted);
            }
            Interest::Commits => changes
                .tables
                .keys()
                .for_each(|table| mail.changes.many(table)),
            Interest::Status => {}
            Interest::Dead => return,
        }
        self.arrived(mail);
    }

    /// Syncing goes otherwise than before.
    pub(crate) fn put_status(&self) {
        if self.interest == Interest::Status {
            self.arrived(self.mail());
        }
    }

    /// Edits were refused.
    pub(crate) fn put_dead(&self, letters: &[DeadLetter]) {
        if self.interest != Interest::Dead || letters.is_empty() {
            return;
        }
        let mut mail = self.mail();
        let room = DEAD_TOLD_MAX.saturating_sub(mail.dead.len());
        mail.dead.extend(letters.iter().take(room).cloned());
        self.arrived(mail);
    }

    fn arrived(&self, mut mail: MutexGuard<'_, Mail>) {
        mail.fresh = true;
        drop(mail);
        self.signal.raise();
    }

    /// Has `callback` called from now on; with what is there already at the next delivery.
    pub(crate) fn set_callback(&self, callback: Callback) {
        *self.locked_callback() = Some(callback);
        self.mail().called = true;
    }

    /// Has nothing called any more, beyond a call that is under way.
    pub(crate) fn stop_calling(&self) {
        self.mail().called = false;
    }

    /// Whether a callback has to be called.
    pub(crate) fn is_due(&self) -> bool {
        let mail = self.mail();
        mail.called && mail.fresh
    }

    /// Calls the callback with what has gathered. One delivery runs at a time, so this lock is free whenever it is asked
    /// for.
    pub(crate) fn call(&self) {
        let mut callback = self.locked_callback();
        if let Some(callback) = callback.as_mut()
            && self.is_due()
            && let Some(mail) = self.take()
        {
            callback(mail);
        }
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked_callback(&self) -> MutexGuard<'_, Option<Callback>> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a new inbox has something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// A first answer, that nobody has seen.
    Ready,
    /// Nothing before something comes.
    Nothing,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("interest", &self.interest)
            .field("mail", &self.mail)
            .finish_non_exhaustive()
    }
}
