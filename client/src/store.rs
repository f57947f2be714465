//! Merged rows in SQLite: the visible row in the user's table, its stamps beside it.
//!
//! ```text
//! t                 row_id, the columns         only rows that exist, only values that show
//! _lakesync_cells   table, row, column, stamp   one for each value that shows; none means "never written"
//! _lakesync_rows    table, row, written, deleted   the greatest write and the greatest DELETE, tombstones included
//! ```
//! Invariant: a load, a merge and a save give what [`RowState`] gives. Values that a DELETE covers are not kept: the
//! delete clock only rises, so they can never show again.

use std::collections::BTreeMap;

use lakesync_proto::{Cell, ColumnName, RowId, RowState, Stamp, Value};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use crate::error::ClientError;
use crate::registry::LocalTable;
use crate::sqlite_value::{from_sqlite, to_sqlite};

/// The stored forms of `written` and `deleted`.
type Clocks = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The state of one row; the empty state when it was never heard of.
pub(crate) fn load(
    connection: &Connection,
    table: &LocalTable,
    row_id: &RowId,
) -> Result<RowState, ClientError> {
    let key = (table.schema.table.as_str(), row_id.as_str());
    let clocks: Option<Clocks> = connection
        .prepare_cached(
            "SELECT written, deleted FROM _lakesync_rows WHERE table_name = ?1 AND row_id = ?2",
        )?
        .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((written, deleted)) = clocks else {
        return Ok(RowState::default());
    };
    let mut state = RowState {
        written: written.as_deref().map(stamp).transpose()?,
        deleted: deleted.as_deref().map(stamp).transpose()?,
        ..RowState::default()
    };
    if state.exists() {
        state.cells = cells(connection, table, row_id)?;
    }
    Ok(state)
}

fn cells(
    connection: &Connection,
    table: &LocalTable,
    row_id: &RowId,
) -> Result<BTreeMap<ColumnName, Cell>, ClientError> {
    let mut values = visible_values(connection, table, row_id)?;
    let mut statement = connection.prepare_cached(
        "SELECT column_name, stamp FROM _lakesync_cells WHERE table_name = ?1 AND row_id = ?2",
    )?;
    let mut rows = statement.query((table.schema.table.as_str(), row_id.as_str()))?;
    let mut cells = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let column = ColumnName::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
        let stamp = stamp(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let value = values.remove(&column).ok_or_else(|| ClientError::Damaged {
            what: format!(
                "column {column} of {} has a stamp and no value",
                table.schema.table
            ),
        })?;
        cells.insert(column, Cell { stamp, value });
    }
    Ok(cells)
}

/// Every column of a row that exists, never written ones as null.
fn visible_values(
    connection: &Connection,
    table: &LocalTable,
    row_id: &RowId,
) -> Result<BTreeMap<ColumnName, Value>, ClientError> {
    let mut statement = connection.prepare_cached(&table.select_row)?;
    let mut rows = statement.query([row_id.as_str()])?;
    let Some(row) = rows.next()? else {
        return Err(ClientError::Damaged {
            what: format!(
                "row {row_id} of {} was removed behind the client's back",
                table.schema.table
            ),
        });
    };
    let columns = table.schema.columns.iter().enumerate();
    columns
        .map(|(index, column)| {
            let stored = row.get_ref(index)?;
            let value =
                from_sqlite(stored, column.column_type).map_err(|what| ClientError::Damaged {
                    what: format!(
                        "column {} of row {row_id} in {}: {what}",
                        column.name, table.schema.table
                    ),
                })?;
            Ok((column.name.clone(), value))
        })
        .collect()
}

/// Writes what differs between the loaded state and the merged one.
pub(crate) fn save(
    connection: &Connection,
    table: &LocalTable,
    row_id: &RowId,
    before: &RowState,
    after: &RowState,
) -> Result<(), ClientError> {
    if before == after {
        return Ok(());
    }
    let written = after.written.as_ref().map(Stamp::to_bytes);
    let deleted = after.deleted.as_ref().map(Stamp::to_bytes);
    connection
        .prepare_cached(
            "INSERT INTO _lakesync_rows VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
             SET written = excluded.written, deleted = excluded.deleted",
        )?
        .execute((
            table.schema.table.as_str(),
            row_id.as_str(),
            written,
            deleted,
        ))?;
    save_cells(connection, table, row_id, before, after)?;
    if after.exists() {
        let key = key_values(table, row_id)?;
        let values = table.schema.columns.iter().map(|column| {
            let value = key
                .get(&column.name)
                .or_else(|| after.visible(&column.name));
            value.map(to_sqlite)
        });
        let row_id = rusqlite::types::Value::Text(row_id.as_str().to_owned());
        let parameters = std::iter::once(Some(row_id)).chain(values);
        connection
            .prepare_cached(&table.upsert_row)?
            .execute(params_from_iter(parameters))?;
    } else if before.exists() {
        connection
            .prepare_cached(&table.delete_row)?
            .execute([row_id.as_str()])?;
    }
    Ok(())
}

fn save_cells(
    connection: &Connection,
    table: &LocalTable,
    row_id: &RowId,
    before: &RowState,
    after: &RowState,
) -> Result<(), ClientError> {
    let name = table.schema.table.as_str();
    let mut forget = connection.prepare_cached(
        "DELETE FROM _lakesync_cells WHERE table_name = ?1 AND row_id = ?2 AND column_name = ?3",
    )?;
    for column in before
        .cells
        .keys()
        .filter(|column| after.visible(column).is_none())
    {
        forget.execute((name, row_id.as_str(), column.as_str()))?;
    }
    let mut keep = connection.prepare_cached(
        "INSERT INTO _lakesync_cells VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET stamp = excluded.stamp",
    )?;
    for (column, cell) in after.visible_cells() {
        let known = before
            .cells
            .get(column)
            .is_some_and(|known| known.stamp == cell.stamp);
        // A column that was dropped may still be written by others; there is nowhere to show it.
        if !known && table.schema.column(column.as_str()).is_some() {
            keep.execute((
                name,
                row_id.as_str(),
                column.as_str(),
                cell.stamp.to_bytes(),
            ))?;
        }
    }
    Ok(())
}

/// The rows of a table that exist, each with the values that show. A column that was never written is absent.
pub(crate) fn rows(
    connection: &Connection,
    table: &LocalTable,
) -> Result<BTreeMap<RowId, BTreeMap<ColumnName, Value>>, ClientError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT row_id FROM \"{}\"", table.schema.table))?;
    let mut found = statement.query([])?;
    let mut rows = BTreeMap::new();
    while let Some(row) = found.next()? {
        let row_id = RowId::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
        let cells = cells(connection, table, &row_id)?;
        let mut values: BTreeMap<ColumnName, Value> = cells
            .into_iter()
            .map(|(column, cell)| (column, cell.value))
            .collect();
        values.extend(key_values(table, &row_id)?);
        rows.insert(row_id, values);
    }
    Ok(rows)
}

/// The key columns of a row: no write decides them, its id does.
fn key_values(
    table: &LocalTable,
    row_id: &RowId,
) -> Result<BTreeMap<ColumnName, Value>, ClientError> {
    let key = table.schema.key_values(row_id);
    let key = key.map_err(|error| ClientError::Damaged {
        what: error.to_string(),
    })?;
    Ok(key.into_iter().collect())
}

fn stamp(bytes: &[u8]) -> Result<Stamp, ClientError> {
    Stamp::from_bytes(bytes).map_err(|error| ClientError::Damaged {
        what: format!("a stored stamp: {error}"),
    })
}
