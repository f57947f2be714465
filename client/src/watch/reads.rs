//! What a query reads, as SQLite's authorizer tells when the query is prepared.
//!
//! Invariant: a commit that could change the answer touches what is found here. A view is found as the tables under it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use lakesync_proto::TableName;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OptionalExtension};

use super::changes::Changes;
use crate::error::ClientError;
use crate::local::Local;

/// Table-valued functions that read their arguments only.
const PURE_FUNCTIONS: [&str; 2] = ["json_each", "json_tree"];

/// What a query reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Registered tables.
    pub(crate) tables: BTreeSet<TableName>,
    /// And something else, of which no commit says whether it was written: the application's own tables, a search index,
    /// an attached database.
    pub(crate) others: bool,
}

impl Reads {
    /// Whether the answer can be another one.
    pub(crate) fn touched_by(&self, changes: &Changes) -> bool {
        self.others
            || changes
                .tables
                .keys()
                .any(|table| self.tables.contains(table))
    }
}

/// Counts the changes of the file's schema: views and triggers, too.
pub(crate) fn schema_version(connection: &Connection) -> Result<i64, ClientError> {
    let mut statement = connection.prepare_cached("PRAGMA schema_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// What `sql` reads.
///
/// # Errors
/// [`ClientError::ReadOnly`] when it is no query, or what SQLite says about it.
pub(crate) fn of(local: &mut Local, sql: &str) -> Result<Reads, ClientError> {
    local.registry = local.registry.refreshed(&local.connection)?;
    let mut reads = Reads::default();
    for (database, name) in names(&mut local.connection, sql)? {
        match database == "main" {
            true => reads.add(local, &name)?,
            false => reads.others = true,
        }
    }
    Ok(reads)
}

impl Reads {
    fn add(&mut self, local: &Local, name: &str) -> Result<(), ClientError> {
        let mut tables = local.registry.tables().map(|table| &table.schema.table);
        match tables.find(|table| table.as_str().eq_ignore_ascii_case(name)) {
            Some(table) => {
                self.tables.insert(table.clone());
            }
            None => self.others |= holds_rows(&local.connection, name)?,
        }
        Ok(())
    }
}

/// Whether rows of its own stand behind a name that is no registered table's.
fn holds_rows(connection: &Connection, name: &str) -> Result<bool, ClientError> {
    let mut statement = connection
        .prepare_cached("SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE")?;
    let kind: Option<String> = statement.query_row([name], |row| row.get(0)).optional()?;
    Ok(match kind.as_deref() {
        // The tables under it are named, too.
        Some("view") => false,
        Some(_) => true,
        None => !PURE_FUNCTIONS.contains(&name),
    })
}

/// The database and the name, in lower case, of everything that a query names, views and what is under them. Where only
/// the number of rows matters SQLite gives the name as the query spells it, and a recursive expression's own name.
fn names(
    connection: &mut Connection,
    sql: &str,
) -> Result<BTreeSet<(String, String)>, ClientError> {
    let seen: Arc<Mutex<BTreeSet<(String, String)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        if let AuthAction::Read { table_name, .. } = context.action {
            let database = context.database_name.unwrap_or("main");
            noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((database.to_owned(), table_name.to_ascii_lowercase()));
        }
        Authorization::Allow
    }))?;
    // BEGIN, ATTACH and their like change no database file, and so count as read-only; but they have no columns.
    let is_query = connection
        .prepare(sql)
        .map(|statement| statement.readonly() && statement.column_count() > 0);
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    match is_query? {
        true => Ok(std::mem::take(
            &mut *seen.lock().unwrap_or_else(PoisonError::into_inner),
        )),
        false => Err(ClientError::ReadOnly),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "
        CREATE TABLE todos (id TEXT PRIMARY KEY, list TEXT, title TEXT) STRICT;
        CREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT) STRICT;
        CREATE TABLE tags (todo TEXT, tag TEXT) STRICT;
        CREATE VIEW named AS SELECT t.title, l.name FROM todos t JOIN lists l ON l.id = t.list;
        CREATE VIEW tagged AS SELECT * FROM named WHERE EXISTS (SELECT 1 FROM tags);
        CREATE VIRTUAL TABLE words USING fts5(title);
        ATTACH ':memory:' AS other;
        CREATE TABLE other.notes (text TEXT);";

    fn check(sql: &str, expected: &[&str]) {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let seen = names(&mut connection, sql).unwrap();
        let seen: Vec<String> = seen
            .into_iter()
            .map(|(database, name)| match database.as_str() {
                "main" => name,
                _ => format!("{database}.{name}"),
            })
            .collect();
        assert_eq!(seen, expected, "{sql}");
    }

    #[test]
    fn tables_are_found_through_whatever_stands_between() {
        check("SELECT title FROM todos", &["todos"]);
        check("SELECT count(*) FROM todos", &["todos"]);
        check("SELECT 1 FROM todos LIMIT 0", &["todos"]);
        check(
            "SELECT t.id FROM Todos t LEFT JOIN LISTS l ON 0",
            &["lists", "todos"],
        );
        check("SELECT (SELECT max(name) FROM lists)", &["lists"]);
        check("SELECT 1 WHERE EXISTS (SELECT 1 FROM tags)", &["tags"]);
        check(
            "SELECT 1 FROM lists WHERE 'a' IN (SELECT tag FROM tags)",
            &["lists", "tags"],
        );
        check(
            "SELECT 'a' UNION SELECT tag FROM tags EXCEPT SELECT name FROM lists",
            &["lists", "tags"],
        );
        check(
            "SELECT upper(title), row_number() OVER (ORDER BY title) FROM todos",
            &["todos"],
        );
        check("SELECT 1", &[]);
    }

    #[test]
    fn a_view_is_named_with_the_tables_under_it() {
        check("SELECT name FROM named", &["lists", "named", "todos"]);
        check(
            "SELECT count(*) FROM tagged",
            &["lists", "named", "tags", "todos"],
        );
    }

    #[test]
    fn a_common_table_expression_is_no_table() {
        check(
            "WITH lists AS (SELECT title FROM todos) SELECT * FROM lists",
            &["todos"],
        );
        check(
            "WITH unused AS (SELECT * FROM tags), x AS (SELECT 1 AS a FROM lists) SELECT a FROM x",
            &["lists"],
        );
        check(
            "WITH RECURSIVE up(id) AS (SELECT id FROM lists UNION SELECT t.list FROM todos t JOIN up USING (id)) \
             SELECT id FROM up",
            &["lists", "todos"],
        );
    }

    #[test]
    fn what_is_no_plain_table_of_the_file_is_named_too() {
        check(
            "SELECT rowid FROM words WHERE words MATCH 'milk'",
            &["words"],
        );
        check("SELECT text FROM other.notes", &["other.notes"]);
        check(
            "SELECT j.value FROM todos, json_each(title) j",
            &["json_each", "todos"],
        );
    }

    #[test]
    fn what_writes_or_answers_nothing_is_no_query() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        for sql in [
            "DELETE FROM todos RETURNING id",
            "BEGIN",
            "PRAGMA user_version = 3",
        ] {
            let refused = names(&mut connection, sql);
            assert!(
                matches!(refused, Err(ClientError::ReadOnly)),
                "{sql}: {refused:?}"
            );
        }
        assert!(matches!(
            names(&mut connection, "SELECT"),
            Err(ClientError::Database(_))
        ));
        connection.execute_batch("DELETE FROM todos").unwrap();
    }
}
