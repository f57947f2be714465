//! From any SQL on a tracked table to deltas in the outbox.

use rusqlite::Connection;

use crate::error::ClientError;
use crate::local::Work;

/// The number that the next captured change will have.
pub(crate) fn next_change(connection: &Connection) -> Result<i64, ClientError> {
    let _ = connection;
    unimplemented!("capture")
}

/// Notes that all changes from `first` on were made by this transaction at its time, and which rows they touch.
pub(crate) fn mark_commit(work: &mut Work<'_>, first: i64) -> Result<(), ClientError> {
    let _ = (work, first);
    unimplemented!("capture")
}

/// Stamps every captured change, in order, and moves it into the outbox as a delta.
pub(crate) fn seal(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let _ = work;
    unimplemented!("capture")
}
