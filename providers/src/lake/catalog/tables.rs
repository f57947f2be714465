//! Tables as rows of `iceberg_tables`. Rows of another `iceberg_type` (views) are not tables.

use iceberg::TableIdent;
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use super::CATALOG_NAME;

/// A table's key in the catalog.
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Row {
    pub(super) fn of(ident: &TableIdent) -> Self {
        Self {
            namespace: ident.namespace().to_string(),
            name: ident.name().to_owned(),
        }
    }
}

/// The current metadata file, or `None` without such a table.
pub(super) fn location(connection: &Connection, row: &Row) -> rusqlite::Result<Option<String>> {
    let found: Option<Option<String>> = connection
        .query_row(
            "SELECT metadata_location FROM iceberg_tables
             WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3
               AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)",
            [CATALOG_NAME, &row.namespace, &row.name],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.flatten())
}

/// Whether a table's metadata lies below this location.
pub(super) fn location_in_use(connection: &Connection, location: &str) -> rusqlite::Result<bool> {
    let below = format!("{location}/");
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM iceberg_tables
         WHERE substr(metadata_location, 1, length(?1)) = ?1)",
        [below],
        |row| row.get(0),
    )
}

/// The names of a namespace's tables, sorted.
pub(super) fn names(connection: &Connection, namespace: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT table_name FROM iceberg_tables
         WHERE catalog_name = ?1 AND table_namespace = ?2
           AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)
         ORDER BY 1",
    )?;
    let rows = statement.query_map([CATALOG_NAME, namespace], |row| row.get(0))?;
    rows.collect()
}

/// Adds a table; false when the name is taken.
pub(super) fn insert(
    connection: &mut Connection,
    row: &Row,
    location: &str,
) -> rusqlite::Result<bool> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = tx.execute(
        "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name,
             metadata_location, previous_metadata_location, iceberg_type)
         VALUES (?1, ?2, ?3, ?4, NULL, 'TABLE') ON CONFLICT DO NOTHING",
        params![CATALOG_NAME, row.namespace, row.name, location],
    )?;
    tx.commit()?;
    Ok(inserted == 1)
}

/// Moves the pointer from one metadata file to the next; false when it was elsewhere.
pub(super) fn swap(
    connection: &Connection,
    row: &Row,
    from: &str,
    to: &str,
) -> rusqlite::Result<bool> {
    let changed = connection.execute(
        "UPDATE iceberg_tables SET metadata_location = ?1, previous_metadata_location = ?2
         WHERE catalog_name = ?3 AND table_namespace = ?4 AND table_name = ?5
           AND metadata_location = ?2 AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)",
        params![to, from, CATALOG_NAME, row.namespace, row.name],
    )?;
    Ok(changed == 1)
}

/// Drops a table; false when there is none.
pub(super) fn remove(connection: &mut Connection, row: &Row) -> rusqlite::Result<bool> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let removed = tx.execute(
        "DELETE FROM iceberg_tables
         WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3
           AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)",
        [CATALOG_NAME, &row.namespace, &row.name],
    )?;
    tx.commit()?;
    Ok(removed == 1)
}

/// What became of a rename.
pub(super) enum Renamed {
    Done,
    NoSource,
    Taken,
}

pub(super) fn rename(
    connection: &mut Connection,
    from: &Row,
    to: &Row,
) -> rusqlite::Result<Renamed> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = tx.execute(
        "UPDATE iceberg_tables SET table_namespace = ?1, table_name = ?2
         WHERE catalog_name = ?3 AND table_namespace = ?4 AND table_name = ?5
           AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)",
        params![
            to.namespace,
            to.name,
            CATALOG_NAME,
            from.namespace,
            from.name
        ],
    );
    match changed {
        Ok(1) => {
            tx.commit()?;
            Ok(Renamed::Done)
        }
        Ok(_) => Ok(Renamed::NoSource),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Renamed::Taken)
        }
        Err(e) => Err(e),
    }
}
