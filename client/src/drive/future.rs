//! Syncing as a future, on whatever runtime the application has.
//!
//! Invariant: no thread of the runtime is blocked: what touches the file or the network goes to the runtime's threads for
//! such work. A future that is dropped leaves at most one turn, which ends by itself.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::LocalDb;
use crate::drive::driver::{Driver, Turn};
use crate::drive::remote::SyncRemote;
use crate::sync::{SessionOptions, Status};
use crate::transport::Transport;
use crate::watch::Signal;

/// A future that owns what it needs.
type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What syncing needs of an async runtime. With tokio both are one line: see `examples/async_tokio.rs`.
pub trait Runtime {
    /// Runs work that blocks, in a thread that may be blocked.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);

    /// A future that is ready after this time.
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A database and a gateway that are to be synced by a future.
pub struct AsyncSync {
    driven: Driven,
}

/// What goes to the thread that may be blocked, and comes back.
struct Driven {
    driver: Driver,
    transport: Box<dyn Transport>,
}

impl AsyncSync {
    /// Prepares; nothing is asked before [`AsyncSync::run`].
    pub fn new(
        db: LocalDb,
        transport: impl Transport + 'static,
        options: SessionOptions,
    ) -> AsyncSync {
        AsyncSync {
            driven: Driven {
                driver: Driver::new(db, options),
                transport: Box::new(transport),
            },
        }
    }

    /// To wish something of it while it runs: [`Wish::Stop`](crate::Wish::Stop) ends it.
    pub fn remote(&self) -> SyncRemote {
        self.driven.driver.remote()
    }

    /// Syncs until it is stopped, or, when it is to sync once, until that is done. Gives the last status.
    ///
    /// Ends early when the runtime gives up work before it is done, as one that shuts down does.
    ///
    /// Cancel safe: dropped, it leaves the file as one that can be gone on with; an exchange under way is finished first.
    pub async fn run(self, runtime: &(impl Runtime + Sync)) -> Status {
        let remote = self.remote();
        let signal = self.driven.driver.signal();
        let mut driven = self.driven;
        loop {
            let generation = signal.generation();
            let Some((back, turn)) = blocking(runtime, move || driven.turn()).await else {
                return remote.status();
            };
            driven = back;
            match turn {
                Turn::Went | Turn::Failed(_) => {}
                Turn::Wait(time) | Turn::Stuck(time, _) => {
                    raised(&signal, generation, runtime.sleep(time)).await;
                }
                Turn::Stopped => return remote.status(),
            }
        }
    }
}

impl Driven {
    fn turn(mut self) -> (Driven, Turn) {
        let turn = self.driver.turn(self.transport.as_ref());
        (self, turn)
    }
}

impl fmt::Debug for AsyncSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSync")
            .field("driver", &self.driven.driver)
            .finish_non_exhaustive()
    }
}

/// Ready when the signal has been raised past `generation`, or the time is over.
async fn raised(signal: &Signal, generation: u64, mut sleep: Sleep) {
    poll_fn(|context| {
        signal.register(context.waker());
        match signal.generation() > generation {
            true => Poll::Ready(()),
            false => sleep.as_mut().poll(context),
        }
    })
    .await;
}

/// What came of work in another thread; none when the work was given up.
async fn blocking<T: Send + 'static>(
    runtime: &impl Runtime,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let slot = Arc::new(Slot::default());
    let filler = Filler(Arc::clone(&slot));
    runtime.spawn_blocking(Box::new(move || {
        let done = work();
        filler.0.fill(State::Done(done));
    }));
    poll_fn(|context| slot.poll(context.waker())).await
}

/// Where the result of work is left.
struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    /// Who is to be woken.
    Waiting(Option<Waker>),
    Done(T),
    GivenUp,
}

/// Tells when the work is dropped undone.
struct Filler<T>(Arc<Slot<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot(Mutex::new(State::Waiting(None)))
    }
}

impl<T> Slot<T> {
    fn fill(&self, state: State<T>) {
        let before = {
            let mut slot = self.slot();
            match &*slot {
                State::Waiting(_) => std::mem::replace(&mut *slot, state),
                State::Done(_) | State::GivenUp => return,
            }
        };
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Option<T>> {
        let mut slot = self.slot();
        match std::mem::replace(&mut *slot, State::GivenUp) {
            State::Done(done) => Poll::Ready(Some(done)),
            State::GivenUp => Poll::Ready(None),
            State::Waiting(_) => {
                *slot = State::Waiting(Some(waker.clone()));
                Poll::Pending
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        self.0.fill(State::GivenUp);
    }
}
