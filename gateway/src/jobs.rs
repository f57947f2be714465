//! Jobs: long work on one table's files (a compaction, an expiry) that goes on beside pushes, queries and flushes.
//!
//! ```text
//!   job of t   ── plan, write ────────────────────── commit (fence of this writer) ── publish
//!   flush      ─── commit ── commit ── commit ──►   (other locks, other files: neither waits for the other)
//!   schema of t ·············································· waits for the job ──►
//! ```
//! **Invariants:** one job at a time works on a table, and a change of its schema waits for it · a job that has begun goes
//! on to its end when whoever asked for it goes away: a commit whose publication was cut off would be done a second time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use lakesync_proto::TableName;
use tokio::sync::OwnedMutexGuard;

use crate::error::{Error, Result};
use crate::fence;
use crate::gateway::Gateway;

/// A lock for every table that had a job; tables are never dropped, so there are no more than tables.
#[derive(Debug, Default)]
pub(crate) struct TableLocks(Mutex<BTreeMap<TableName, Arc<tokio::sync::Mutex<()>>>>);

impl TableLocks {
    /// Waits until nobody else works on the table.
    pub(crate) async fn lock(&self, table: &TableName) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(table.clone()).or_default())
        };
        lock.lock_owned().await
    }
}

impl Gateway {
    /// Runs `work` on `table`, one job of the table at a time and to its end even when the caller goes away.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Maintenance`] when it panicked.
    pub async fn run_job<T, E, F>(
        self: &Arc<Self>,
        table: &TableName,
        work: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send,
    {
        let (gateway, table) = (Arc::clone(self), table.clone());
        let task = tokio::spawn(async move {
            let _held = gateway.jobs.lock(&table).await;
            work(Arc::clone(&gateway)).await
        });
        task.await.unwrap_or_else(|error| {
            Err(E::from(Error::Maintenance {
                gateway: self.id.clone(),
                reason: error.to_string(),
            }))
        })
    }

    /// Whether this process is the one that writes, and so maintains, the gateway's tables: the catalog's fence is its.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn leads(&self) -> Result<bool> {
        fence::is_ours(&self.components.warehouse, &self.fence()).await
    }
}
