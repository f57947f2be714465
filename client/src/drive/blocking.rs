//! One sync in the caller's thread.
//!
//! Invariant: it returns: when everything has been sent and has come, or with what keeps it from that. It waits for
//! nothing but the exchange under way.

use crate::LocalDb;
use crate::drive::driver::{Driver, Turn};
use crate::error::ClientError;
use crate::outbox;
use crate::sync::SessionOptions;
use crate::transport::Transport;

/// What a sync did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Own edits that the gateway has now, those that it had before included.
    pub acknowledged: u64,
    /// Edits of everybody that came, this client's own and withdrawn rows included; a row of a checkpoint counts as one or
    /// more.
    pub applied: u64,
    /// Own edits that the gateway refused: they are dead letters now.
    pub rejected: u64,
}

impl LocalDb {
    /// Sends what waits and takes what is new, once, in this thread.
    ///
    /// Refused edits are no error: they are counted, and among the dead letters.
    ///
    /// # Errors
    /// What kept it from being done, of the last exchange that failed. What went before is kept: the next sync goes on
    /// from there.
    pub fn sync(&self, transport: &dyn Transport) -> Result<Synced, ClientError> {
        let before = outbox::counts(&self.local().connection)?.rejected;
        let mut driver = Driver::new(self.clone(), SessionOptions::once());
        let mut failure = None;
        loop {
            match driver.turn(transport) {
                Turn::Went => {}
                Turn::Failed(error) => failure = Some(error),
                Turn::Stopped => break,
                Turn::Stuck(_, error) => return Err(error),
                Turn::Wait(_) => match failure {
                    Some(error) => return Err(error),
                    None => break,
                },
            }
        }
        let after = outbox::counts(&self.local().connection)?.rejected;
        let moved = driver.moved();
        Ok(Synced {
            acknowledged: moved.acknowledged,
            applied: moved.applied,
            rejected: after.saturating_sub(before),
        })
    }
}
