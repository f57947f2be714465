//! Pins: the snapshots that somebody in this process reads, so that expiry leaves their files alone.
//!
//! ```text
//!   view, running query ──► pin (table, snapshot) ◄── retire: refused while there is one
//!   a reader that comes later                     ──► refused once it is retired
//! ```
//! A pin lives as long as whoever reads: the view, the plan, the stream. A lease is a pin with an end, for whoever holds
//! nothing between two requests.
//!
//! **Invariant:** pinning and retiring exclude each other: a snapshot that is retired has no reader, and gets none.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// How many retired snapshots the process remembers, those retired last. Only views that were taken before and are still
/// held can name one; what they name beyond this fails as a file that is not there.
const RETIRED_MAX: usize = 100_000;

static PINS: LazyLock<Mutex<Pins>> = LazyLock::new(Mutex::default);

/// A snapshot of a table.
type Key = (Uuid, i64);

#[derive(Debug, Default)]
struct Pins {
    readers: HashMap<Key, usize>,
    /// When the last lease of a snapshot ends, in milliseconds since 1970.
    leases: HashMap<Key, u64>,
    retired: BTreeSet<Key>,
    /// The same, oldest first.
    order: VecDeque<Key>,
}

/// Keeps a snapshot's files from being deleted by expiry, for as long as it lives.
#[derive(Debug)]
pub struct Pin {
    key: Key,
}

impl Pin {
    /// A pin on a snapshot of the table with this id; none when the snapshot was retired.
    pub(crate) fn new(table: Uuid, snapshot: i64) -> Option<Arc<Self>> {
        let key = (table, snapshot);
        let mut pins = lock();
        if pins.retired.contains(&key) {
            return None;
        }
        *pins.readers.entry(key).or_default() += 1;
        Some(Arc::new(Self { key }))
    }

    /// Keeps the snapshot until `until_ms` (milliseconds since 1970), whoever reads it till then.
    pub fn lease_until(&self, until_ms: u64) {
        let mut pins = lock();
        let end = pins.leases.entry(self.key).or_default();
        *end = (*end).max(until_ms);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = lock();
        if let Some(readers) = pins.readers.get_mut(&self.key) {
            *readers -= 1;
            if *readers == 0 {
                pins.readers.remove(&self.key);
            }
        }
    }
}

/// The snapshots of a table that are pinned at `now_ms`.
#[must_use]
pub fn pinned(table: Uuid, now_ms: u64) -> BTreeSet<i64> {
    let mut pins = lock();
    pins.leases.retain(|_, until_ms| now_ms < *until_ms);
    let of_table = |key: &&Key| key.0 == table;
    let readers = pins.readers.keys().filter(of_table);
    let leases = pins.leases.keys().filter(of_table);
    readers.chain(leases).map(|key| key.1).collect()
}

/// Retires those of these snapshots that nobody reads at `now_ms`: nobody will any more. These are the answer.
#[must_use]
pub fn retire(table: Uuid, snapshots: &[i64], now_ms: u64) -> BTreeSet<i64> {
    let mut pins = lock();
    pins.leases.retain(|_, until_ms| now_ms < *until_ms);
    let mut retired = BTreeSet::new();
    for &snapshot in snapshots {
        let key = (table, snapshot);
        if pins.readers.contains_key(&key) || pins.leases.contains_key(&key) {
            continue;
        }
        retired.insert(snapshot);
        if pins.retired.insert(key) {
            pins.order.push_back(key);
        }
    }
    while pins.order.len() > RETIRED_MAX {
        if let Some(oldest) = pins.order.pop_front() {
            pins.retired.remove(&oldest);
        }
    }
    retired
}

/// Takes a retirement back: the snapshots are still there.
pub fn readmit(table: Uuid, snapshots: &BTreeSet<i64>) {
    let mut pins = lock();
    let back = |key: &Key| key.0 == table && snapshots.contains(&key.1);
    pins.retired.retain(|key| !back(key));
    pins.order.retain(|key| !back(key));
}

fn lock() -> MutexGuard<'static, Pins> {
    // Every change is whole before anything can panic, so a poisoned lock holds a valid state.
    PINS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_or_retired_and_never_both() {
        let table = Uuid::new_v4();
        let pin = Pin::new(table, 1).unwrap();
        let again = Pin::new(table, 1).unwrap();
        assert_eq!(pinned(table, 0), BTreeSet::from([1]));
        assert_eq!(retire(table, &[1, 2], 0), BTreeSet::from([2]));
        assert!(Pin::new(table, 2).is_none(), "it is retired");
        drop(pin);
        assert_eq!(retire(table, &[1], 0), BTreeSet::new());
        drop(again);
        assert_eq!(retire(table, &[1], 0), BTreeSet::from([1]));
        assert!(Pin::new(table, 1).is_none());
        readmit(table, &BTreeSet::from([1, 2]));
        assert!(Pin::new(table, 1).is_some() && Pin::new(table, 2).is_some());
        assert_eq!(pinned(table, 0), BTreeSet::new());
    }

    #[test]
    fn a_lease_holds_until_its_end() {
        let table = Uuid::new_v4();
        let pin = Pin::new(table, 7).unwrap();
        pin.lease_until(100);
        pin.lease_until(50);
        drop(pin);
        assert_eq!(pinned(table, 99), BTreeSet::from([7]));
        assert_eq!(retire(table, &[7], 99), BTreeSet::new());
        assert_eq!(retire(table, &[7], 100), BTreeSet::from([7]));
    }
}
