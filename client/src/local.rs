//! The open file: one connection, the schemas it knows, and the two ways to write.
//!
//! | | gate | captured | for |
//! |---|---|---|---|
//! | [`Local::edit`] | open | yes | the application's writes |
//! | [`Local::keep`] | closed | no | what the gateway said: answers, pages, checkpoints, schemas |
//!
//! Invariant: each is one transaction that holds the write lock from its beginning. `keep` seals first, so what it does
//! finds every earlier edit stamped and in the outbox.

use std::sync::Arc;

use lakesync_proto::{ClientId, WallClock};
use rusqlite::{Connection, TransactionBehavior};

use crate::capture;
use crate::error::ClientError;
use crate::outbox::DeadLetter;
use crate::schema::{Gate, Registry, Stand};
use crate::watch::Touched;
use crate::{state, watch};

/// An open database.
pub(crate) struct Local {
    pub(crate) connection: Connection,
    pub(crate) gate: Gate,
    pub(crate) registry: Registry,
    pub(crate) client_id: ClientId,
    pub(crate) wall_clock: Arc<dyn WallClock>,
}

/// What a transaction works with.
pub(crate) struct Work<'a> {
    /// Inside a transaction that holds the write lock.
    pub(crate) tx: &'a Connection,
    pub(crate) registry: &'a mut Registry,
    pub(crate) client_id: &'a ClientId,
    /// This machine's wall clock when the transaction began.
    pub(crate) now_ms: u64,
    /// The rows whose visible values the transaction changes: told to those who watch, once it has committed.
    pub(crate) touched: Touched,
    /// The edits that it makes dead letters: told likewise.
    pub(crate) dead: Vec<DeadLetter>,
}

/// What a transaction leaves to be told.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) touched: Touched,
    pub(crate) dead: Vec<DeadLetter>,
}

impl Local {
    /// A write of the application: `work` runs with the gate open, and what triggers captured is marked with the time.
    pub(crate) fn edit<T, E: From<ClientError>>(
        &mut self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, E>,
    ) -> Result<(T, News), E> {
        let gate = self.gate.clone();
        self.transaction(|open| {
            let _open = gate.open(open.tx)?;
            let first = capture::next_change(open.tx)?;
            let value = work(open)?;
            capture::mark_commit(open, first)?;
            open.touched.origins.own = true;
            Ok(value)
        })
    }

    /// A write of the client's own, behind the closed gate.
    pub(crate) fn keep<T>(
        &mut self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, ClientError>,
    ) -> Result<(T, News), ClientError> {
        let gate = self.gate.clone();
        self.transaction(|open| {
            let _closed = gate.hold(Stand::Closed);
            capture::seal(open)?;
            let value = work(open)?;
            watch::spread(open)?;
            open.touched.origins.synced = true;
            Ok(value)
        })
    }

    fn transaction<T, E: From<ClientError>>(
        &mut self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, E>,
    ) -> Result<(T, News), E> {
        let now_ms = self.wall_clock.now_ms();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(ClientError::from)?;
        let mut registry = self.registry.refreshed(&transaction)?;
        let mut open = Work {
            tx: &transaction,
            registry: &mut registry,
            client_id: &self.client_id,
            now_ms,
            touched: Touched::default(),
            dead: Vec::new(),
        };
        let value = work(&mut open)?;
        let news = News {
            touched: open.touched,
            dead: open.dead,
        };
        transaction.commit().map_err(ClientError::from)?;
        self.registry = registry;
        Ok((value, news))
    }
}

impl Work<'_> {
    /// The gateway's wall clock now, as far as its answers tell.
    pub(crate) fn gateway_ms(&self) -> Result<u64, ClientError> {
        Ok(self.now_ms.saturating_add_signed(state::skew_ms(self.tx)?))
    }
}
