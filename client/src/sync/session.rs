//! The session: the machine's decisions carried out on the database.
//!
//! Invariant: one exchange at a time is under way, and what its answer says is in the file before the next is decided. A
//! session that is dropped at any moment leaves a file that the next one goes on from.

use crate::LocalDb;
use crate::error::ClientError;
use crate::sync::options::{SessionOptions, Wish};
use crate::sync::status::Status;
use crate::sync::step::{Reply, Step};

/// Syncs one database with one gateway, without doing any I/O but that database's.
#[derive(Debug)]
pub struct Session {
    db: LocalDb,
    options: SessionOptions,
    status: Status,
}

impl Session {
    /// A session that has asked nothing yet.
    pub fn new(db: LocalDb, options: SessionOptions) -> Session {
        let status = Status::default();
        Session {
            db,
            options,
            status,
        }
    }

    /// What to do now. Asked again before the reply was given, it is the same exchange again.
    ///
    /// # Errors
    /// When the local database fails. It is in the [`Status`], and the next step is a wait.
    pub fn next(&mut self) -> Result<Step, ClientError> {
        let _ = (&self.db, &self.options);
        unimplemented!("machine")
    }

    /// What came of a step. Replies that nobody waits for any more, as those of a connection that was closed, are
    /// ignored.
    ///
    /// # Errors
    /// What went wrong: the gateway could not be reached or refused, or the local database failed. It is in the
    /// [`Status`] and the session goes on, after a wait where that helps: a driver that stays ignores it, one that syncs
    /// once goes on until [`Step::Wait`] or [`Step::Stopped`] and ends with the first error.
    pub fn on_reply(&mut self, reply: Reply) -> Result<(), ClientError> {
        let _ = reply;
        unimplemented!("machine")
    }

    /// What an answer showed as the gateway's wall clock, in milliseconds since the Unix epoch. Drivers tell it after
    /// each reply, when the transport knows it.
    ///
    /// # Errors
    /// When the local database fails.
    pub fn on_clock(&mut self, gateway_ms: u64) -> Result<(), ClientError> {
        let _ = gateway_ms;
        unimplemented!("machine")
    }

    /// What the application wants; the next step follows it.
    pub fn wish(&mut self, wish: Wish) {
        let _ = wish;
    }

    /// How syncing goes.
    pub fn status(&self) -> Status {
        self.status.clone()
    }
}
