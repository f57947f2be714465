//! How much memory completed rows may take: values that the base has too, held so that a query need not read them.
//!
//! **Invariant:** what is reserved is given back when the last holder of the reservation goes; a row that found no room
//! is read from the base by each query that needs it whole, so no query fails for want of room.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of completed rows all overlays of the process hold (256 MiB): half a million rows of 500 bytes.
const COMPLETED_BYTES_MAX: usize = 256 << 20;

/// One for the process: a limit for each table would be no limit.
static COMPLETED: AtomicUsize = AtomicUsize::new(0);

/// A limit of bytes, and how many are taken.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    max: usize,
    taken: Taken,
}

#[derive(Clone, Debug)]
enum Taken {
    Process,
    #[cfg(test)]
    Own(std::sync::Arc<AtomicUsize>),
}

impl Taken {
    fn counter(&self) -> &AtomicUsize {
        match self {
            Self::Process => &COMPLETED,
            #[cfg(test)]
            Self::Own(counter) => counter,
        }
    }
}

impl Budget {
    /// That of the process.
    pub(crate) fn of_process() -> Self {
        Self {
            max: COMPLETED_BYTES_MAX,
            taken: Taken::Process,
        }
    }

    /// One of its own.
    #[cfg(test)]
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Taken::Own(std::sync::Arc::default()),
        }
    }

    /// Whether no byte is left.
    pub(super) fn is_spent(&self) -> bool {
        self.taken.counter().load(Ordering::Relaxed) >= self.max
    }

    /// So many bytes, if there are.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= self.max);
        let counter = self.taken.counter();
        let reserved = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        reserved.ok().map(|_| self.hold(bytes))
    }

    /// So many bytes, whatever is left: of what replaces something that is given back at once.
    pub(super) fn replace(&self, bytes: usize) -> Reservation {
        self.taken.counter().fetch_add(bytes, Ordering::Relaxed);
        self.hold(bytes)
    }

    fn hold(&self, bytes: usize) -> Reservation {
        Reservation {
            bytes,
            taken: self.taken.clone(),
        }
    }
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: usize,
    taken: Taken,
}

impl Reservation {
    /// How many.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.taken
            .counter()
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_reserved_than_there_is_and_what_is_dropped_can_be_had_again() {
        let budget = Budget::new(100);
        let first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        assert!(!budget.is_spent());
        let second = budget.reserve(40).unwrap();
        assert!(budget.is_spent());
        let replaced = budget.replace(30);
        drop((first, second));
        assert!(budget.reserve(71).is_none());
        assert_eq!(budget.reserve(70).unwrap().bytes(), 70);
        drop(replaced);
        assert!(budget.reserve(usize::MAX).is_none());
    }
}
