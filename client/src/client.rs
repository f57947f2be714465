//! The client: one SQLite database, one client id, one clock.
//!
//! Invariant: everything it does to the database is one transaction, so a crash leaves a state it could have been in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lakesync_proto::{
    ClientId, ColumnName, RowDelta, RowId, Seq, TableName, TableSchema, Value, WallClock,
};
use rusqlite::{Connection, TransactionBehavior};

use crate::error::ClientError;
use crate::registry::Registry;
use crate::{outbox, state, store};

/// Prepared statements kept: about ten of the client's own, and three a table.
const STATEMENTS_CACHED: usize = 64;

/// A local database that syncs. See the [crate documentation](crate).
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) client_id: ClientId,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    pub(crate) registry: Registry,
}

impl Client {
    /// Opens a database file, and makes it when there is none. `:memory:` opens one that is gone with the client.
    ///
    /// The id must be this database's alone: two databases that write under one id are told apart by nobody.
    ///
    /// # Errors
    /// When the file cannot be used: no database, of a newer format, or of another client.
    pub fn open(
        path: impl AsRef<Path>,
        client_id: ClientId,
        wall_clock: Arc<dyn WallClock>,
    ) -> Result<Client, ClientError> {
        let mut connection = Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        // An edit that was reported as made must outlive a power cut, so every commit is synced to the disk.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        state::initialise(&transaction, &client_id)?;
        let registry = Registry::load(&transaction)?;
        transaction.commit()?;
        Ok(Client {
            connection,
            client_id,
            wall_clock,
            registry,
        })
    }

    /// The id that this client's edits carry.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// Makes a table known: creates it, or adds the columns it lacks. Registering what is known changes nothing.
    ///
    /// # Errors
    /// [`ClientError::SchemaConflict`] when it differs in more than added columns, [`ClientError::NameTaken`] when
    /// the database cannot have a table or column of that name.
    pub fn register(&mut self, schema: &TableSchema) -> Result<(), ClientError> {
        self.adopt(std::slice::from_ref(schema))
    }

    pub(crate) fn adopt(&mut self, schemas: &[TableSchema]) -> Result<(), ClientError> {
        let mut registry = self.registry.clone();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for schema in schemas {
            registry.adopt(&transaction, schema)?;
        }
        transaction.commit()?;
        self.registry = registry;
        Ok(())
    }

    /// The registered tables.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.registry.schemas()
    }

    /// The rows of a table, each with the values it shows. An explicit null is there as [`Value::Null`], a column
    /// that was never written is not.
    ///
    /// # Errors
    /// [`ClientError::UnknownTable`], or when the database fails.
    pub fn rows(
        &self,
        table: &str,
    ) -> Result<BTreeMap<RowId, BTreeMap<ColumnName, Value>>, ClientError> {
        let table = self.registry.table(&TableName::parse(table)?)?;
        let transaction = self.connection.unchecked_transaction()?;
        store::rows(&transaction, table)
    }

    /// Every delta of the gateway up to this one has been applied.
    ///
    /// # Errors
    /// When the database fails.
    pub fn cursor(&self) -> Result<Seq, ClientError> {
        state::cursor(&self.connection)
    }

    /// How many edits the gateway has not acknowledged.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pending(&self) -> Result<u64, ClientError> {
        outbox::count(&self.connection)
    }

    /// The oldest edits that the gateway has not acknowledged, as many as one push may hold, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outbox(&self) -> Result<Vec<RowDelta>, ClientError> {
        outbox::batch(&self.connection, &self.registry, i64::MAX)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.client_id)
            .field("path", &self.connection.path())
            .finish_non_exhaustive()
    }
}
