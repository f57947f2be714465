//! Writing: plain SQL, and typed inserts, updates and deletes.
//!
//! ```
//! use std::sync::Arc;
//! use lakesync_client::{ClientError, LocalDb};
//! use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = Arc::new(ManualClock::new(1_700_000_000_000));
//! let db = LocalDb::open(":memory:", ClientId::parse("laptop")?, clock)?;
//! let todos = br#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#;
//! db.register(&TableSchema::from_definition(&TableDefinition::from_json(todos)?)?)?;
//!
//! let milk = db.insert("todos", &[("title", Value::from("milk"))])?;
//! db.execute("UPDATE todos SET done = 1 WHERE title LIKE ?1", ["mi%"])?;
//! db.transaction(|edit| {
//!     edit.execute("INSERT INTO todos (title) VALUES ('bread'), ('tea')", [])?;
//!     edit.delete("todos", milk.as_str())
//! })?;
//! assert_eq!(db.query("SELECT title FROM todos ORDER BY title", [])?.rows.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: every write goes through the tables' triggers, so the typed ways capture nothing that plain SQL would not, but
//! for one thing: an explicit null, which SQL has no word for.

use std::fmt;

use lakesync_proto::{
    ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, RowId, TableName, Value,
};
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Connection, OptionalExtension, Params, params_from_iter};

use crate::capture::{new_row_id, row_stamp};
use crate::db::LocalDb;
use crate::error::ClientError;
use crate::local::Work;
use crate::query::{self, Rows};
use crate::schema::{ADD, LocalTable, NULL};
use crate::value::to_sqlite;

/// Stands in for the stamp of an edit that is only checked: the seal gives the real one.
const UNSTAMPED: u64 = 1;

/// An open transaction, from [`LocalDb::transaction`]: what it writes becomes visible, and is synced, as a whole or not at
/// all.
pub struct Edit<'a> {
    work: &'a Work<'a>,
}

impl fmt::Debug for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit").finish_non_exhaustive()
    }
}

impl LocalDb {
    /// Runs `work` in one transaction, and rolls back when it fails. The time that `work` takes, nobody else can write.
    ///
    /// `work` uses the [`Edit`] alone: a call to this `LocalDb`, or to a clone of it, would wait for `work` to end.
    ///
    /// # Errors
    /// What `work` fails with, or [`ClientError::Database`] when the commit fails.
    pub fn transaction<T, E: From<ClientError>>(
        &self,
        work: impl FnOnce(&Edit<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.edit(|open| work(&Edit::of(open)))
    }

    /// Runs one SQL statement that writes, and tells how many rows it changed.
    ///
    /// # Errors
    /// [`ClientError::NotWanted`] for a value that a column does not take, [`ClientError::TableChanged`] for SQL that changes
    /// a tracked table itself, or [`ClientError::Database`].
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize, ClientError> {
        self.transaction(|edit| edit.execute(sql, params))
    }

    /// Runs SQL statements, separated by semicolons, in one transaction.
    ///
    /// # Errors
    /// Like [`LocalDb::execute`].
    pub fn execute_batch(&self, sql: &str) -> Result<(), ClientError> {
        self.transaction(|edit| edit.execute_batch(sql))
    }

    /// Runs `work` on the SQLite connection itself, in one transaction that must stay open: for full-text search, functions,
    /// pragmas and whatever else rusqlite has. What it writes to tracked tables is captured too.
    ///
    /// A trigger that `work` makes on a tracked table counts as made at its end. As in [`LocalDb::transaction`], `work` must
    /// not call this `LocalDb`.
    ///
    /// # Errors
    /// What `work` fails with, or [`ClientError::Database`] when the commit fails.
    pub fn with_connection<T, E: From<ClientError>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.edit(|open| work(open.tx))
    }

    /// Adds a row. Its id is made of the key columns; a table without a key gets a new UUID.
    ///
    /// # Errors
    /// [`ClientError::RowExists`]; [`ClientError::Check`] when a value does not fit its column.
    pub fn insert(&self, table: &str, values: &[(&str, Value)]) -> Result<RowId, ClientError> {
        self.transaction(|edit| edit.insert(table, values))
    }

    /// Changes columns of a row; the others stay as they are.
    ///
    /// # Errors
    /// [`ClientError::RowMissing`]; [`ClientError::Check`] when a value does not fit its column or the column is part of
    /// the key.
    pub fn update(
        &self,
        table: &str,
        row_id: impl AsRef<str>,
        changes: &[(&str, Value)],
    ) -> Result<(), ClientError> {
        self.transaction(|edit| edit.update(table, row_id, changes))
    }

    /// Removes a row.
    ///
    /// # Errors
    /// [`ClientError::RowMissing`].
    pub fn delete(&self, table: &str, row_id: impl AsRef<str>) -> Result<(), ClientError> {
        self.transaction(|edit| edit.delete(table, row_id))
    }
}

impl<'a> Edit<'a> {
    pub(crate) fn of(work: &'a Work<'a>) -> Edit<'a> {
        Edit { work }
    }

    /// See [`LocalDb::execute`].
    ///
    /// # Errors
    /// [`ClientError::NotWanted`] for a value that a column does not take, [`ClientError::TableChanged`] for SQL that changes
    /// a tracked table itself, or [`ClientError::Database`].
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize, ClientError> {
        let mut statement = self.work.tx.prepare_cached(sql)?;
        // RETURNING and pragmas give rows; whoever wants those asks with a query.
        let changed = if statement.column_count() == 0 {
            statement.execute(params)?
        } else {
            let mut rows = statement.query(params)?;
            while rows.next()?.is_some() {}
            usize::try_from(self.work.tx.changes()).unwrap_or(usize::MAX)
        };
        drop(statement);
        if !writes_rows(sql) {
            self.work.registry.stay_first(self.work.tx)?;
        }
        Ok(changed)
    }

    /// See [`LocalDb::execute_batch`].
    ///
    /// # Errors
    /// Like [`Edit::execute`].
    pub fn execute_batch(&self, sql: &str) -> Result<(), ClientError> {
        let mut batch = rusqlite::Batch::new(self.work.tx, sql);
        while let Some(mut statement) = batch.next()? {
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            drop(rows);
            self.work.registry.stay_first(self.work.tx)?;
        }
        Ok(())
    }

    /// Reads; see [`LocalDb::query`]. It sees what the transaction has written so far.
    ///
    /// # Errors
    /// [`ClientError::ReadOnly`] when the statement is no query, or [`ClientError::Database`].
    pub fn query(&self, sql: &str, params: impl Params) -> Result<Rows, ClientError> {
        query::read(self.work.tx, sql, params)
    }

    /// See [`LocalDb::insert`].
    ///
    /// # Errors
    /// [`ClientError::RowExists`]; [`ClientError::Check`] when a value does not fit its column.
    pub fn insert(&self, table: &str, values: &[(&str, Value)]) -> Result<RowId, ClientError> {
        let table = self.work.registry.table(&TableName::parse(table)?)?;
        let columns = changes(values)?;
        let row_id = self.new_row_id(table, &columns)?;
        let delta = self.checked(table, (Op::Insert, row_id), columns)?;
        if self.exists(table, &delta.row_id)? {
            return Err(ClientError::RowExists {
                table: delta.table,
                row_id: delta.row_id,
            });
        }
        let first = self.next_change()?;
        self.insert_row(table, &delta)?;
        self.mark_nulls(table, first, &delta.columns)?;
        Ok(delta.row_id)
    }

    /// See [`LocalDb::update`].
    ///
    /// # Errors
    /// [`ClientError::RowMissing`]; [`ClientError::Check`] when a value does not fit its column or the column is part of
    /// the key.
    pub fn update(
        &self,
        table: &str,
        row_id: impl AsRef<str>,
        values: &[(&str, Value)],
    ) -> Result<(), ClientError> {
        let table = self.work.registry.table(&TableName::parse(table)?)?;
        let row_id = RowId::parse(row_id.as_ref())?;
        let delta = self.checked(table, (Op::Update, row_id), changes(values)?)?;
        if !self.exists(table, &delta.row_id)? {
            return Err(missing(delta));
        }
        let columns: Vec<&ColumnChange> = delta
            .columns
            .iter()
            .filter(|change| !table.is_key(&change.column))
            .collect();
        if columns.is_empty() {
            return Ok(());
        }
        self.note_nulls(table, &delta.row_id, &columns)?;
        let key = table.key(&delta.row_id)?;
        let assignments: Vec<String> = columns
            .iter()
            .zip(key.len() + 1..)
            .map(|(change, mark)| format!("\"{}\" = ?{mark}", change.column))
            .collect();
        let sql = format!(
            "UPDATE \"{}\" SET {} {}",
            delta.table,
            assignments.join(", "),
            table.where_row()
        );
        let values = columns.iter().map(|change| to_sqlite(&change.value));
        let mut statement = self.work.tx.prepare_cached(&sql)?;
        statement.execute(params_from_iter(key.into_iter().chain(values)))?;
        Ok(())
    }

    /// See [`LocalDb::delete`].
    ///
    /// # Errors
    /// [`ClientError::RowMissing`].
    pub fn delete(&self, table: &str, row_id: impl AsRef<str>) -> Result<(), ClientError> {
        let table = self.work.registry.table(&TableName::parse(table)?)?;
        let delta = self.checked(
            table,
            (Op::Delete, RowId::parse(row_id.as_ref())?),
            Vec::new(),
        )?;
        if !self.exists(table, &delta.row_id)? {
            return Err(missing(delta));
        }
        let sql = format!("DELETE FROM \"{}\" {}", delta.table, table.where_row());
        let mut statement = self.work.tx.prepare_cached(&sql)?;
        statement.execute(params_from_iter(table.key(&delta.row_id)?))?;
        Ok(())
    }

    /// The edit as the delta that it will make but for its stamp, checked as the gateway will check it.
    fn checked(
        &self,
        table: &LocalTable,
        (op, row_id): (Op, RowId),
        columns: Vec<ColumnChange>,
    ) -> Result<RowDelta, ClientError> {
        let key = DeltaKey {
            table: table.schema.table.clone(),
            row_id,
            client_id: self.work.client_id.clone(),
            hlc: Hlc::from_u64(UNSTAMPED)?,
        };
        let delta = RowDelta::new(op, key, columns);
        let unknown = delta
            .columns
            .iter()
            .find(|change| table.column(&change.column).is_none());
        let check = match unknown {
            // A delta may write a column that was dropped; here there is nowhere to put it.
            Some(change) => Err(lakesync_proto::CheckError::UnknownColumn {
                column: change.column.clone(),
            }),
            None => table.schema.check(&delta),
        };
        check.map_err(|source| ClientError::Check {
            table: table.schema.table.clone(),
            source,
        })?;
        Ok(delta)
    }

    /// The id of a new row: that of its key, or hashed from a stamp.
    fn new_row_id(
        &self,
        table: &LocalTable,
        columns: &[ColumnChange],
    ) -> Result<RowId, ClientError> {
        let hlc = match table.schema.primary_key.is_empty() {
            true => row_stamp(self.work.tx, self.work.now_ms)?,
            false => Hlc::ZERO,
        };
        new_row_id(&table.schema, columns, self.work.client_id, hlc)
    }

    fn exists(&self, table: &LocalTable, row_id: &RowId) -> Result<bool, ClientError> {
        let sql = format!(
            "SELECT 1 FROM \"{}\" {}",
            table.schema.table,
            table.where_row()
        );
        let mut statement = self.work.tx.prepare_cached(&sql)?;
        let found: Option<i64> = statement
            .query_row(params_from_iter(table.key(row_id)?), |row| row.get(0))
            .optional()?;
        Ok(found.is_some())
    }

    fn insert_row(&self, table: &LocalTable, delta: &RowDelta) -> Result<(), ClientError> {
        let own = table.schema.primary_key.is_empty();
        let names = delta.columns.iter().map(|change| change.column.as_str());
        let names: Vec<String> = own
            .then_some("row_id")
            .into_iter()
            .chain(names)
            .map(|name| format!("\"{name}\""))
            .collect();
        let marks = vec!["?"; names.len()].join(", ");
        let sql = format!(
            "INSERT INTO \"{}\" ({}) VALUES ({marks})",
            delta.table,
            names.join(", ")
        );
        let row_id = own.then(|| rusqlite::types::Value::Text(delta.row_id.as_str().to_owned()));
        let values = delta.columns.iter().map(|change| to_sqlite(&change.value));
        let mut statement = self.work.tx.prepare_cached(&sql)?;
        statement.execute(params_from_iter(row_id.into_iter().chain(values)))?;
        Ok(())
    }

    fn next_change(&self) -> Result<i64, ClientError> {
        let mut statement = self
            .work
            .tx
            .prepare_cached("SELECT coalesce(max(change), 0) + 1 FROM _lakesync_changes")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Marks the nulls of the insert that was captured as `change`: our triggers fire first.
    fn mark_nulls(
        &self,
        table: &LocalTable,
        change: i64,
        columns: &[ColumnChange],
    ) -> Result<(), ClientError> {
        let nulls = columns
            .iter()
            .filter(|change| change.value == Value::Null)
            .filter_map(|change| table.column(&change.column))
            .map(|column| format!("o{} = 1", column.slot));
        let nulls: Vec<String> = nulls.collect();
        if nulls.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "UPDATE _lakesync_changes SET {} WHERE change = ?1 AND kind = {ADD} AND table_number = ?2",
            nulls.join(", ")
        );
        self.work
            .tx
            .prepare_cached(&sql)?
            .execute((change, table.number))?;
        Ok(())
    }

    /// Notes the nulls that stand there already: to the triggers nothing changes, to the merge something does.
    fn note_nulls(
        &self,
        table: &LocalTable,
        row_id: &RowId,
        columns: &[&ColumnChange],
    ) -> Result<(), ClientError> {
        let nulls: Vec<_> = columns
            .iter()
            .filter(|change| change.value == Value::Null)
            .filter_map(|change| table.column(&change.column))
            .collect();
        if nulls.is_empty() {
            return Ok(());
        }
        let key = table.key(row_id)?;
        let identity: Vec<(String, &str)> = match table.schema.primary_key.as_slice() {
            [] => vec![("row_id".to_owned(), "row_id")],
            names => names
                .iter()
                .filter_map(|name| table.column(name))
                .map(|column| (format!("o{}", column.slot), column.name.as_str()))
                .collect(),
        };
        let into = identity
            .iter()
            .map(|(into, _)| into.clone())
            .chain(nulls.iter().map(|column| format!("o{}", column.slot)));
        let from = identity
            .iter()
            .map(|(_, from)| format!("\"{from}\""))
            .chain(
                nulls
                    .iter()
                    .map(|column| format!("CASE WHEN \"{}\" IS NULL THEN 1 END", column.name)),
            );
        let any: Vec<String> = nulls
            .iter()
            .map(|column| format!("\"{}\" IS NULL", column.name))
            .collect();
        let sql = format!(
            "INSERT INTO _lakesync_changes (kind, table_number, at_ms, {}) SELECT {NULL}, {}, 0, {} FROM \"{}\" {} AND ({})",
            into.collect::<Vec<_>>().join(", "),
            table.number,
            from.collect::<Vec<_>>().join(", "),
            table.schema.table,
            table.where_row(),
            any.join(" OR ")
        );
        self.work
            .tx
            .prepare_cached(&sql)?
            .execute(params_from_iter(key))?;
        Ok(())
    }
}

/// Whether this SQL surely makes no table and no trigger: a look for those after each row would be dear. Every transaction
/// looks once more at its end.
fn writes_rows(sql: &str) -> bool {
    let word = sql.split_ascii_whitespace().next().unwrap_or_default();
    ["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

fn changes(values: &[(&str, Value)]) -> Result<Vec<ColumnChange>, ClientError> {
    values
        .iter()
        .map(|(name, value)| {
            Ok(ColumnChange {
                column: ColumnName::parse(name)?,
                value: value.clone(),
            })
        })
        .collect()
}

fn missing(delta: RowDelta) -> ClientError {
    ClientError::RowMissing {
        table: delta.table,
        row_id: delta.row_id,
    }
}
