//! Syncing in a thread of its own.
//!
//! Invariant: the thread ends after [`Wish::Stop`], at the latest when the exchange under way does; nothing else ends it,
//! and it uses no processor while it waits.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::LocalDb;
use crate::drive::driver::{Driver, Turn};
use crate::drive::remote::SyncRemote;
use crate::sync::{SessionOptions, Status, Wish};
use crate::transport::Transport;

/// How long [`SyncHandle::stop`] waits: most exchanges take a fraction of a second, and a program that ends has no more
/// patience than this.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A database that is being synced in the background. Dropping it stops the syncing, without waiting for it.
///
/// The application goes on with the [`LocalDb`] as before: what it writes is sent, and what comes it is told of.
pub struct SyncHandle {
    remote: SyncRemote,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl SyncHandle {
    /// Begins to sync.
    ///
    /// # Panics
    /// When the machine has no room for another thread, as [`std::thread::spawn`] does.
    pub fn start(
        db: LocalDb,
        transport: impl Transport + 'static,
        options: SessionOptions,
    ) -> SyncHandle {
        let driver = Driver::new(db, options);
        let remote = driver.remote();
        let (running, ended) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("lakesync".to_owned())
            .spawn(move || run(driver, &transport, running))
            .expect("the machine has room for a thread");
        SyncHandle {
            remote,
            thread: Some(thread),
            ended,
        }
    }

    /// How syncing goes.
    pub fn status(&self) -> Status {
        self.remote.status()
    }

    /// Syncs now, whatever it waits for.
    pub fn sync_now(&self) {
        self.remote.sync_now();
    }

    /// Has the session do this next.
    pub fn wish(&self, wish: Wish) {
        self.remote.wish(wish);
    }

    /// For other threads, to wish something or to look.
    pub fn remote(&self) -> SyncRemote {
        self.remote.clone()
    }

    /// Whether it has ended: it was told to, or was to sync once and has.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops, and waits up to five seconds until the exchange under way is finished. True when it has ended; otherwise
    /// it ends as soon as that exchange does. In a callback on the syncing thread it does not wait: that thread ends after
    /// the callback.
    ///
    /// # Panics
    /// When the syncing thread has panicked.
    pub fn stop(self) -> bool {
        self.remote.wish(Wish::Stop);
        self.wait(STOP_WAIT)
    }

    /// Waits until it has ended by itself, as one that syncs once does; no longer than `timeout`. True when it has ended.
    /// What has not is stopped.
    ///
    /// # Panics
    /// When the syncing thread has panicked.
    pub fn wait(mut self, timeout: Duration) -> bool {
        let is_here = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if self.thread.as_ref().is_some_and(is_here) {
            return false;
        }
        let ended = self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected);
        if ended
            && let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        ended
    }
}

impl Drop for SyncHandle {
    fn drop(&mut self) {
        self.remote.wish(Wish::Stop);
    }
}

impl fmt::Debug for SyncHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

fn run(mut driver: Driver, transport: &dyn Transport, running: SyncSender<()>) {
    let signal = driver.signal();
    loop {
        let generation = signal.generation();
        match driver.turn(transport) {
            Turn::Went | Turn::Failed(_) => {}
            Turn::Wait(time) | Turn::Stuck(time, _) => {
                signal.wait_past(generation, Some(time));
            }
            Turn::Stopped => break,
        }
    }
    // The file is let go of before anybody hears that it has ended.
    drop(driver);
    drop(running);
}
