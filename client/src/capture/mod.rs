//! From any SQL on a tracked table to deltas in the outbox.
//!
//! ```text
//!  any SQL ─► triggers ─► _lakesync_changes ─► seal: plan ─► stamp ─► rows::hide_confirmed ─► outbox::add
//!             in its own transaction           before anything else that this client does for itself
//! ```
//! Invariant: nothing is captured that did not commit and nothing that committed is missed, because triggers write in the
//! transaction of the change. After a seal the outbox holds every edit, and `_lakesync_changes` none.

mod change;
mod plan;
mod row_name;
mod seal;
#[cfg(test)]
pub(crate) mod tests;
mod times;
mod written;

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

pub(crate) use row_name::new_row_id;
pub(crate) use seal::seal;
pub(crate) use times::row_stamp;

use change::Change;

use crate::error::ClientError;
use crate::local::Work;

/// Changes of one transaction that are told row by row; more are told as "rows of this table", so that a bulk load does not
/// pay for it.
const CHANGES_TOLD_MAX: i64 = 100;

/// Begins an edit: the number that its first captured change will have.
pub(crate) fn next_change(connection: &Connection) -> Result<i64, ClientError> {
    Ok(last_change(connection)? + 1)
}

/// Ends an edit: notes that all changes from `first` on were made by this transaction at its time, and which rows they
/// touch.
pub(crate) fn mark_commit(work: &mut Work<'_>, first: i64) -> Result<(), ClientError> {
    work.registry.stay_first(work.tx)?;
    let last = last_change(work.tx)?;
    if last < first {
        return Ok(());
    }
    let at_ms = i64::try_from(work.now_ms).unwrap_or(i64::MAX);
    work.tx
        .prepare_cached("INSERT INTO _lakesync_commits (first, last, at_ms) VALUES (?1, ?2, ?3)")?
        .execute((first, last, at_ms))?;
    match last - first < CHANGES_TOLD_MAX {
        true => touch_rows(work, first),
        false => touch_tables(work, first),
    }
}

/// The number of the newest captured change, 0 when there is none.
fn last_change(connection: &Connection) -> Result<i64, ClientError> {
    let mut statement =
        connection.prepare_cached("SELECT coalesce(max(change), 0) FROM _lakesync_changes")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn touch_rows(work: &mut Work<'_>, first: i64) -> Result<(), ClientError> {
    let mut statement = work
        .tx
        .prepare_cached("SELECT * FROM _lakesync_changes WHERE change >= ?1")?;
    let mut rows = statement.query([first])?;
    while let Some(row) = rows.next()? {
        let change = Change::read(row)?;
        let Some(table) = work.registry.numbered(change.table_number) else {
            continue;
        };
        let table = Arc::clone(table);
        for row_id in [change.old_row_id(&table), change.new_row_id(&table)] {
            match row_id {
                None => {}
                Some(Ok(row_id)) => work.touched.row(&table.schema.table, &row_id),
                Some(Err(_)) => work.touched.many(&table.schema.table),
            }
        }
    }
    Ok(())
}

fn touch_tables(work: &mut Work<'_>, first: i64) -> Result<(), ClientError> {
    // One table, mostly: to see that is half the work of sorting tables out.
    let single: Option<i64> = work
        .tx
        .prepare_cached(
            "WITH one AS (SELECT table_number FROM _lakesync_changes WHERE change = ?1) SELECT table_number FROM one \
             WHERE NOT EXISTS (SELECT 1 FROM _lakesync_changes WHERE change > ?1 AND table_number <> one.table_number)",
        )?
        .query_row([first], |row| row.get(0))
        .optional()?;
    let numbers = match single {
        Some(number) => vec![number],
        None => {
            let mut statement = work.tx.prepare_cached(
                "SELECT DISTINCT table_number FROM _lakesync_changes WHERE change >= ?1",
            )?;
            let numbers = statement.query_map([first], |row| row.get(0))?;
            numbers.collect::<Result<Vec<i64>, _>>()?
        }
    };
    for number in numbers {
        if let Some(table) = work.registry.numbered(number) {
            work.touched.many(&table.schema.table);
        }
    }
    Ok(())
}
