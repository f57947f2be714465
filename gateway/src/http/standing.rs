//! Where legacy clients stand: the last cursor that each was given.
//!
//! Their pushes name the time of their clock as `lastSeenHlc`, not a cursor, and they adopt the cursor of a push's
//! answer whatever it is. So the answer is made from where the gateway last saw them: a pull tells it (they pull from
//! their cursor), and each answer moves it.
//!
//! **Invariant:** a forgotten client stands at the beginning: it is sent too much, never too little.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use lakesync_proto::{ClientId, GatewayId, Seq};

/// How many clients are remembered (100,000, some 20 MB).
const CLIENTS_MAX: usize = 100_000;

type Key = (GatewayId, ClientId);

/// The last cursor of each client.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    by_client: HashMap<Key, Seq>,
    /// In the order of their first cursor.
    order: VecDeque<Key>,
}

impl Standing {
    /// The client was given everything up to `cursor`, and adopts it.
    pub(super) fn set(&self, gateway: &GatewayId, client: &ClientId, cursor: Seq) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (gateway.clone(), client.clone());
        if held.by_client.insert(key.clone(), cursor).is_some() {
            return;
        }
        held.order.push_back(key);
        if held.order.len() > CLIENTS_MAX
            && let Some(oldest) = held.order.pop_front()
        {
            held.by_client.remove(&oldest);
        }
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
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = held.by_client.get(&(gateway.clone(), client.clone()));
        stands.copied().unwrap_or(Seq::ZERO).min(visible)
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
        let asked = |last_seen, visible| standing.last_seen(&gateway, &ada, last_seen, seq(visible));
        assert_eq!(asked(seq(7), 9), seq(7), "a native client says its cursor");
        assert_eq!(asked(clock, 9), Seq::ZERO);
        standing.set(&gateway, &ada, seq(5));
        assert_eq!(asked(clock, 9), seq(5));
        standing.set(&gateway, &ada, seq(4));
        assert_eq!(asked(clock, 9), seq(4), "a client that began again");
        assert_eq!(asked(clock, 3), seq(3), "a log that lost its end");
        for nth in 0..CLIENTS_MAX {
            standing.set(&gateway, &ClientId::parse(&format!("c{nth}")).unwrap(), seq(1));
        }
        assert_eq!(asked(clock, 9), Seq::ZERO);
    }
}
