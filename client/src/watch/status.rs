//! Watching how syncing goes.
//!
//! Invariant: a status that is given out counts the outbox as it is in the file at that moment, also when no session runs.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use super::inbox::{First, Inbox, Interest};
use super::subscription::Subscription;
use crate::{LocalDb, Status, outbox};

impl LocalDb {
    /// How syncing goes: what the session told last, with the outbox counted now. Without a session it is
    /// [`Phase::Offline`](crate::Phase::Offline).
    pub fn status(&self) -> Status {
        let mut status = self.hub().status();
        // A file that cannot be read now says so at the next read or write, where somebody can act on it.
        if let Ok(counts) = outbox::counts(&self.local().connection) {
            status.counts = counts;
        }
        status
    }

    /// Watches how syncing goes, from how it goes now.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use lakesync_client::{LocalDb, Phase};
    /// # use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema};
    /// # let definition: TableDefinition =
    /// #     serde_json::from_str(r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#)?;
    /// # let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    /// # let db = LocalDb::open(":memory:", ClientId::parse("laptop")?, clock)?;
    /// # db.register(&TableSchema::from_definition(&definition)?)?;
    /// let watch = db.watch_status();
    /// let first = watch.try_next().expect("how it goes now");
    /// assert_eq!((first.phase, first.counts.pending), (Phase::Offline, 0));
    ///
    /// db.insert("todos", &[("title", "Buy milk".into())])?;
    /// assert_eq!(watch.try_next().map(|status| status.counts.pending), Some(1));
    /// assert_eq!(watch.try_next(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch_status(&self) -> StatusWatch {
        StatusWatch {
            inbox: self.hub().subscribe(Interest::Status, First::Ready),
            teller: Teller {
                db: self.clone(),
                told: Mutex::new(None),
            },
        }
    }
}

/// How syncing goes, from [`LocalDb::watch_status`]. A reader that is slow gets the newest and misses what lies between.
#[derive(Debug)]
pub struct StatusWatch {
    pub(crate) inbox: Arc<Inbox>,
    teller: Teller,
}

/// Remembers what was told, so that it is not told again.
#[derive(Debug)]
struct Teller {
    db: LocalDb,
    told: Mutex<Option<Status>>,
}

impl StatusWatch {
    /// How syncing goes now, when it goes otherwise than the last time this was asked.
    pub fn try_next(&self) -> Option<Status> {
        self.inbox.take().and_then(|_| self.teller.news())
    }

    /// Ends when syncing goes otherwise. It runs on any runtime, and nothing is lost when it is dropped before its end.
    pub async fn changed(&self) -> Status {
        poll_fn(|context| {
            self.inbox.signal().register(context.waker());
            self.try_next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Calls `callback` whenever syncing goes otherwise, until the subscription is dropped; the first call comes at
    /// once. For the rest see [`Watch::on_change`](crate::Watch::on_change).
    pub fn on_change(self, mut callback: impl FnMut(&Status) + Send + 'static) -> Subscription {
        let StatusWatch { inbox, teller } = self;
        let db = teller.db.clone();
        let call = Box::new(move |_| {
            if let Some(status) = teller.news() {
                callback(&status);
            }
        });
        Subscription::begin(db, inbox, call)
    }
}

impl Teller {
    fn news(&self) -> Option<Status> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let status = self.db.status();
        if told.as_ref() == Some(&status) {
            return None;
        }
        *told = Some(status.clone());
        Some(status)
    }
}
