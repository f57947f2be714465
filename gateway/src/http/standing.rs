//! Where clients stand: the last cursor that each legacy one has for sure, and the last delta that each pushed.
//!
//! A legacy client's pushes name the time of its clock as `lastSeenHlc`, not a cursor, and it adopts the cursor of a
//! push's answer whatever it is. So the answer is made from where the gateway last saw it: a pull tells it (it pulls from
//! its cursor). What a pull is answered does not: it may be lost on its way. The answer to a push skips nothing that is
//! to be heard, so it may.
//!
//! Under rules a client may push a row that it may not see; only it hears that. So what it is sent live is read for it
//! alone as long as its own deltas may be among it.
//!
//! **Invariant:** a forgotten client stands at the beginning, and may have pushed whatever forgotten ones did: it is sent
//! too much, never too little.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lakesync_proto::{ClientId, GatewayId, Seq};

/// How many clients are remembered (100,000, some 20 MB).
const CLIENTS_MAX: usize = 100_000;

type Key = (GatewayId, ClientId);

/// What is known of each client.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    by_client: HashMap<Key, Entry>,
    /// In the order in which they came.
    order: VecDeque<Key>,
    /// The greatest seq of deltas of forgotten clients, for each gateway.
    forgotten: BTreeMap<GatewayId, Seq>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The last cursor that it has.
    cursor: Seq,
    /// How many pushes of it are under way.
    pushing: u32,
    /// No delta of it that came in this process is above this seq.
    pushed: Seq,
}

/// A push under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Pushing<'a> {
    standing: &'a Standing,
    key: Key,
    pushed: Seq,
}

impl Standing {
    /// The client has everything up to `cursor`, or there is nothing for it to hear.
    pub(super) fn set(&self, gateway: &GatewayId, client: &ClientId, cursor: Seq) {
        let key = (gateway.clone(), client.clone());
        self.lock().entry(key).cursor = cursor;
    }

    /// What a push by `client` means with its `last_seen`: a cursor when it can be one, else where it stands.
    pub(super) fn last_seen(
        &self,
        gateway: &GatewayId,
        client: &ClientId,
        last_seen: Seq,
        visible: Seq,
    ) -> Seq {
        if last_seen <= visible {
            return last_seen;
        }
        let held = self.lock();
        let stands = held.by_client.get(&(gateway.clone(), client.clone()));
        stands.map_or(Seq::ZERO, |entry| entry.cursor).min(visible)
    }

    /// A push of the client begins.
    pub(super) fn push(&self, gateway: &GatewayId, client: &ClientId) -> Pushing<'_> {
        let key = (gateway.clone(), client.clone());
        self.lock().entry(key.clone()).pushing += 1;
        Pushing {
            standing: self,
            key,
            pushed: Seq::ZERO,
        }
    }

    /// Whether deltas of the client that came in this process may be above `seq`.
    pub(super) fn has_pushed(&self, gateway: &GatewayId, client: &ClientId, seq: Seq) -> bool {
        let held = self.lock();
        match held.by_client.get(&(gateway.clone(), client.clone())) {
            Some(entry) => entry.pushing > 0 || entry.pushed > seq,
            None => held.forgotten_of(gateway) > seq,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn entry(&mut self, key: Key) -> &mut Entry {
        if !self.by_client.contains_key(&key) {
            if self.order.len() >= CLIENTS_MAX {
                self.forget();
            }
            self.order.push_back(key.clone());
        }
        let pushed = self.forgotten_of(&key.0);
        self.by_client.entry(key).or_insert(Entry {
            pushed,
            ..Entry::default()
        })
    }

    /// Forgets the oldest one, but none that pushes: there are as few as requests under way.
    fn forget(&mut self) {
        for _ in 0..self.order.len() {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            let entry = self.by_client.get(&oldest);
            if entry.is_some_and(|entry| entry.pushing > 0) {
                self.order.push_back(oldest);
                continue;
            }
            if let Some(entry) = self.by_client.remove(&oldest) {
                let forgotten = self.forgotten.entry(oldest.0).or_default();
                *forgotten = entry.pushed.max(*forgotten);
            }
            return;
        }
    }

    fn forgotten_of(&self, gateway: &GatewayId) -> Seq {
        self.forgotten.get(gateway).copied().unwrap_or(Seq::ZERO)
    }
}

impl Pushing<'_> {
    /// The push was accepted, up to this seq.
    pub(super) fn accepted(&mut self, seq: Seq) {
        self.pushed = seq;
    }
}

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        let mut held = self.standing.lock();
        if let Some(entry) = held.by_client.get_mut(&self.key) {
            entry.pushing = entry.pushing.saturating_sub(1);
            entry.pushed = entry.pushed.max(self.pushed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_clock_is_no_cursor_and_a_forgotten_client_begins_again() {
        let gateway = GatewayId::parse("g").unwrap();
        let ada = ClientId::parse("ada").unwrap();
        let seq = |number| Seq::from_u64(number).unwrap();
        let clock = seq(111_411_200_000_000_001);
        let standing = Standing::default();
        let asked =
            |last_seen, visible| standing.last_seen(&gateway, &ada, last_seen, seq(visible));
        assert_eq!(asked(seq(7), 9), seq(7), "a native client says its cursor");
        assert_eq!(asked(clock, 9), Seq::ZERO);
        standing.set(&gateway, &ada, seq(5));
        assert_eq!(asked(clock, 9), seq(5));
        standing.set(&gateway, &ada, seq(4));
        assert_eq!(asked(clock, 9), seq(4), "a client that began again");
        assert_eq!(asked(clock, 3), seq(3), "a log that lost its end");
        for nth in 0..CLIENTS_MAX {
            standing.set(
                &gateway,
                &ClientId::parse(&format!("c{nth}")).unwrap(),
                seq(1),
            );
        }
        assert_eq!(asked(clock, 9), Seq::ZERO);
    }

    #[test]
    fn what_a_client_pushes_is_known_before_it_can_be_visible() {
        let gateway = GatewayId::parse("g").unwrap();
        let ada = ClientId::parse("ada").unwrap();
        let seq = |number| Seq::from_u64(number).unwrap();
        let standing = Standing::default();
        assert!(!standing.has_pushed(&gateway, &ada, seq(0)));
        let mut pushing = standing.push(&gateway, &ada);
        drop(standing.push(&gateway, &ada));
        assert!(standing.has_pushed(&gateway, &ada, seq(1_000)), "under way");
        pushing.accepted(seq(7));
        drop(pushing);
        assert!(standing.has_pushed(&gateway, &ada, seq(6)));
        assert!(!standing.has_pushed(&gateway, &ada, seq(7)));
    }

    #[test]
    fn of_a_forgotten_client_deltas_may_be_below_what_was_forgotten_and_who_pushes_is_not_forgotten()
     {
        let gateway = GatewayId::parse("g").unwrap();
        let other = GatewayId::parse("h").unwrap();
        let client = |name: &str| ClientId::parse(name).unwrap();
        let seq = |number| Seq::from_u64(number).unwrap();
        let standing = Standing::default();
        let under_way = standing.push(&gateway, &client("slow"));
        let mut pushing = standing.push(&gateway, &client("ada"));
        pushing.accepted(seq(7));
        drop(pushing);
        for nth in 0..CLIENTS_MAX {
            standing.set(&gateway, &client(&format!("c{nth}")), seq(1));
        }
        assert!(standing.has_pushed(&gateway, &client("slow"), seq(1_000)));
        drop(under_way);
        for name in ["ada", "new"] {
            assert!(
                standing.has_pushed(&gateway, &client(name), seq(6)),
                "{name}"
            );
            assert!(
                !standing.has_pushed(&gateway, &client(name), seq(7)),
                "{name}"
            );
        }
        standing.set(&gateway, &client("ada"), seq(3));
        assert!(
            standing.has_pushed(&gateway, &client("ada"), seq(6)),
            "known again"
        );
        assert!(
            !standing.has_pushed(&gateway, &client("c50000"), seq(1)),
            "known all the time"
        );
        assert!(
            !standing.has_pushed(&other, &client("ada"), seq(1)),
            "of another gateway"
        );
        assert!(standing.lock().by_client.len() <= CLIENTS_MAX);
    }
}
