//! The database as the application holds it.
//!
//! Invariant: a handle is cheap to clone and may go to any thread; whatever it does to the file is one transaction, so a
//! crash leaves a state that it could have been in. Nobody is told of a change before it has committed.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakesync_proto::{ClientId, WallClock};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::ClientError;
use crate::local::{Local, News, Work};
use crate::schema::{Gate, Registry};
use crate::watch::Hub;
use crate::{format, state};

/// Prepared statements kept: about thirty of the client's own, and some for each table.
const STATEMENTS_CACHED: usize = 256;

/// Pages of the file held in memory, in KiB: a page of the gateway touches rows all over the trees beside `t`, and SQLite's
/// own 2 MiB would be read again for each of them.
const CACHE_KIB: i64 = 16 << 10;

/// How long a write waits for another process that writes, in milliseconds.
const BUSY_MS: u64 = 5_000;

/// A local database that syncs. See the [crate documentation](crate).
#[derive(Clone)]
pub struct LocalDb {
    shared: Arc<Shared>,
}

struct Shared {
    local: Mutex<Local>,
    hub: Hub,
}

impl LocalDb {
    /// Opens a database file, and makes it when there is none. `:memory:` opens one that is gone with its last handle.
    ///
    /// The id must be this database's alone: two databases that write under one id are told apart by nobody.
    ///
    /// # Errors
    /// When the file cannot be used: no database, of another format, or of another client.
    pub fn open(
        path: impl AsRef<Path>,
        client_id: ClientId,
        wall_clock: Arc<dyn WallClock>,
    ) -> Result<LocalDb, ClientError> {
        let mut connection = Connection::open(path)?;
        let gate = prepare(&connection)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        format::initialise(&transaction)?;
        match state::client(&transaction)? {
            None => state::set_client(&transaction, &client_id)?,
            Some(found) if found == client_id => {}
            Some(found) => {
                return Err(ClientError::OtherClient {
                    found,
                    wanted: client_id,
                });
            }
        }
        let registry = Registry::load(&transaction)?;
        transaction.commit()?;
        Ok(LocalDb::over(Local {
            connection,
            gate,
            registry,
            client_id,
            wall_clock,
        }))
    }

    /// Opens a database file that is there, whosever it is: for tools that look into it.
    ///
    /// # Errors
    /// [`ClientError::NoClient`] when the file is no client's, and as [`LocalDb::open`].
    pub fn reopen(
        path: impl AsRef<Path>,
        wall_clock: Arc<dyn WallClock>,
    ) -> Result<LocalDb, ClientError> {
        let flags = OpenFlags::default().difference(OpenFlags::SQLITE_OPEN_CREATE);
        let mut connection = Connection::open_with_flags(path, flags)?;
        let Some(client_id) = format::owner(&connection)? else {
            return Err(ClientError::NoClient);
        };
        let gate = prepare(&connection)?;
        if format::is_older(&connection)? {
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            format::initialise(&transaction)?;
            transaction.commit()?;
        }
        let registry = Registry::load(&connection)?;
        Ok(LocalDb::over(Local {
            connection,
            gate,
            registry,
            client_id,
            wall_clock,
        }))
    }

    fn over(local: Local) -> LocalDb {
        LocalDb {
            shared: Arc::new(Shared {
                local: Mutex::new(local),
                hub: Hub::default(),
            }),
        }
    }

    /// The id that this database's edits carry.
    pub fn client_id(&self) -> ClientId {
        self.local().client_id.clone()
    }

    /// The open file. A panic of another holder left a transaction that was rolled back, never half a write.
    pub(crate) fn local(&self) -> MutexGuard<'_, Local> {
        self.shared
            .local
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// See [`Local::edit`].
    pub(crate) fn edit<T, E: From<ClientError>>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (value, news) = self.local().edit(work)?;
        self.publish(news);
        Ok(value)
    }

    /// See [`Local::keep`].
    pub(crate) fn keep<T>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let (value, news) = self.local().keep(work)?;
        self.publish(news);
        Ok(value)
    }

    fn publish(&self, news: News) {
        self.hub().publish(news.touched);
        if !news.dead.is_empty() {
            self.hub().publish_dead(&news.dead);
        }
    }
}

fn prepare(connection: &Connection) -> Result<Gate, ClientError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    // An edit that was reported as made must outlive a power cut, so every commit is synced to the disk. Without
    // recursive triggers REPLACE would take a row away in silence.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA recursive_triggers = ON;",
    )?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Gate::of(connection)
}

impl fmt::Debug for LocalDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.local();
        f.debug_struct("LocalDb")
            .field("client_id", &local.client_id)
            .field("path", &local.connection.path())
            .finish_non_exhaustive()
    }
}
