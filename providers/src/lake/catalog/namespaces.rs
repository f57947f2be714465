//! Namespaces as rows: `iceberg_namespace_properties`, and the namespaces that tables name.
//!
//! **Invariant**: as in PyIceberg, a namespace exists when a row of either table names it or one
//! below it, so an empty one is kept alive by the property `exists = true`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iceberg::NamespaceIdent;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::CATALOG_NAME;
use crate::lake::error::LakeError;

const EXISTS: &str = "exists";

/// Namespaces below a name start with it and a dot; `substr` because LIKE folds case.
const NAMED: &str = "SELECT EXISTS (
    SELECT 1 FROM iceberg_tables WHERE catalog_name = ?1
        AND (table_namespace = ?2 OR substr(table_namespace, 1, length(?2) + 1) = ?2 || '.')
    UNION ALL
    SELECT 1 FROM iceberg_namespace_properties WHERE catalog_name = ?1
        AND (namespace = ?2 OR substr(namespace, 1, length(?2) + 1) = ?2 || '.'))";

pub(super) fn exists(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.query_row(NAMED, [CATALOG_NAME, name], |row| row.get(0))
}

/// The dotted names of all namespaces.
pub(super) fn all(connection: &mut Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT table_namespace FROM iceberg_tables WHERE catalog_name = ?1
         UNION SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ?1
         ORDER BY 1",
    )?;
    let rows = statement.query_map([CATALOG_NAME], |row| row.get(0))?;
    rows.collect()
}

/// The namespaces one level below `parent` (all first levels when it is empty).
pub(super) fn children(names: &[String], parent: &[String]) -> BTreeSet<Vec<String>> {
    names
        .iter()
        .map(|name| name.split('.').map(str::to_owned).collect::<Vec<_>>())
        .filter(|parts| parts.len() > parent.len() && parts.starts_with(parent))
        .map(|mut parts| {
            parts.truncate(parent.len() + 1);
            parts
        })
        .collect()
}

pub(super) fn properties(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<HashMap<String, String>> {
    let mut statement = connection.prepare(
        "SELECT property_key, property_value FROM iceberg_namespace_properties
         WHERE catalog_name = ?1 AND namespace = ?2",
    )?;
    let rows = statement.query_map([CATALOG_NAME, name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// One property, or `None` when it is absent.
pub(super) fn property(
    connection: &Connection,
    name: &str,
    key: &str,
) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT property_value FROM iceberg_namespace_properties
             WHERE catalog_name = ?1 AND namespace = ?2 AND property_key = ?3",
            [CATALOG_NAME, name, key],
            |row| row.get(0),
        )
        .optional()
}

/// Creates a namespace; false when it is there already.
pub(super) fn create(
    connection: &mut Connection,
    name: &str,
    properties: &HashMap<String, String>,
) -> rusqlite::Result<bool> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if exists(&tx, name)? {
        return Ok(false);
    }
    put(&tx, name, EXISTS, "true")?;
    for (key, value) in properties {
        put(&tx, name, key, value)?;
    }
    tx.commit()?;
    Ok(true)
}

/// Replaces all properties.
pub(super) fn replace(
    connection: &mut Connection,
    name: &str,
    properties: &HashMap<String, String>,
) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    clear(&tx, name)?;
    put(&tx, name, EXISTS, "true")?;
    for (key, value) in properties {
        put(&tx, name, key, value)?;
    }
    tx.commit()
}

/// Removes a namespace; false when it still has tables.
pub(super) fn remove(connection: &mut Connection, name: &str) -> rusqlite::Result<bool> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM iceberg_tables
         WHERE catalog_name = ?1 AND table_namespace = ?2)",
        [CATALOG_NAME, name],
        |row| row.get(0),
    )?;
    if tables {
        return Ok(false);
    }
    clear(&tx, name)?;
    tx.commit()?;
    Ok(true)
}

fn clear(connection: &Connection, name: &str) -> rusqlite::Result<usize> {
    connection.execute(
        "DELETE FROM iceberg_namespace_properties WHERE catalog_name = ?1 AND namespace = ?2",
        [CATALOG_NAME, name],
    )
}

fn put(connection: &Connection, name: &str, key: &str, value: &str) -> rusqlite::Result<usize> {
    connection.execute(
        "INSERT INTO iceberg_namespace_properties
             (catalog_name, namespace, property_key, property_value) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET property_value = excluded.property_value",
        params![CATALOG_NAME, name, key, value],
    )
}

/// A compare-and-set of properties, owned so that it can go to another thread.
pub(super) struct Change {
    name: String,
    expected: BTreeMap<String, Option<String>>,
    set: BTreeMap<String, Option<String>>,
}

impl Change {
    pub(super) fn new(
        name: String,
        expected: super::Properties<'_>,
        set: super::Properties<'_>,
    ) -> Self {
        let owned = |pairs: super::Properties<'_>| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
                .collect()
        };
        Self {
            name,
            expected: owned(expected),
            set: owned(set),
        }
    }
}

/// What became of a compare-and-set.
pub(super) enum Outcome {
    Done,
    NoNamespace,
    Differs {
        key: String,
        expected: Option<String>,
        found: Option<String>,
    },
}

impl Outcome {
    pub(super) fn into_result(self, namespace: &NamespaceIdent) -> Result<(), LakeError> {
        let namespace = namespace.to_string();
        match self {
            Self::Done => Ok(()),
            Self::NoNamespace => Err(LakeError::NotFound {
                what: "gateway",
                name: namespace,
            }),
            Self::Differs {
                key,
                expected,
                found,
            } => Err(LakeError::NamespaceChanged {
                namespace,
                key,
                expected,
                found,
            }),
        }
    }
}

pub(super) fn compare_and_set(
    connection: &mut Connection,
    change: &Change,
) -> rusqlite::Result<Outcome> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !exists(&tx, &change.name)? {
        return Ok(Outcome::NoNamespace);
    }
    for (key, expected) in &change.expected {
        let found = property(&tx, &change.name, key)?;
        if found != *expected {
            return Ok(Outcome::Differs {
                key: key.clone(),
                expected: expected.clone(),
                found,
            });
        }
    }
    for (key, value) in &change.set {
        match value {
            Some(value) => put(&tx, &change.name, key, value)?,
            None => tx.execute(
                "DELETE FROM iceberg_namespace_properties
                 WHERE catalog_name = ?1 AND namespace = ?2 AND property_key = ?3",
                [CATALOG_NAME, &change.name, key],
            )?,
        };
    }
    tx.commit()?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_one_level_below() {
        let names = ["a", "a.b", "a.b.c", "ab.c"].map(str::to_owned);
        let of = |parent: &[&str]| -> Vec<String> {
            let parent: Vec<_> = parent.iter().map(ToString::to_string).collect();
            let found = children(&names, &parent).into_iter();
            found.map(|parts| parts.join(".")).collect()
        };
        assert_eq!(of(&[]), ["a", "ab"]);
        assert_eq!(of(&["a"]), ["a.b"]);
        assert_eq!(of(&["a", "b"]), ["a.b.c"]);
    }
}
