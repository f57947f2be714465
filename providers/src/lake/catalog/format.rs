//! Opening the catalog's file: its version, its durability settings, its tables.
//!
//! **Invariant**: a file of a newer version is refused before anything is written to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::lake::error::LakeError;

/// The version this program writes, kept in `PRAGMA user_version`. Version 0 is a file that
/// PyIceberg made, or an empty one; it is adopted.
const VERSION: i64 = 1;

/// How long a statement waits for another program that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// As SQLAlchemy writes it for PyIceberg, so that both see the same schema.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS iceberg_tables (
\tcatalog_name VARCHAR(255) NOT NULL,
\ttable_namespace VARCHAR(255) NOT NULL,
\ttable_name VARCHAR(255) NOT NULL,
\tmetadata_location VARCHAR(1000),
\tprevious_metadata_location VARCHAR(1000),
\ticeberg_type VARCHAR(5),
\tPRIMARY KEY (catalog_name, table_namespace, table_name)
);
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
\tcatalog_name VARCHAR(255) NOT NULL,
\tnamespace VARCHAR(255) NOT NULL,
\tproperty_key VARCHAR(255) NOT NULL,
\tproperty_value VARCHAR(1000) NOT NULL,
\tPRIMARY KEY (catalog_name, namespace, property_key)
);";

/// Opens or creates the catalog's file.
pub(super) fn open(path: &Path) -> Result<Connection, LakeError> {
    let refused = |action| {
        move |source| LakeError::Catalog {
            action,
            path: path.display().to_string(),
            source,
        }
    };
    let mut connection = Connection::open(path).map_err(refused("open"))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(refused("open"))?;
    let found = version(&connection).map_err(refused("read its version"))?;
    if found > VERSION {
        return Err(LakeError::NewerFormat {
            path: path.display().to_string(),
            found,
            supported: VERSION,
        });
    }
    configure(&connection).map_err(refused("set it to write-ahead logging"))?;
    prepare(&mut connection).map_err(refused("create its tables"))?;
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // On a file system without shared memory SQLite keeps its rollback journal: durable as well.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLES)?;
    let has_type = tx
        .prepare("SELECT 1 FROM pragma_table_info('iceberg_tables') WHERE name = 'iceberg_type'")?
        .exists([])?;
    if !has_type {
        // What PyIceberg does to a catalog of an older version of itself.
        tx.execute_batch("ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)")?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path) -> Connection {
        open(path).unwrap()
    }

    #[test]
    fn the_tables_are_those_of_pyiceberg() {
        let dir = tempfile::tempdir().unwrap();
        let connection = opened(&dir.path().join("catalog.db"));
        let columns = |table: &str| -> Vec<String> {
            let sql = format!(
                "SELECT name || ' ' || type || ' ' || \"notnull\" || ' ' || pk \
                 FROM pragma_table_info('{table}')"
            );
            let mut statement = connection.prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        assert_eq!(
            columns("iceberg_tables"),
            [
                "catalog_name VARCHAR(255) 1 1",
                "table_namespace VARCHAR(255) 1 2",
                "table_name VARCHAR(255) 1 3",
                "metadata_location VARCHAR(1000) 0 0",
                "previous_metadata_location VARCHAR(1000) 0 0",
                "iceberg_type VARCHAR(5) 0 0",
            ]
        );
        assert_eq!(
            columns("iceberg_namespace_properties"),
            [
                "catalog_name VARCHAR(255) 1 1",
                "namespace VARCHAR(255) 1 2",
                "property_key VARCHAR(255) 1 3",
                "property_value VARCHAR(1000) 1 0",
            ]
        );
    }

    #[test]
    fn it_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let connection = opened(&dir.path().join("catalog.db"));
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        let synchronous: i64 = connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[test]
    fn a_newer_file_is_refused_by_name_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(
            error,
            LakeError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ));
        assert!(error.to_string().contains(&path.display().to_string()));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_catalog_of_an_old_pyiceberg_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let old = TABLES.replace("\ticeberg_type VARCHAR(5),\n", "");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&old)
            .unwrap();
        let connection = opened(&path);
        connection
            .prepare("SELECT iceberg_type FROM iceberg_tables")
            .unwrap();
    }

    #[test]
    fn something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        std::fs::write(
            &path,
            "this is no database, however long it may be".repeat(40),
        )
        .unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains("not a database"), "{error}");
    }
}
