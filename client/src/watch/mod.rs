//! Telling the application what changed.
//!
//! ```text
//!  edit, page, refusal ─► commit ─► Hub::publish ─┬─► the inbox of each watcher ─► try_next, changed, wait, a callback
//!  another process ─► commit ─ ─ ─► poll ─────────┘                    Watch: rows of tables
//!  the session ─► publish_status, publish_dead                         QueryWatch: the answer, when it is another one
//!                                   │                                  StatusWatch: how syncing goes
//!                                   └─► Signal ─► drivers that wait
//! ```
//! Invariant: a watcher is told after the commit and never before, of everything that could have changed and of little
//! else; and however slowly it reads, what waits for it is bounded.

mod changes;
mod elsewhere;
mod hub;
mod inbox;
mod query;
mod reads;
mod signal;
mod spread;
mod status;
mod subscription;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use changes::Touched;
pub use changes::{ChangedRows, Changes, Origins};
pub(crate) use hub::Hub;
pub(crate) use inbox::{First, Interest, Mail};
pub use query::QueryWatch;
#[cfg(any(test, feature = "http"))]
pub(crate) use signal::Signal;
pub(crate) use spread::spread;
pub use status::StatusWatch;
pub use subscription::Subscription;
pub use table::Watch;
