//! Whether a tracked table is what its registered schema made of it.
//!
//! Invariant: what is told here is what capture or apply would fail on, or lose in silence: a table or column that is gone,
//! and a column whose values nobody syncs. Generated columns and indexes are the application's to make.

use rusqlite::Connection;

use super::table::LocalTable;
use crate::error::ClientError;

/// How a table differs; none when it does not.
pub(super) fn difference(
    connection: &Connection,
    table: &LocalTable,
) -> Result<Option<String>, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT info.name, info.hidden <> 0 FROM sqlite_schema AS tables, pragma_table_xinfo(tables.name) AS info
         WHERE tables.type = 'table' AND tables.name = ?1",
    )?;
    let mut rows = statement.query([table.schema.table.as_str()])?;
    let mut columns = table.columns.iter();
    let mut found = 0;
    let mut has_row_id = false;
    let mut any = false;
    while let Some(row) = rows.next()? {
        any = true;
        let name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        // They stand in the schema's order, mostly.
        let is_ours = columns.next().is_some_and(|column| column.name == *name)
            || table.columns.iter().any(|column| column.name == *name);
        if is_ours {
            found += 1;
        } else if name == "row_id" {
            has_row_id = true;
        } else if !row.get::<_, bool>(1)? {
            return Ok(Some(format!("column {name} is not in the schema")));
        }
    }
    if !any {
        return Ok(Some("it is gone".to_owned()));
    }
    if table.schema.primary_key.is_empty() && !has_row_id {
        return Ok(Some("column row_id is gone".to_owned()));
    }
    match found < table.columns.len() {
        true => Ok(Some("a column of the schema is gone".to_owned())),
        false => Ok(None),
    }
}
