//! The offline-first client against the real gateway: random histories, and the named defects of its predecessor.
//!
//! Invariant: a history ends with all SQLite files, the gateway's SQL, the digests and the oracle equal, with empty
//! outboxes, and with every edit that a user was told is written.

mod defects;
mod edits;
mod heal;
mod histories;
mod history;
mod ledger;
mod link;
mod replica;
mod served;
mod tables;
mod world;
