//! Commits that this handle did not make.
//!
//! Invariant: what another connection committed is told at the next look, as changes of whole tables, because nobody here
//! has seen which rows it wrote.

use super::changes::Touched;
use crate::{ClientError, LocalDb};

impl LocalDb {
    /// Looks whether another process, or another handle on the same file, has committed since the last look, and tells
    /// those who watch. Whether it has.
    ///
    /// SQLite tells nobody when a file changes, so a program that shares its file asks now and then; it costs a few
    /// microseconds. The first look is the first [`LocalDb::watch`] or [`LocalDb::watch_query`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn poll(&self) -> Result<bool, ClientError> {
        let touched = self.look_elsewhere()?;
        let changed = touched.origins.elsewhere;
        self.hub().publish(touched);
        Ok(changed)
    }

    /// What others did since the last look; nothing at the first.
    pub(crate) fn look_elsewhere(&self) -> Result<Touched, ClientError> {
        let mut local = self.local();
        let mut touched = Touched::default();
        let version = local
            .connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))?;
        if self.hub().saw_data_version(version) {
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
