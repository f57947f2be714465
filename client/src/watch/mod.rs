//! Telling the application what changed.
//!
//! Invariant: a watcher is told after the commit and never before, of everything that could have changed and of little
//! else; and however slowly it reads, what waits for it is bounded.

mod changes;
mod hub;
mod inbox;
mod signal;

pub(crate) use changes::Touched;
pub use changes::{ChangedRows, Changes, Origins};
pub(crate) use hub::Hub;
pub(crate) use signal::Signal;

/// What is told of a refused edit; the outbox brings its own.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter;
