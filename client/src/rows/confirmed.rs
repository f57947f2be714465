//! What stands beside a row: its clocks, and the confirmed values that own edits hide.
//!
//! Invariant: a value stands here exactly when an uncovered own edit hides it; everything else is read from `t`.

use lakesync_proto::RowId;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Statement, ToSql};

use super::clocks::RowClocks;
use crate::error::ClientError;
use crate::schema::{Slot, TableNumber};

/// Which row.
pub(crate) type Place<'r> = (TableNumber, &'r RowId);

/// Reads the clocks of a table's row.
pub(super) const READ_CLOCKS: &str =
    "SELECT clocks FROM _lakesync_rows WHERE table_number = ?1 AND row_id = ?2";

/// Replaces the clocks of a table's row.
pub(super) const WRITE_CLOCKS: &str = "INSERT INTO _lakesync_rows VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET clocks = excluded.clocks";

/// The clocks of a row, when it has any.
pub(crate) fn read_clocks(
    connection: &Connection,
    place: Place<'_>,
) -> Result<Option<RowClocks>, ClientError> {
    let mut statement = connection.prepare_cached(READ_CLOCKS)?;
    decoded(&mut statement, place)
}

/// What [`READ_CLOCKS`] finds.
pub(super) fn decoded(
    statement: &mut Statement<'_>,
    (table, row_id): Place<'_>,
) -> Result<Option<RowClocks>, ClientError> {
    let clocks = statement
        .query_row((table, row_id.as_str()), |row| {
            let bytes = row.get_ref(0)?.as_blob()?;
            Ok(RowClocks::decode(bytes))
        })
        .optional()?;
    match clocks {
        None => Ok(None),
        Some(Some(clocks)) => Ok(Some(clocks)),
        Some(None) => Err(ClientError::Damaged {
            what: format!("the clocks of row {row_id} in table number {table}"),
        }),
    }
}

/// Replaces a row's clocks; none takes them away.
pub(crate) fn write_clocks(
    connection: &Connection,
    (table, row_id): Place<'_>,
    clocks: Option<&RowClocks>,
) -> Result<(), ClientError> {
    match clocks {
        Some(clocks) => connection.prepare_cached(WRITE_CLOCKS)?.execute((
            table,
            row_id.as_str(),
            clocks.encode(),
        ))?,
        None => connection
            .prepare_cached("DELETE FROM _lakesync_rows WHERE table_number = ?1 AND row_id = ?2")?
            .execute((table, row_id.as_str()))?,
    };
    Ok(())
}

/// The confirmed values that are hidden, by slot.
pub(super) fn hidden_values(
    connection: &Connection,
    (table, row_id): Place<'_>,
) -> Result<Vec<(Slot, SqlValue)>, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT slot, value FROM _lakesync_confirmed WHERE table_number = ?1 AND row_id = ?2",
    )?;
    let rows = statement.query_map((table, row_id.as_str()), |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps a confirmed value that is about to be hidden, unless one is kept already.
pub(super) fn hide_value(
    connection: &Connection,
    (table, row_id): Place<'_>,
    slot: Slot,
    value: impl ToSql,
) -> Result<(), ClientError> {
    connection
        .prepare_cached(
            "INSERT INTO _lakesync_confirmed VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute((table, row_id.as_str(), slot, value))?;
    Ok(())
}

/// Nothing hides the row's confirmed values any more.
pub(crate) fn forget_values(
    connection: &Connection,
    (table, row_id): Place<'_>,
) -> Result<(), ClientError> {
    connection
        .prepare_cached("DELETE FROM _lakesync_confirmed WHERE table_number = ?1 AND row_id = ?2")?
        .execute((table, row_id.as_str()))?;
    Ok(())
}
