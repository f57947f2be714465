//! The application's own migrations: indexes, views, triggers, tables that are not synced.
//!
//! Invariant: the file counts the scripts that have run in the transaction that ran them, so each runs once.

use crate::db::LocalDb;
use crate::edit::Edit;
use crate::error::ClientError;
use crate::state;

impl LocalDb {
    /// Brings the file up to date: runs those of the application's SQL scripts that have not run in it yet, in order and all
    /// in one transaction. Only ever append to the list.
    ///
    /// Tracked tables are made with [`LocalDb::register`], before scripts that use them. What a script writes to them is
    /// synced like any edit.
    ///
    /// # Errors
    /// [`ClientError::Migrations`] when the file has seen more scripts than there are: a newer version of the application
    /// wrote it. [`ClientError::TableChanged`] when a script changes a tracked table itself, which only its schema may.
    /// [`ClientError::Database`] with what SQLite says about a script.
    pub fn migrate(&self, scripts: &[&str]) -> Result<(), ClientError> {
        self.edit(|work| {
            let run = usize::try_from(state::migrations(work.tx)?).unwrap_or(usize::MAX);
            let Some(waiting) = scripts.get(run..) else {
                return Err(ClientError::Migrations {
                    run,
                    known: scripts.len(),
                });
            };
            if waiting.is_empty() {
                return Ok(());
            }
            for script in waiting {
                Edit::of(work).execute_batch(script)?;
            }
            let known = i64::try_from(scripts.len()).expect("a list in memory is shorter");
            state::set_migrations(work.tx, known)
        })
    }
}
