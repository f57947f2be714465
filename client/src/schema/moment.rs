//! When another program changed a tracked table, told by SQLite's clock, and at no cost to connections of ours.
//!
//! SQLite saves every page that a statement changes, for the case that the statement has to be undone alone, unless it can
//! see that nothing in it fails. A call of a function may fail, whether it is reached or not; a step of an aggregate is no
//! call. So the triggers ask for the time by `strftime` with far more modifiers than anybody writes. In any program that
//! is SQLite's own function. In a connection of ours it is an aggregate that knows no time: nobody asks it, because
//! `_lakesync_commits` says when a transaction of ours was. Updates and deletes are a quarter faster for it.
//!
//! Invariant: a connection that has not called [`take_over`] captures the same changes, with their times.

use rusqlite::Connection;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};

use crate::error::ClientError;

/// Arguments of the call: a format, a time, and modifiers that modify nothing.
const ARGUMENTS: i32 = 11;

/// The time now in milliseconds since 1970 as an SQL expression: null in a connection of ours.
pub(super) fn foreign_ms() -> String {
    let nothing = ", '+0 days'".repeat(9);
    format!(
        "CAST(((SELECT strftime('%J', 'now'{nothing})) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)"
    )
}

/// Makes a connection one that knows no time.
pub(super) fn take_over(connection: &Connection) -> Result<(), ClientError> {
    // Innocuous: an application that trusts no schema may still write.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_aggregate_function("strftime", ARGUMENTS, flags, NoTime)?;
    Ok(())
}

/// An aggregate that gives null.
struct NoTime;

impl Aggregate<(), Option<i64>> for NoTime {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<()> {
        Ok(())
    }

    fn step(&self, _: &mut Context<'_>, (): &mut ()) -> rusqlite::Result<()> {
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, _: Option<()>) -> rusqlite::Result<Option<i64>> {
        Ok(None)
    }
}
