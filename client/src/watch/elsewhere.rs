//! Commits that this handle did not make.
//!
//! Invariant: what another connection committed is told at the next look, as changes of whole tables, because nobody here
//! has seen which rows it wrote.

use rusqlite::Connection;

use super::changes::Touched;
use crate::{ClientError, LocalDb};

impl LocalDb {
    /// Looks whether another process, or another handle on the same file, has committed since the last look, and tells
    /// those who watch. Whether it has.
    ///
    /// SQLite tells nobody when a file changes, so a program that shares its file asks now and then; it costs a few
    /// microseconds. Whoever syncs in the background need not: it asks every five seconds. The first look is the first [`LocalDb::watch`] or [`LocalDb::watch_query`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn poll(&self) -> Result<bool, ClientError> {
        let touched = self.look_elsewhere()?;
        let changed = touched.origins.elsewhere;
        self.hub().publish(touched);
        Ok(changed)
    }

    /// Makes this the first look, if there was none before.
    pub(crate) fn begin_to_look(&self) -> Result<(), ClientError> {
        let version = data_version(&self.local().connection)?;
        self.hub().first_data_version(version);
        Ok(())
    }

    /// What others did since the last look; nothing at the first.
    fn look_elsewhere(&self) -> Result<Touched, ClientError> {
        let mut local = self.local();
        let mut touched = Touched::default();
        if self
            .hub()
            .saw_data_version(data_version(&local.connection)?)
        {
            let registry = local.registry.refreshed(&local.connection)?;
            for table in registry.tables() {
                touched.many(&table.schema.table);
            }
            local.registry = registry;
            touched.origins.elsewhere = true;
        }
        Ok(touched)
    }
}

/// Counts the commits of other connections, in a way of its own.
fn data_version(connection: &Connection) -> Result<i64, ClientError> {
    let mut statement = connection.prepare_cached("PRAGMA data_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}
