//! Push, pull, and both.
//!
//! Invariant: the cursor moves by pulled pages only. A push answer may count deltas of other clients that this client
//! was never given, so it moves nothing; its own deltas come back with the next page and merge to what is there.

use lakesync_proto::{DecodeError, DecodeErrorKind, Epoch, PullPage, Push, PushAck, Schemas, Seq};
use rusqlite::TransactionBehavior;

use crate::client::Client;
use crate::error::{ClientError, RefusedDelta};
use crate::registry::Registry;
use crate::transport::{Pull, Transport, TransportError};
use crate::{outbox, state};

/// Deltas asked for at once: many enough to pay for the round trip, few enough for one short transaction.
const PAGE_DELTAS: u32 = 1_000;

/// What a push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Edits that the gateway has taken, those that it had before included.
    pub acknowledged: u64,
}

/// What a pull did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Deltas that were merged, own ones included.
    pub applied: u64,
    /// Whether the gateway has more behind the new cursor.
    pub has_more: bool,
}

/// What a sync did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Edits that the gateway has taken.
    pub acknowledged: u64,
    /// Deltas that were merged, own ones included.
    pub applied: u64,
}

impl Client {
    /// Sends the outbox as it stands now, in as many batches as it takes. Entries leave it when acknowledged.
    ///
    /// # Errors
    /// [`ClientError::PushRefused`] names the edit that the gateway refused; it and its batch stay in the outbox, as
    /// they do when the transport fails.
    pub fn push(&mut self, transport: &dyn Transport) -> Result<Pushed, ClientError> {
        let last = outbox::last_entry(&self.connection)?;
        let mut pushed = Pushed::default();
        loop {
            let deltas = outbox::batch(&self.connection, &self.registry, last)?;
            if deltas.is_empty() {
                return Ok(pushed);
            }
            pushed.acknowledged += count(&deltas);
            let push = Push {
                client_id: self.client_id.clone(),
                deltas,
                last_seen: self.cursor()?,
                schemas: None,
            };
            let ack = transport
                .push(&push)
                .map_err(|error| refused(error, &push))?;
            self.acknowledge(&push, &ack)?;
        }
    }

    fn acknowledge(&mut self, push: &Push, ack: &PushAck) -> Result<(), ClientError> {
        let (sent, answered) = (push.deltas.len(), ack.outcomes.len());
        if sent != answered {
            return Err(ClientError::Protocol {
                what: format!("{sent} deltas were pushed, {answered} are acknowledged"),
            });
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        outbox::remove(
            &transaction,
            push.deltas.iter().map(|delta| &delta.delta_id),
        )?;
        if state::epoch(&transaction)?.is_some_and(|known| known != ack.epoch) {
            state::set_cursor(&transaction, Seq::ZERO)?;
        }
        state::set_epoch(&transaction, &ack.epoch)?;
        Ok(transaction.commit()?)
    }

    /// Asks for one page of what others did, and merges it. Tables and columns that it names and this client does not
    /// know are fetched and registered first. When the gateway's log was replaced, reading starts over.
    ///
    /// # Errors
    /// When the transport fails, or the page cannot be merged; the cursor then stays where it was.
    pub fn pull(&mut self, transport: &dyn Transport) -> Result<Pulled, ClientError> {
        let mut page = self.fetch(transport)?;
        if state::epoch(&self.connection)?.is_some_and(|known| known != page.epoch) {
            let replaced = page.epoch;
            self.start_over(&replaced)?;
            page = self.fetch(transport)?;
            if page.epoch != replaced {
                return Err(ClientError::Protocol {
                    what: "its log was replaced twice while it was read".to_owned(),
                });
            }
        }
        check_progress(self.cursor()?, &page)?;
        self.apply(&page)?;
        Ok(Pulled {
            applied: count(&page.deltas),
            has_more: page.has_more,
        })
    }

    fn fetch(&mut self, transport: &dyn Transport) -> Result<PullPage, ClientError> {
        let pull = Pull {
            client_id: self.client_id.clone(),
            since: self.cursor()?,
            limit: PAGE_DELTAS,
        };
        let page = match ask(transport, pull.clone(), &self.registry) {
            Err(TransportError::Decode(error)) if is_of_another_schema(&error) => None,
            answer => Some(answer?),
        };
        if let Some(page) = page.filter(|page| check_known(&self.registry, page).is_ok()) {
            return Ok(page);
        }
        self.adopt(&transport.schemas()?)?;
        let page = ask(transport, pull, &self.registry)?;
        check_known(&self.registry, &page)?;
        Ok(page)
    }

    /// Forgets how far the replaced log was read. What is merged stays: merging it again changes nothing.
    fn start_over(&mut self, epoch: &Epoch) -> Result<(), ClientError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        state::set_cursor(&transaction, Seq::ZERO)?;
        state::set_epoch(&transaction, epoch)?;
        Ok(transaction.commit()?)
    }

    /// Pushes, then pulls until there is no more. A refused push does not keep back what others did: everything is
    /// pulled, then the refusal is returned.
    ///
    /// # Errors
    /// As [`Client::push`] and [`Client::pull`].
    pub fn sync(&mut self, transport: &dyn Transport) -> Result<Synced, ClientError> {
        let pushed = match self.push(transport) {
            Err(error) if !matches!(error, ClientError::PushRefused { .. }) => return Err(error),
            pushed => pushed,
        };
        let mut applied = 0;
        loop {
            let pulled = self.pull(transport)?;
            applied += pulled.applied;
            if !pulled.has_more {
                break;
            }
        }
        Ok(Synced {
            acknowledged: pushed?.acknowledged,
            applied,
        })
    }
}

/// Asks for smaller pages while the answer is too long to read.
fn ask(
    transport: &dyn Transport,
    mut pull: Pull,
    schemas: &dyn Schemas,
) -> Result<PullPage, TransportError> {
    loop {
        match transport.pull(&pull, schemas) {
            Err(TransportError::TooLong { .. }) if pull.limit > 1 => {
                pull.limit = (pull.limit / 8).max(1)
            }
            answer => return answer,
        }
    }
}

/// Whether the gateway's schema may be newer than the one here.
fn is_of_another_schema(error: &DecodeError) -> bool {
    matches!(
        error.kind(),
        DecodeErrorKind::UnknownTable | DecodeErrorKind::UnknownColumn | DecodeErrorKind::WrongType
    )
}

/// Refuses a page with a table or column that is not registered: merged, it would be lost behind the cursor.
fn check_known(registry: &Registry, page: &PullPage) -> Result<(), ClientError> {
    for entry in &page.deltas {
        let schema = &registry.table(&entry.delta.table)?.schema;
        let unknown = entry
            .delta
            .columns
            .iter()
            .map(|change| change.column.as_str())
            .find(|name| {
                schema
                    .column(name)
                    .or_else(|| schema.dropped_column(name))
                    .is_none()
            });
        if let Some(name) = unknown {
            return Err(ClientError::SchemaConflict {
                table: schema.table.clone(),
                reason: format!("the gateway sends column {name}, which its schema does not have"),
            });
        }
    }
    Ok(())
}

/// A cursor that went back, or a page that promises more and goes nowhere, would make a sync that never ends.
fn check_progress(since: Seq, page: &PullPage) -> Result<(), ClientError> {
    let cursor = page.cursor;
    if cursor < since || (page.has_more && cursor == since) {
        return Err(ClientError::Protocol {
            what: format!("a page behind seq {since} ends at seq {cursor}"),
        });
    }
    Ok(())
}

fn refused(error: TransportError, push: &Push) -> ClientError {
    match error {
        TransportError::Refused(refusal) if !refusal.is_retryable() => {
            let delta = refusal.index.and_then(|index| push.deltas.get(index));
            let refused = delta.map(|delta| {
                Box::new(RefusedDelta {
                    delta_id: delta.delta_id,
                    table: delta.table.clone(),
                    row_id: delta.row_id.clone(),
                })
            });
            ClientError::PushRefused { refusal, refused }
        }
        other => other.into(),
    }
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).expect("a slice length fits in 64 bits")
}
