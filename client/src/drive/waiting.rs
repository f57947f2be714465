//! Blocking waits for those who watch.
//!
//! Invariant: a wait ends with something new, or when its time is over; commits that bring nothing new do not end it.

use std::time::{Duration, Instant};

use crate::watch::Signal;
use crate::{Changes, ClientError, QueryWatch, Rows, Status, StatusWatch, Watch};

impl Watch {
    /// Waits for changes, at most this long; none when nothing changed. Commits of other processes end it only when
    /// somebody calls [`LocalDb::poll`](crate::LocalDb::poll) meanwhile; syncing in the background does so every few seconds.
    pub fn wait(&self, timeout: Duration) -> Option<Changes> {
        wait(self.inbox.signal(), timeout, || self.try_next())
    }
}

impl QueryWatch {
    /// Waits for another answer, at most this long; none when it stayed the same. Commits of other processes end it only
    /// when somebody calls [`LocalDb::poll`](crate::LocalDb::poll) meanwhile.
    ///
    /// # Errors
    /// As for [`QueryWatch::try_next`].
    pub fn wait(&self, timeout: Duration) -> Result<Option<Rows>, ClientError> {
        let signal = self.inbox.signal();
        wait(signal, timeout, || self.try_next().transpose()).transpose()
    }
}

impl StatusWatch {
    /// Waits until syncing goes otherwise, at most this long; none when it went on as before.
    pub fn wait(&self, timeout: Duration) -> Option<Status> {
        wait(self.inbox.signal(), timeout, || self.try_next())
    }
}

fn wait<T>(signal: &Signal, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    // A time beyond what the clock can show is no time at all: it waits for ever.
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let generation = signal.generation();
        if let Some(found) = look() {
            return Some(found);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        signal.wait_past(generation, left);
    }
}
