//! Actions: commands of clients that a webhook carries out. Start at [`Actions`].
//!
//! ```text
//! submit ─► store (fsynced) ─► first attempt ─► answer: data │ refused │ {"status":"queued"}
//!             ▲                      │
//!             └── due again ◄── backoff ──► attempts used up ─► dead letter: list, retry, discard
//! ```
//! They have a database of their own, `<gateway>.actions.db`, beside the gateway's: a second connection that writes
//! would make the gateway's writer wait for its lock, and a push must not wait for a webhook. Nothing in it must agree
//! with the durable log: a lost one loses what was queued and the memory of what was answered, no delta.
//!
//! **Invariants:** an action is on disk before it is delivered · one action is delivered by one attempt at a time ·
//! an answer that was final is given again, not delivered again, while it is remembered.

mod backoff;
mod connector;
mod dead_letters;
mod queue;
mod store;
#[cfg(test)]
mod tests;
mod verdict;
mod webhook;

pub use connector::{ActionType, Connector, ConnectorError, Webhooks};
pub use dead_letters::{DEAD_PAGE_MAX, DeadLetter};
pub use queue::Actions;
