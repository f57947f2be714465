//! A counter that can be waited for, by threads and by futures.
//!
//! Invariant: nothing is missed. Who reads the generation, looks, and then waits past that generation is woken by every
//! raise since the reading; a waker that is registered before the look likewise.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Wakers kept between two raises. A future that is polled by ever new tasks leaves one each time; beyond this all are
/// woken, who then look and register again.
const WAKERS_MAX: usize = 1_024;

/// Counts raises.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    #[cfg(feature = "http")]
    raised: std::sync::Condvar,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    wakers: Vec<Waker>,
}

impl Signal {
    /// How often it has been raised.
    #[cfg(any(test, feature = "http"))]
    pub(crate) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Wakes everybody who waits.
    pub(crate) fn raise(&self) {
        let wakers = {
            let mut state = self.state();
            state.generation += 1;
            std::mem::take(&mut state.wakers)
        };
        #[cfg(feature = "http")]
        self.raised.notify_all();
        // A waker runs code of its runtime, so no lock is held meanwhile.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the generation is greater than `generation`, or the time is over; gives the generation then.
    #[cfg(feature = "http")]
    pub(crate) fn wait_past(&self, generation: u64, timeout: Option<std::time::Duration>) -> u64 {
        let behind = |state: &mut State| state.generation <= generation;
        let state = self.state();
        let state = match timeout {
            None => self
                .raised
                .wait_while(state, behind)
                .unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.raised
                    .wait_timeout_while(state, timeout, behind)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        state.generation
    }

    /// Wakes `waker` once, at the next raise. Register first, then look whether there is still something to wait for.
    pub(crate) fn register(&self, waker: &Waker) {
        let full = {
            let mut state = self.state();
            if state.wakers.iter().any(|known| known.will_wake(waker)) {
                return;
            }
            let full = match state.wakers.len() < WAKERS_MAX {
                true => Vec::new(),
                false => std::mem::take(&mut state.wakers),
            };
            state.wakers.push(waker.clone());
            full
        };
        full.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
