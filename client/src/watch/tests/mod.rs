//! What those who watch are told, when, and under which locks.
//!
//! Invariant: whatever a watcher does when it is told, nothing is missed and nothing stands still.

mod hub;
mod signal;
