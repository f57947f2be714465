//! Dead rows that snapshots have in common: a fold touches some files, and what is dead in the others is not read again.
//!
//! **Invariant:** nothing is held that no snapshot holds; a delete file is never written twice, and what is kept under its
//! path is all that is dead in its data file by it alone.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::DeadRows;

/// Names of rows that nobody holds any more are swept out when so many names are known, about 100 bytes each, and again
/// when twice as many are left as after the last time.
const NAMES_BEFORE_SWEEP: usize = 4_096;

/// One for the process: paths hold a UUID.
static SHARED: LazyLock<Shared> = LazyLock::new(Shared::default);

/// The dead rows that some snapshot holds, by the path of the only delete file that names them.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    rows: HashMap<String, Weak<DeadRows>>,
    /// How many names were left by the last sweep.
    swept: usize,
}

impl Shared {
    /// Those of the process.
    pub(super) fn of_process() -> &'static Self {
        &SHARED
    }

    /// What a delete file names, when somebody holds it.
    pub(super) fn get(&self, delete_file: &str) -> Option<Arc<DeadRows>> {
        self.lock().rows.get(delete_file)?.upgrade()
    }

    /// Says what a delete file names.
    pub(super) fn put(&self, delete_file: &str, rows: &Arc<DeadRows>) {
        let mut known = self.lock();
        if known.rows.len() >= known.swept.saturating_mul(2).max(NAMES_BEFORE_SWEEP) {
            known.rows.retain(|_, rows| rows.strong_count() > 0);
            known.swept = known.rows.len();
        }
        let rows = Arc::downgrade(rows);
        known.rows.insert(delete_file.to_owned(), rows);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No owner can panic between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_not_held_and_its_names_do_not_pile_up() {
        let shared = Shared::default();
        let rows = |at| Arc::new(DeadRows::new(vec![at], 1 << 20).unwrap());
        let held = rows(7);
        shared.put("held", &held);
        for at in 0..100_000 {
            shared.put(&format!("gone {at}"), &rows(at));
        }
        assert_eq!(shared.get("held"), Some(held));
        assert_eq!(shared.get("gone 99999"), None);
        assert!(shared.lock().rows.len() <= NAMES_BEFORE_SWEEP);
    }
}
