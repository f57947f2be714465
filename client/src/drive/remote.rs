//! What an application wishes of a session that somebody else drives.
//!
//! Invariant: a wish is heard before the session's next step, in the order of the last time each was made; there are never
//! more of them than kinds of wishes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::LocalDb;
use crate::sync::{Status, Wish};

/// The wishes to a session that is being driven, and its status. Clones are for other threads.
#[derive(Clone, Debug)]
pub struct SyncRemote {
    db: LocalDb,
    wishes: Arc<Mutex<Vec<Wish>>>,
}

impl SyncRemote {
    pub(crate) fn new(db: LocalDb) -> SyncRemote {
        SyncRemote {
            db,
            wishes: Arc::default(),
        }
    }

    /// Has the session do this next, after the exchange that is under way.
    pub fn wish(&self, wish: Wish) {
        {
            let mut wishes = self.wishes();
            wishes.retain(|made| *made != wish);
            wishes.push(wish);
        }
        self.db.hub().signal().raise();
    }

    /// Syncs now, whatever the session waits for.
    pub fn sync_now(&self) {
        self.wish(Wish::SyncNow);
    }

    /// How syncing goes.
    pub fn status(&self) -> Status {
        self.db.status()
    }

    pub(crate) fn take(&self) -> Vec<Wish> {
        std::mem::take(&mut *self.wishes())
    }

    fn wishes(&self) -> MutexGuard<'_, Vec<Wish>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
