//! The live connections of the process: how many there are, whose, and since when.
//!
//! **Invariant:** a connection is counted from before it is answered until its [`Ticket`] is dropped, whatever ends it;
//! the counts never pass their limits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakesync_proto::{ErrorCode, GatewayId};

use super::config::ConnectionLimits;
use crate::error::Refusal;

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    WebSocket,
    Events,
    LongPoll,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "sse",
            Self::LongPoll => "long-poll",
        }
    }
}

/// One live connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) gateway: GatewayId,
    /// The token's subject, or the client id that the request named.
    pub(super) client: String,
    pub(super) kind: Kind,
    /// When it began, in milliseconds since 1970.
    pub(super) since_ms: u64,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    by_number: BTreeMap<u64, Connection>,
    by_gateway: HashMap<GatewayId, usize>,
    by_client: HashMap<(GatewayId, String), usize>,
}

/// A place among the connections; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Ticket {
    number: u64,
    held: Arc<Mutex<Held>>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            held: Arc::default(),
        }
    }

    /// Takes a place for `connection`.
    ///
    /// # Errors
    /// 503 when there is none, saying which limit is met.
    pub(super) fn admit(&self, connection: Connection) -> Result<Ticket, Refusal> {
        let mut held = lock(&self.held);
        let client = (connection.gateway.clone(), connection.client.clone());
        let of_gateway = held.by_gateway.get(&connection.gateway).copied();
        let of_client = held.by_client.get(&client).copied();
        let counts = [
            (held.by_number.len(), self.limits.process, "this server"),
            (of_gateway.unwrap_or(0), self.limits.gateway, "this gateway"),
            (of_client.unwrap_or(0), self.limits.subject, "this client"),
        ];
        if let Some((_, limit, of)) = counts.iter().find(|(count, limit, _)| count >= limit) {
            return Err(Refusal::new(
                ErrorCode::BackpressureError,
                format!(
                    "{of} has {limit} live connections, which is its limit; close one, or pull without one"
                ),
            ));
        }
        let number = held.next;
        held.next += 1;
        *held
            .by_gateway
            .entry(connection.gateway.clone())
            .or_default() += 1;
        *held.by_client.entry(client).or_default() += 1;
        held.by_number.insert(number, connection);
        drop(held);
        Ok(Ticket {
            number,
            held: Arc::clone(&self.held),
        })
    }

    /// How many there are of each kind to each gateway.
    pub(super) fn counts(&self) -> BTreeMap<(GatewayId, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for connection in lock(&self.held).by_number.values() {
            let key = (connection.gateway.clone(), connection.kind.as_str());
            *counts.entry(key).or_default() += 1;
        }
        counts
    }

    /// The newest connections to `gateway`, at most `limit`.
    pub(super) fn newest(&self, gateway: &GatewayId, limit: usize) -> Vec<Connection> {
        let held = lock(&self.held);
        let newest = held.by_number.values().rev();
        let newest = newest.filter(|connection| connection.gateway == *gateway);
        newest.take(limit).cloned().collect()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        let Some(connection) = held.by_number.remove(&self.number) else {
            return;
        };
        decrease(&mut held.by_gateway, connection.gateway.clone());
        decrease(&mut held.by_client, (connection.gateway, connection.client));
    }
}

fn decrease<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(gateway: &str, client: &str) -> Connection {
        Connection {
            gateway: GatewayId::parse(gateway).unwrap(),
            client: client.to_owned(),
            kind: Kind::WebSocket,
            since_ms: 1,
        }
    }

    #[test]
    fn each_limit_is_met_by_name_and_a_dropped_ticket_makes_room() {
        let connections = Connections::new(ConnectionLimits {
            process: 4,
            gateway: 3,
            subject: 2,
        });
        let one = connections.admit(connection("a", "ada")).unwrap();
        let _two = connections.admit(connection("a", "ada")).unwrap();
        let refused = |gateway: &str, client: &str| {
            let refusal = connections.admit(connection(gateway, client)).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::BackpressureError);
            refusal.message
        };
        assert!(refused("a", "ada").starts_with("this client has 2"));
        let _three = connections.admit(connection("a", "ben")).unwrap();
        assert!(refused("a", "cyd").starts_with("this gateway has 3"));
        let _four = connections.admit(connection("b", "ada")).unwrap();
        assert!(refused("b", "ben").starts_with("this server has 4"));
        drop(one);
        drop(connections.admit(connection("a", "ada")).unwrap());
        let gateway = GatewayId::parse("a").unwrap();
        assert_eq!(connections.counts()[&(gateway.clone(), "websocket")], 2);
        assert_eq!(connections.newest(&gateway, 1)[0].client, "ben");
    }
}
