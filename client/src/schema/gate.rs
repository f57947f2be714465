//! The gate: what triggers are to capture. The connection that writes knows, so the triggers ask it.
//!
//! They ask by calls that nobody else makes, because they mean nothing: `printf()` of no format, `char()` of no characters.
//! In a connection of ours these tell the gate. In any other program they are SQLite's own, and tell that it is another.
//!
//! ```text
//!                    ours                                                              any other program
//! printf()           0 open   1 closed   2 open, and REPLACE fires the delete trigger  null
//! (SELECT char())    the same                                                          ''
//! ```
//! There are two, because a call may fail, and then SQLite saves every page that the statement changes (see `moment`). It
//! does so for an insert anyhow: there may be a row of that key. So an insert asks by a call, which is cheap; updates and
//! deletes ask an aggregate.
//!
//! Invariant: a gate that was opened or closed for a transaction stands open again when that ends, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};

use super::moment::take_over;
use crate::error::ClientError;

/// The gate as an insert asks it.
pub(super) const CALLED: &str = "printf()";

/// The gate as an update or a delete asks it.
pub(super) const AGGREGATED: &str = "(SELECT char())";

/// The gate of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<AtomicI64>);

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Changes are captured. REPLACE takes rows away in silence, so the rows that inserts meet are noted.
    Open = 0,
    /// Nothing is captured.
    Closed = 1,
    /// Changes are captured, the rows that REPLACE takes away among them.
    OpenRecursive = 2,
}

/// A gate that stands otherwise until this is dropped.
#[must_use]
pub(crate) struct Held<'g>(&'g Gate);

impl Gate {
    /// Makes a connection one of ours; its gate stands open.
    pub(crate) fn of(connection: &Connection) -> Result<Gate, ClientError> {
        take_over(connection)?;
        let gate = Gate(Arc::new(AtomicI64::new(Stand::Open as i64)));
        // Innocuous: an application that trusts no schema may still write.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        let asked = gate.clone();
        connection.create_scalar_function("printf", 0, flags, move |_| Ok(asked.stand()))?;
        connection.create_aggregate_function("char", 0, flags, gate.clone())?;
        Ok(gate)
    }

    /// Opens it for a transaction of the application's.
    pub(crate) fn open(&self, connection: &Connection) -> Result<Held<'_>, ClientError> {
        // An application may turn recursive triggers off, for triggers of its own that would never end.
        let mut statement = connection.prepare_cached("PRAGMA recursive_triggers")?;
        let stand = match statement.query_row([], |row| row.get(0))? {
            true => Stand::OpenRecursive,
            false => Stand::Open,
        };
        Ok(self.hold(stand))
    }

    /// Has it stand so.
    pub(crate) fn hold(&self, stand: Stand) -> Held<'_> {
        self.0.store(stand as i64, Ordering::Relaxed);
        Held(self)
    }

    fn stand(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.store(Stand::Open as i64, Ordering::Relaxed);
    }
}

/// Over no rows it tells the gate.
impl Aggregate<(), i64> for Gate {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<()> {
        Ok(())
    }

    fn step(&self, _: &mut Context<'_>, (): &mut ()) -> rusqlite::Result<()> {
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, _: Option<()>) -> rusqlite::Result<i64> {
        Ok(self.stand())
    }
}
