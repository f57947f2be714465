//! Watching tables: which rows changed.
//!
//! Invariant: whoever reads the changes first and the database then sees at least what was told.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use lakesync_proto::TableName;

use super::changes::Changes;
use super::inbox::{First, Inbox, Interest};
use super::subscription::Subscription;
use crate::{ClientError, LocalDb};

impl LocalDb {
    /// Watches tables; no names mean all of them. A table that is not there yet is watched from the moment it comes.
    ///
    /// Told are rows whose visible values changed: by edits through this handle, typed or in SQL, by what the gateway
    /// sent, by its refusals, and by other processes when [`LocalDb::poll`] finds that they wrote.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use lakesync_client::LocalDb;
    /// # use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema};
    /// # let definition: TableDefinition =
    /// #     serde_json::from_str(r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#)?;
    /// # let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    /// # let db = LocalDb::open(":memory:", ClientId::parse("laptop")?, clock)?;
    /// # db.register(&TableSchema::from_definition(&definition)?)?;
    /// let todos = db.watch(&["todos"])?;
    /// assert_eq!(todos.try_next(), None);
    ///
    /// db.insert("todos", &[("title", "Buy milk".into())])?;
    /// db.execute("UPDATE todos SET title = 'Buy bread'", [])?;
    ///
    /// let changes = todos.try_next().expect("both edits, told at once");
    /// assert!(changes.origins.own && !changes.origins.synced);
    /// assert_eq!(todos.try_next(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Name`] for what can be no table's name.
    pub fn watch(&self, tables: &[&str]) -> Result<Watch, ClientError> {
        let tables = tables
            .iter()
            .map(|table| TableName::parse(table))
            .collect::<Result<BTreeSet<_>, _>>()?;
        self.begin_to_look()?;
        Ok(Watch {
            inbox: self
                .hub()
                .subscribe(Interest::Tables(tables), First::Nothing),
            db: self.clone(),
        })
    }
}

/// Changes of some tables, from [`LocalDb::watch`]. It ends when it is dropped, and keeps the database open until then.
///
/// Changes that nobody has read yet merge into one, so a slow reader costs no memory and misses nothing.
#[derive(Debug)]
pub struct Watch {
    pub(crate) inbox: Arc<Inbox>,
    db: LocalDb,
}

impl Watch {
    /// What changed since the last time; none when nothing did.
    pub fn try_next(&self) -> Option<Changes> {
        self.inbox.take().map(|mail| mail.changes)
    }

    /// Ends with the next changes. It runs on any runtime, and nothing is lost when it is dropped before its end.
    pub async fn changed(&self) -> Changes {
        poll_fn(|context| {
            self.inbox.signal().register(context.waker());
            self.try_next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Calls `callback` after every commit that changed something, until the subscription is dropped.
    ///
    /// It is called on the thread that committed, which may be the one that syncs, or on another that is calling back at
    /// that moment: let it be quick. It is never called twice at once, and never within a transaction. It may use the
    /// database, and write: what its own write changes is told after it has returned, so one that writes whenever it is
    /// called is called for ever. A panic ends only the call.
    pub fn on_change(self, mut callback: impl FnMut(&Changes) + Send + 'static) -> Subscription {
        let call = Box::new(move |mail: super::inbox::Mail| callback(&mail.changes));
        Subscription::begin(self.db, self.inbox, call)
    }
}
