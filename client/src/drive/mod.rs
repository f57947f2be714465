//! What moves a session: the steps it asks for, carried out one by one.
//!
//! Invariant: a driver decides nothing. It carries out a step, hands back the reply, and waits when it is told to, until
//! something happens that the session should know of.

mod background;
mod blocking;
mod carrier;
mod driver;
mod future;
mod remote;
#[cfg(test)]
mod tests;
mod waiting;

pub use background::SyncHandle;
pub use blocking::Synced;
pub use future::{AsyncSync, Runtime};
pub use remote::SyncRemote;
