//! Making tables known.
//!
//! Invariant: registering is idempotent, and never takes away what a newer schema, the gateway's for instance, has brought.

use std::sync::Arc;

use lakesync_proto::TableSchema;

use crate::db::LocalDb;
use crate::error::ClientError;

impl LocalDb {
    /// Makes a table known: creates it, or adds the columns it lacks. Registering what is known changes nothing.
    ///
    /// A table without a key has a column `row_id` of its own, a UUID where an insert gives none. A table with a key shows
    /// the row id as a generated column, where SQL can write it.
    ///
    /// # Errors
    /// [`ClientError::SchemaConflict`] when it differs in more than added columns, [`ClientError::NameTaken`] when
    /// the database cannot have a table or column of that name, [`ClientError::TooWide`].
    pub fn register(&self, schema: &TableSchema) -> Result<(), ClientError> {
        self.keep(|work| work.registry.adopt(work.tx, schema))
    }

    /// The registered tables.
    ///
    /// # Errors
    /// When the database fails.
    pub fn schemas(&self) -> Result<Vec<Arc<TableSchema>>, ClientError> {
        let local = self.local();
        let registry = local.registry.looked_up(&local.connection)?;
        let schemas = registry.tables().map(|table| Arc::clone(&table.schema));
        Ok(schemas.collect())
    }
}
