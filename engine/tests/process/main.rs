//! The `lakesync` binary as a process: what people and machines see of it from outside.
//!
//! Nothing here links the engine, so this binary builds in a moment.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod access;
mod bad_input;
mod client_kill;
mod command_line;
mod contract;
mod crash;
mod crash_points;
mod endurance;
mod live_server;
mod local_database;
mod maintenance;
mod server;
mod settings;
mod soak;
mod tenants;
mod tokens;
