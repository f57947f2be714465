//! One sync in the caller's thread.
//!
//! Invariant: it returns: when everything has been sent and has come, or with what keeps it from that. It waits for
//! nothing but the exchange under way.

use crate::LocalDb;
use crate::drive::driver::{Driver, Moved, Turn};
use crate::error::ClientError;
use crate::outbox;
use crate::sync::{SessionOptions, Wish};
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
        let driver = Driver::new(self.clone(), SessionOptions::once());
        let moved = to_the_end(driver, transport)?;
        let after = outbox::counts(&self.local().connection)?.rejected;
        Ok(Synced {
            acknowledged: moved.acknowledged,
            applied: moved.applied,
            rejected: after.saturating_sub(before),
        })
    }

    /// Syncs as [`LocalDb::sync`] does, then compares the confirmed rows with the gateway's; a table that differs is loaded
    /// anew. Says how many differed: 0 is as it should be. One that differs even then is the
    /// [`Status`](crate::Status)'s last error.
    ///
    /// # Errors
    /// As for [`LocalDb::sync`].
    pub fn verify(&self, transport: &dyn Transport) -> Result<u64, ClientError> {
        let driver = Driver::new(self.clone(), SessionOptions::once());
        driver.remote().wish(Wish::Verify);
        to_the_end(driver, transport)?;
        Ok(self.status().mismatches)
    }
}

fn to_the_end(mut driver: Driver, transport: &dyn Transport) -> Result<Moved, ClientError> {
    let mut failure = None;
    loop {
        match driver.turn(transport) {
            Turn::Went => {}
            Turn::Failed(error) => failure = Some(error),
            Turn::Stopped => return Ok(driver.moved()),
            Turn::Stuck(_, error) => return Err(error),
            Turn::Wait(_) => return failure.map_or(Ok(driver.moved()), Err),
        }
    }
}
