//! The triggers that write down every change of a tracked table, and the table they write into.
//!
//! ```text
//! _lakesync_changes   change, kind, table_number, at_ms, row_id, new_row_id, n0, o0, n1, o1, …
//!
//! at_ms       SQLite's clock; null in a connection of ours, of which _lakesync_commits tells
//!
//! kind        n<slot>                        o<slot>
//! 7 add       key columns                    1: null was written there explicitly, by the typed API
//! 1 insert    all new values                 as 7: so a format before 4 captured inserts
//! 2 update    new values of what changed     old values of what changed; key columns in both
//! 3 delete                                   all old values
//! 4 move      all new values                 all old values        the key, or row_id, was another before
//! 5 null                                     1: null was written where null stood already, by the typed API
//! 6 met                                      all old values        an insert of another program met this row
//! ```
//! What an insert wrote stands in the row, and what changes the row later writes down what it finds there: to write it down
//! a second time would make inserts dear. `capture::written` finds it.
//!
//! SQLite tells of a row that REPLACE takes away only where `recursive_triggers` is on, as it is in connections of ours.
//! Through any other an insert first notes the row that it meets: an insert of the same row that follows has replaced it.
//!
//! The table has no types and no constraints, and triggers give it no number: then nothing in a trigger can fail, and SQLite
//! needs not save every page before a statement that updates or deletes. See also `moment`.
//!
//! A table without a key names its rows in `row_id` (and `new_row_id` of a move), one with a key by its key columns.
//!
//! Invariant: pure SQL, so whatever program changes the table through whatever connection is captured, in the same
//! transaction. They fire before the triggers of the application, because SQLite fires the newest first: what such a
//! trigger changes is captured after the change that it follows.

use std::fmt::Write as _;

use rusqlite::Connection;

use super::ddl::NOW_MS;
use super::gate::{AGGREGATED, CALLED};
use super::moment::foreign_ms;
use super::table::{LocalColumn, LocalTable, Slot, TableNumber};
use crate::error::ClientError;

/// The kinds of captured changes, as the triggers number them.
pub(crate) const INSERT: i64 = 1;
pub(crate) const UPDATE: i64 = 2;
pub(crate) const DELETE: i64 = 3;
pub(crate) const MOVE: i64 = 4;
pub(crate) const NULL: i64 = 5;
pub(crate) const MET: i64 = 6;
pub(crate) const ADD: i64 = 7;

/// `_lakesync_changes` as it is made, before any table needs a slot.
pub(crate) const CHANGES: &str = "CREATE TABLE IF NOT EXISTS _lakesync_changes (
    change INTEGER PRIMARY KEY, kind, table_number, at_ms, row_id, new_row_id)";

/// Columns of `_lakesync_changes` before the first `n0`.
pub(crate) const FIXED_COLUMNS: Slot = 6;

/// What every trigger's name begins with.
const PREFIX: &str = "_lakesync_";

/// The triggers of a table.
const NAMES: [&str; 5] = ["insert", "update", "delete", "move", "meet"];

/// Removes a table's triggers, so that its columns can change.
pub(super) fn drop_all(connection: &Connection, number: TableNumber) -> Result<(), ClientError> {
    for name in NAMES {
        connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {PREFIX}{name}_{number}"))?;
    }
    Ok(())
}

/// Writes a table's triggers anew, as the newest ones.
pub(crate) fn create_all(connection: &Connection, table: &LocalTable) -> Result<(), ClientError> {
    drop_all(connection, table.number)?;
    connection.execute_batch(&insert(table))?;
    connection.execute_batch(&delete(table))?;
    connection.execute_batch(&update(table).unwrap_or_default())?;
    connection.execute_batch(&moved(table))?;
    connection.execute_batch(&meet(table))?;
    Ok(())
}

/// Whether a table's triggers are all there, and older than none of the application's on this table.
pub(crate) fn stand_first(
    connection: &Connection,
    table: &LocalTable,
) -> Result<bool, ClientError> {
    let number = table.number;
    let (count, overtaken): (i64, bool) = connection
        .prepare_cached(
            "WITH ours AS (SELECT rowid AS at, name FROM sqlite_schema WHERE type = 'trigger' \
                 AND tbl_name = ?1 COLLATE NOCASE AND name IN (?2, ?3, ?4, ?5, ?6)) \
             SELECT (SELECT count(*) FROM ours), \
                 EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE \
                     AND name NOT LIKE '\\_lakesync\\_%' ESCAPE '\\' \
                     AND rowid > (SELECT min(at) FROM ours WHERE name <> ?6))",
        )?
        .query_row(
            (
                table.schema.table.as_str(),
                format!("{PREFIX}insert_{number}"),
                format!("{PREFIX}update_{number}"),
                format!("{PREFIX}delete_{number}"),
                format!("{PREFIX}move_{number}"),
                format!("{PREFIX}meet_{number}"),
            ),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    let has_others = table
        .columns
        .iter()
        .any(|column| !table.is_key(&column.name));
    let wanted = match has_others {
        true => NAMES.len(),
        false => NAMES.len() - 1,
    };
    Ok(usize::try_from(count) == Ok(wanted) && !overtaken)
}

/// Gives `_lakesync_changes` columns for this many slots. Nothing may wait in it.
pub(super) fn widen_changes(connection: &Connection, slots: Slot) -> Result<(), ClientError> {
    let columns: Slot = connection.query_row(
        "SELECT count(*) FROM pragma_table_info('_lakesync_changes')",
        [],
        |row| row.get(0),
    )?;
    let known = columns.saturating_sub(FIXED_COLUMNS) / 2;
    if known >= slots {
        return Ok(());
    }
    let waits: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM _lakesync_changes)",
        [],
        |row| row.get(0),
    )?;
    if waits {
        return Err(ClientError::Damaged {
            what: "_lakesync_changes holds unsealed changes while a schema changes".to_owned(),
        });
    }
    // In one go: each ALTER TABLE reads the whole schema again.
    connection.execute_batch(&format!("DROP TABLE _lakesync_changes; {}", wide(slots)))?;
    Ok(())
}

/// CREATE TABLE of `_lakesync_changes` with this many slots.
fn wide(slots: Slot) -> String {
    let mut sql = CHANGES.trim_end_matches(')').to_owned();
    for slot in 0..slots {
        let _ = write!(sql, ", n{slot}, o{slot}");
    }
    sql.push(')');
    sql
}

/// Makes the `_lakesync_changes` of format 2, which had types and constraints, this one. What waits in it stays.
pub(crate) fn loosen_changes(connection: &Connection) -> Result<(), ClientError> {
    let columns: Slot = connection.query_row(
        "SELECT count(*) FROM pragma_table_info('_lakesync_changes')",
        [],
        |row| row.get(0),
    )?;
    let slots = columns.saturating_sub(FIXED_COLUMNS) / 2;
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE _lakesync_waiting AS SELECT * FROM _lakesync_changes; DROP TABLE _lakesync_changes; {};
         INSERT INTO _lakesync_changes SELECT * FROM _lakesync_waiting; DROP TABLE temp._lakesync_waiting",
        wide(slots)
    ))?;
    Ok(())
}

fn insert(table: &LocalTable) -> String {
    let key = table.columns.iter().filter(|c| table.is_key(&c.name));
    let key =
        key.map(|LocalColumn { name, slot, .. }| (format!("n{slot}"), format!("NEW.\"{name}\"")));
    let row_ids = row_id(table, &[("row_id", "NEW")]);
    let (columns, expressions): (Vec<String>, Vec<String>) = row_ids.into_iter().chain(key).unzip();
    let (number, name) = (table.number, &table.schema.table);
    format!(
        "CREATE TRIGGER {PREFIX}insert_{number} AFTER INSERT ON \"{name}\" WHEN {CALLED} IS NOT 1 BEGIN \
         INSERT INTO _lakesync_changes (kind, table_number, at_ms, {}) VALUES ({ADD}, {number}, {}, {}); END",
        columns.join(", "),
        called_ms(),
        expressions.join(", ")
    )
}

/// The time of an insert of another program.
fn called_ms() -> String {
    format!("CASE WHEN {CALLED} IS NULL THEN {NOW_MS} END")
}

fn delete(table: &LocalTable) -> String {
    let values = table.columns.iter().map(|column| {
        (
            format!("o{}", column.slot),
            format!("OLD.\"{}\"", column.name),
        )
    });
    trigger(
        table,
        ("delete", "AFTER DELETE", ""),
        (DELETE, row_id(table, &[("row_id", "OLD")])),
        values.collect(),
    )
}

/// None for a table whose columns are all key columns.
fn update(table: &LocalTable) -> Option<String> {
    let (key, others): (Vec<&LocalColumn>, Vec<&LocalColumn>) = table
        .columns
        .iter()
        .partition(|column| table.is_key(&column.name));
    if others.is_empty() {
        return None;
    }
    let names: Vec<String> = others.iter().map(|c| format!("\"{}\"", c.name)).collect();
    let mut values = Vec::new();
    for LocalColumn { name, slot, .. } in key {
        values.push((format!("n{slot}"), format!("NEW.\"{name}\"")));
        values.push((format!("o{slot}"), format!("NEW.\"{name}\"")));
    }
    for LocalColumn { name, slot, .. } in &others {
        for (column, side) in [("n", "NEW"), ("o", "OLD")] {
            let value = match others.len() {
                // The trigger fires for nothing else.
                1 => format!("{side}.\"{name}\""),
                _ => format!(
                    "CASE WHEN NEW.\"{name}\" IS NOT OLD.\"{name}\" THEN {side}.\"{name}\" END"
                ),
            };
            values.push((format!("{column}{slot}"), value));
        }
    }
    let changed: Vec<String> = others
        .iter()
        .map(|c| format!("NEW.\"{0}\" IS NOT OLD.\"{0}\"", c.name))
        .collect();
    let same: Vec<String> = identity(table)
        .iter()
        .map(|name| format!("NEW.\"{name}\" IS OLD.\"{name}\""))
        .collect();
    let when = format!(" AND {} AND {}", same.join(" AND "), any(&changed));
    let event = format!("AFTER UPDATE OF {}", names.join(", "));
    Some(trigger(
        table,
        ("update", &event, &when),
        (UPDATE, row_id(table, &[("row_id", "NEW")])),
        values,
    ))
}

fn moved(table: &LocalTable) -> String {
    let names = identity(table);
    let event: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let changed: Vec<String> = names
        .iter()
        .map(|name| format!("NEW.\"{name}\" IS NOT OLD.\"{name}\""))
        .collect();
    let values = table
        .columns
        .iter()
        .flat_map(|LocalColumn { name, slot, .. }| {
            [
                (format!("n{slot}"), format!("NEW.\"{name}\"")),
                (format!("o{slot}"), format!("OLD.\"{name}\"")),
            ]
        });
    trigger(
        table,
        (
            "move",
            &format!("AFTER UPDATE OF {}", event.join(", ")),
            &format!(" AND {}", any(&changed)),
        ),
        (
            MOVE,
            row_id(table, &[("row_id", "OLD"), ("new_row_id", "NEW")]),
        ),
        values.collect(),
    )
}

/// Notes the row that an insert of another program meets. It is not known yet what becomes of it.
fn meet(table: &LocalTable) -> String {
    let (number, name) = (table.number, &table.schema.table);
    let same: Vec<String> = identity(table)
        .iter()
        .map(|column| format!("\"{column}\" = NEW.\"{column}\""))
        .collect();
    let same = same.join(" AND ");
    let row_ids = row_id(table, &[("row_id", "t")]);
    let values = table
        .columns
        .iter()
        .map(|column| (format!("o{}", column.slot), format!("\"{}\"", column.name)));
    let (columns, expressions): (Vec<String>, Vec<String>) =
        row_ids.into_iter().chain(values).unzip();
    format!(
        "CREATE TRIGGER {PREFIX}meet_{number} BEFORE INSERT ON \"{name}\" \
         WHEN coalesce({CALLED}, 0) = 0 BEGIN \
         INSERT INTO _lakesync_changes (kind, table_number, at_ms, {}) SELECT {MET}, {number}, {}, {} \
         FROM \"{name}\" AS t WHERE {same}; END",
        columns.join(", "),
        called_ms(),
        expressions.join(", ")
    )
}

/// The trigger of an update or a delete: its name, event and further condition; its kind and the row ids; the slots' values.
fn trigger(
    table: &LocalTable,
    (name, event, when): (&str, &str, &str),
    (kind, row_ids): (i64, Vec<(String, String)>),
    values: Vec<(String, String)>,
) -> String {
    let (columns, expressions): (Vec<String>, Vec<String>) =
        row_ids.into_iter().chain(values).unzip();
    let number = table.number;
    format!(
        "CREATE TRIGGER {PREFIX}{name}_{number} {event} ON \"{}\" WHEN {AGGREGATED} IS NOT 1{when} BEGIN \
         INSERT INTO _lakesync_changes (kind, table_number, at_ms, {}) VALUES ({kind}, {number}, \
         CASE WHEN {AGGREGATED} = '' THEN {} END, {}); END",
        table.schema.table,
        columns.join(", "),
        foreign_ms(),
        expressions.join(", ")
    )
}

/// Where the row's own ids go, for a table that has them.
fn row_id(table: &LocalTable, columns: &[(&str, &str)]) -> Vec<(String, String)> {
    if table.schema.primary_key.is_empty() {
        columns
            .iter()
            .map(|(column, side)| ((*column).to_owned(), format!("{side}.row_id")))
            .collect()
    } else {
        Vec::new()
    }
}

/// The columns that say which row it is.
fn identity(table: &LocalTable) -> Vec<&str> {
    match table.schema.primary_key.as_slice() {
        [] => vec!["row_id"],
        key => key.iter().map(|name| name.as_str()).collect(),
    }
}

/// An OR of all, as a balanced tree: SQLite takes no expression deeper than 1,000.
fn any(conditions: &[String]) -> String {
    match conditions {
        [] => "0".to_owned(),
        [single] => single.clone(),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            format!("({} OR {})", any(left), any(right))
        }
    }
}
