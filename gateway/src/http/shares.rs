//! How much of something each of many holders has: so that one cannot take all.
//!
//! **Invariant:** nobody holds more than a share; whoever holds nothing takes no memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The shares of all holders, each of the same size.
#[derive(Clone, Debug)]
pub(super) struct Shares<K> {
    each: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// What one holder has taken; it is given back when dropped.
#[derive(Debug)]
pub(super) struct Share<K: Eq + Hash> {
    shares: Shares<K>,
    holder: K,
    held: usize,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// At most `each` for each holder.
    pub(super) fn new(each: usize) -> Self {
        Self {
            each,
            held: Arc::default(),
        }
    }

    /// A share of `holder` with nothing in it yet.
    pub(super) fn of(&self, holder: &K) -> Share<K> {
        Share {
            shares: self.clone(),
            holder: holder.clone(),
            held: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Share<K> {
    /// Takes `amount` more; false, and nothing is taken, when the holder would have more than its share.
    pub(super) fn take(&mut self, amount: usize) -> bool {
        if amount == 0 {
            return true;
        }
        let mut all = self.shares.lock();
        let held = all.get(&self.holder).copied().unwrap_or(0);
        if amount > self.shares.each.saturating_sub(held) {
            return false;
        }
        all.insert(self.holder.clone(), held + amount);
        self.held += amount;
        true
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut all = self
            .shares
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&self.holder) {
            *held -= self.held;
            if *held == 0 {
                all.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_gets_its_share_and_others_theirs_and_nothing_stays_behind() {
        let shares = Shares::new(3);
        let (mut one, mut more, mut other) = (shares.of(&"a"), shares.of(&"a"), shares.of(&"b"));
        assert!(one.take(2) && !more.take(2) && more.take(1) && other.take(3));
        assert!(!one.take(1) && one.take(0));
        drop(one);
        assert!(more.take(2) && !more.take(usize::MAX));
        drop((more, other));
        assert!(shares.lock().is_empty());
    }
}
