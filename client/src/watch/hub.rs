//! Those who watch, and how they are told.
//!
//! Invariant: telling happens after the commit, with no lock of the database or of this crate held. One delivery runs at a
//! time: what comes meanwhile, also from within a callback, is told by the delivery that is under way, so callbacks never
//! overlap, never nest, and may use the database as they like. A callback that panics ends nothing but its own call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::changes::Touched;
use super::inbox::{Callback, First, Inbox, Interest};
use super::signal::Signal;
use crate::outbox::DeadLetter;
use crate::sync::Status;

/// Everybody who watches one database.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    delivering: AtomicBool,
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct State {
    watching: Vec<Weak<Inbox>>,
    status: Status,
    /// `PRAGMA data_version` at the last look.
    data_version: Option<i64>,
}

impl Hub {
    /// Tells everybody what a transaction changed, after its commit. Of one of the client's own that changed no row nobody
    /// hears: a driver that waits would be woken by its own session.
    pub(crate) fn publish(&self, touched: Touched) {
        // An edit may have written tables of the application's own.
        let of_others = touched.origins.own || touched.origins.elsewhere;
        if touched.is_empty() && !of_others {
            return;
        }
        for inbox in self.watching() {
            inbox.put_changes(&touched);
        }
        if !touched.is_empty() || touched.origins.elsewhere {
            self.signal.raise();
        }
        self.deliver();
    }

    /// The outbox changed and no row did: an entry was retried or discarded. Drivers look, the status is told anew.
    pub(crate) fn publish_outbox(&self) {
        self.watching().iter().for_each(|inbox| inbox.put_status());
        self.signal.raise();
        self.deliver();
    }

    /// How syncing goes now. The same as before is not told again.
    pub(crate) fn publish_status(&self, status: &Status) {
        {
            let mut state = self.state();
            if state.status == *status {
                return;
            }
            state.status = status.clone();
        }
        self.watching().iter().for_each(|inbox| inbox.put_status());
        self.deliver();
    }

    /// Edits that the gateway has refused, after the commit that put them among the dead letters.
    pub(crate) fn publish_dead(&self, letters: &[DeadLetter]) {
        self.watching()
            .iter()
            .for_each(|inbox| inbox.put_dead(letters));
        self.deliver();
    }

    /// For those who wait in threads. Raised with every commit that changed rows, whoever made it, and by those who want
    /// drivers to look.
    #[cfg(any(test, feature = "http"))]
    pub(crate) fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.signal)
    }

    /// The status that was published last.
    pub(crate) fn status(&self) -> Status {
        self.state().status.clone()
    }

    /// Opens an inbox that lives as long as somebody holds it.
    pub(crate) fn subscribe(&self, interest: Interest, first: First) -> Arc<Inbox> {
        let inbox = Inbox::new(interest, first);
        self.state().watching.push(Arc::downgrade(&inbox));
        inbox
    }

    /// Has `callback` called whenever the inbox has something; at once when it has something now.
    pub(crate) fn call(&self, inbox: &Inbox, callback: Callback) {
        inbox.set_callback(callback);
        self.deliver();
    }

    /// Remembers `PRAGMA data_version`, if none was seen before.
    pub(crate) fn first_data_version(&self, data_version: i64) {
        self.state().data_version.get_or_insert(data_version);
    }

    /// Remembers `PRAGMA data_version`; whether it is another one than at the last look.
    pub(crate) fn saw_data_version(&self, data_version: i64) -> bool {
        let before = self.state().data_version.replace(data_version);
        before.is_some_and(|before| before != data_version)
    }

    /// The inboxes that somebody still holds. They are given out as a list, so that the last holder's callback, if this
    /// turns out to be the last, is dropped outside the lock.
    fn watching(&self) -> Vec<Arc<Inbox>> {
        let mut state = self.state();
        let living: Vec<Arc<Inbox>> = state.watching.iter().filter_map(Weak::upgrade).collect();
        if living.len() < state.watching.len() {
            state.watching = living.iter().map(Arc::downgrade).collect();
        }
        living
    }

    /// Calls callbacks until none has anything to hear. When a delivery runs already, it does this one's work.
    fn deliver(&self) {
        while self.any_due() && !self.delivering.swap(true, Ordering::SeqCst) {
            let mut due = self.due();
            while !due.is_empty() {
                for inbox in &due {
                    // Its message is on stderr already, or where the program's panic hook put it.
                    let _ = catch_unwind(AssertUnwindSafe(|| inbox.call()));
                }
                due = self.due();
            }
            // Something may come between the last look and this line, and its sender leave it to us: hence the outer loop.
            self.delivering.store(false, Ordering::SeqCst);
        }
    }

    fn any_due(&self) -> bool {
        self.watching().iter().any(|inbox| inbox.is_due())
    }

    fn due(&self) -> Vec<Arc<Inbox>> {
        let mut due = self.watching();
        due.retain(|inbox| inbox.is_due());
        due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
