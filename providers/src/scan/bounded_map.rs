//! A map within a budget of bytes; what was asked for longest ago leaves first.
//!
//! **Invariant:** the entries' bytes are at most the budget. What is larger than all of it is made and never kept.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by key, each with the bytes that it takes.
#[derive(Debug)]
pub(super) struct BoundedMap<K, V> {
    bytes_max: u64,
    bytes: u64,
    asked: u64,
    entries: HashMap<K, Entry<V>>,
    by_age: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: u64,
    asked: u64,
}

impl<K: Clone + Eq + Hash, V: Clone + Default> BoundedMap<K, V> {
    /// An empty one with room for so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            asked: 0,
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
        }
    }

    /// The value of `key`, a new one of so many bytes when there is none; others leave for it.
    pub(super) fn get_or_new(&mut self, key: &K, bytes: u64) -> V {
        if let Some(value) = self.get(key) {
            return value;
        }
        let value = V::default();
        if bytes <= self.bytes_max {
            self.make_room(bytes);
            self.bytes += bytes;
            self.by_age.insert(self.asked, key.clone());
            let entry = Entry {
                value: value.clone(),
                bytes,
                asked: self.asked,
            };
            self.entries.insert(key.clone(), entry);
        }
        value
    }

    /// The value of `key`, when there is one; it has been asked for now.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        self.asked += 1;
        let entry = self.entries.get_mut(key)?;
        self.by_age.remove(&entry.asked);
        entry.asked = self.asked;
        self.by_age.insert(self.asked, key.clone());
        Some(entry.value.clone())
    }

    /// Counts the value of `key` as so many bytes, now that they are known.
    pub(super) fn weigh(&mut self, key: &K, bytes: u64) {
        if bytes > self.bytes_max {
            self.remove(key);
        } else if let Some(entry) = self.entries.get_mut(key) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
            self.make_room(0);
        }
    }

    fn make_room(&mut self, bytes: u64) {
        while self.bytes > self.bytes_max - bytes {
            let (_, oldest) = self.by_age.first_key_value().expect("bytes are held");
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_age.remove(&entry.asked);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    type Map = BoundedMap<&'static str, Arc<()>>;

    fn keys(map: &Map) -> Vec<&'static str> {
        let bytes: u64 = map.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!((map.bytes, map.entries.len()), (bytes, map.by_age.len()));
        assert!(map.bytes <= map.bytes_max);
        let mut keys: Vec<_> = map.entries.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_was_asked_for_longest_ago_leaves_first_and_the_budget_holds() {
        let mut map = Map::new(100);
        for (key, bytes) in [("a", 40), ("b", 40), ("a", 40), ("c", 20)] {
            map.get_or_new(&key, bytes);
        }
        assert_eq!(keys(&map), ["a", "b", "c"]);
        map.get_or_new(&"d", 30);
        assert_eq!(keys(&map), ["a", "c", "d"]);
        map.get_or_new(&"e", 100);
        assert_eq!(keys(&map), ["e"]);
        map.get_or_new(&"too large", 101);
        assert_eq!(keys(&map), ["e"]);
    }

    #[test]
    fn all_who_ask_for_a_key_share_one_value() {
        let mut map = Map::new(100);
        let first = map.get_or_new(&"a", 10);
        assert!(Arc::ptr_eq(&first, &map.get_or_new(&"a", 10)));
        assert!(Arc::ptr_eq(&first, &map.get(&"a").unwrap()));
        assert!(map.get(&"b").is_none());
    }

    #[test]
    fn a_value_that_turns_out_to_weigh_more_drives_others_out_or_leaves() {
        let mut map = Map::new(100);
        for key in ["a", "b", "c"] {
            map.get_or_new(&key, 0);
            map.weigh(&key, 40);
        }
        assert_eq!(keys(&map), ["b", "c"]);
        map.weigh(&"b", 10);
        map.weigh(&"gone", 70);
        assert_eq!(keys(&map), ["b", "c"]);
        map.weigh(&"c", 101);
        assert_eq!(keys(&map), ["b"]);
    }

    #[test]
    fn nothing_has_room_in_no_bytes() {
        let mut map = Map::new(0);
        map.get_or_new(&"a", 1);
        assert_eq!(keys(&map), [""; 0]);
    }
}
