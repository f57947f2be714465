//! Push: from whoever sends it to the writer's queue, and the answer back.
//!
//! **Invariant:** a push is answered when its deltas are fsynced and visible, or when nothing of it is stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use lakesync_proto::{
    ColumnName, DeltaId, Hlc, Op, Outcome, Push, PushAck, RowDelta, Schemas, Seq, SeqDelta,
    TableSchema,
};
use lakesync_providers::known_deltas;
use tokio::sync::oneshot;

use crate::admission::{self, Author, SizeMax, Terms};
use crate::auth::{Identity, Role};
use crate::config::DeltaIds;
use crate::error::{Refusal, Result};
use crate::gateway::Gateway;
use crate::round::{is_same, reused};
use crate::rules::Audience;
use crate::writer::{Answer, Job, Sender};

/// By what door a push comes in.
struct Door {
    author: Author,
    sender: Sender,
    delta_ids: DeltaIds,
    size: SizeMax,
}

impl Gateway {
    /// Accepts a push whole: when this returns, its deltas are fsynced and the next query sees them.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) naming the delta at fault; [`Error::Busy`](crate::Error::Busy),
    /// [`Error::Storage`](crate::Error::Storage), [`Error::Poisoned`](crate::Error::Poisoned).
    ///
    /// # Cancel safety
    /// A push whose future is dropped may still be accepted; sending it again is acknowledged as duplicate.
    pub async fn push(&self, push: Push) -> Result<PushAck> {
        let audience = Arc::new(Audience::everything());
        self.push_as(push, &audience).await
    }

    /// Accepts a push of somebody whom the write rules bind.
    ///
    /// # Errors
    /// As [`Gateway::push`]; [`ErrorCode::Forbidden`](lakesync_proto::ErrorCode::Forbidden) naming the delta that
    /// `audience` may not write.
    pub async fn push_as(&self, push: Push, audience: &Arc<Audience>) -> Result<PushAck> {
        let sender = Sender::Audience(Arc::clone(audience));
        self.push_from(push, (Author::Itself, sender), audience)
            .await
    }

    /// Accepts a push of whoever holds `identity`: as itself, by the write rules; an `ingest` or `admin` token may
    /// push deltas of any client, past the rules.
    ///
    /// # Errors
    /// As [`Gateway::push_as`]; [`ErrorCode::Forbidden`](lakesync_proto::ErrorCode::Forbidden) for a client id that is
    /// not the token's.
    pub async fn push_by(&self, push: Push, identity: &Identity) -> Result<PushAck> {
        identity.check_client(&push.client_id)?;
        let trusted = matches!(identity.role, Role::Ingest | Role::Admin);
        let author = match trusted && identity.subject.is_some() {
            true => Author::Anyone,
            false => Author::Itself,
        };
        let audience = self.audience(identity);
        let sender = match identity.is_ruled() {
            true => Sender::Claims(Arc::new(identity.claims.clone())),
            false => Sender::Audience(Arc::clone(&audience)),
        };
        self.push_from(push, (author, sender), &audience).await
    }

    /// Those who share the claims of `identity`, under the rules in force.
    #[must_use]
    pub fn audience(&self, identity: &Identity) -> Arc<Audience> {
        match identity.is_ruled() {
            true => self.ruling().rules.audience(&identity.claims),
            false => Arc::new(Audience::everything()),
        }
    }

    /// Accepts what a SQL statement writes: a push as large as a statement may be, of deltas that were made here.
    ///
    /// # Errors
    /// As [`Gateway::push`].
    pub(crate) async fn push_statement(&self, push: Push) -> Result<PushAck> {
        let audience = Arc::new(Audience::everything());
        let sender = Sender::Audience(Arc::clone(&audience));
        let door = Door {
            author: Author::Itself,
            sender,
            // Each was hashed a moment ago.
            delta_ids: DeltaIds::Accept,
            size: SizeMax::STATEMENT,
        };
        self.push_through(door, push, &audience).await
    }

    async fn push_from(
        &self,
        push: Push,
        (author, sender): (Author, Sender),
        audience: &Audience,
    ) -> Result<PushAck> {
        let door = Door {
            author,
            sender,
            delta_ids: self.config.delta_ids,
            size: SizeMax::PUSH,
        };
        self.push_through(door, push, audience).await
    }

    async fn push_through(&self, door: Door, push: Push, audience: &Audience) -> Result<PushAck> {
        let sender = door.sender;
        let now_ms = self.components.clock.now_ms();
        if let Some(steady) = &self.steady {
            steady.check(now_ms, self.monotonic_ms())?;
        }
        let terms = Terms {
            author: door.author,
            delta_ids: door.delta_ids,
            size: door.size,
            now_ms,
            drift_ms: u64::try_from(self.config.drift.as_millis()).unwrap_or(u64::MAX),
        };
        let bytes = admission::check(&push, self.live.as_ref(), &terms)?;
        self.check_pressure(bytes)?;
        let newest = push.deltas.iter().map(|delta| delta.hlc).max();
        let Push {
            client_id,
            mut deltas,
            last_seen,
            schemas,
        } = push;
        let ignored = ignored(&deltas, self.live.as_ref());
        let outcomes = loop {
            let trims = self.sent.trims();
            let older = self.older_duplicates(&deltas).await?;
            let (reply, answer) = oneshot::channel();
            self.enqueue(Job {
                deltas,
                sender: sender.clone(),
                oldest: self.oldest(now_ms),
                bytes,
                arrived_ms: now_ms,
                older,
                trims,
                reply,
            })?;
            match answer.await.map_err(|_| self.closed())?? {
                Answer::Durable(outcomes) => break outcomes,
                // Trims are rare and short; each round has seen one more of them.
                Answer::LookAgain(back) => deltas = back,
            }
        };
        let fresh = |(nth, _): &(&usize, &Vec<ColumnName>)| {
            matches!(outcomes.get(**nth), Some(Outcome::Accepted(_)))
        };
        let cells = ignored
            .iter()
            .filter(fresh)
            .map(|(_, columns)| columns.len());
        self.stats().ignored(cells.sum());
        if let Some(newest) = newest {
            self.learn(newest, now_ms);
        }
        Ok(PushAck {
            accepted: u32::try_from(outcomes.len()).expect("a push is bounded by SizeMax"),
            cursor: self.feed.cursor_after_push(&client_id, last_seen, audience),
            outcomes,
            ignored,
            epoch: self.epoch.clone(),
            // No native cursor: the push does not tell by which rules, and of which log, the client's last one was.
            notes: self.notes(schemas, false),
        })
    }

    /// New deltas that are stamped below this are late.
    pub(crate) fn oldest(&self, now_ms: u64) -> Hlc {
        let Some(window) = self.config.late_window else {
            return Hlc::ZERO;
        };
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Hlc::new(now_ms.saturating_sub(window_ms), 0).unwrap_or(Hlc::ZERO)
    }

    /// Those of `deltas` that memory has forgotten, or lost, and the flushed log knows.
    async fn older_duplicates(&self, deltas: &[RowDelta]) -> Result<HashMap<DeltaId, (Seq, Op)>> {
        let mut older = HashMap::new();
        for (table, rows) in self.sent.suspects(deltas) {
            let Some(view) = self.live.view(table.as_ref()) else {
                continue;
            };
            let known = known_deltas(&view, &rows).await?;
            if self.config.delta_ids == DeltaIds::Accept {
                refuse_other_content(deltas, &known, self.live.as_ref())?;
            }
            for delta in known {
                older.insert(delta.delta.delta_id, (delta.seq, delta.delta.op));
            }
        }
        Ok(older)
    }

    fn learn(&self, stamp: Hlc, now_ms: u64) {
        // Admission has bounded the drift; a stamp that is refused here teaches nothing and harms nothing.
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(clock.recv(stamp, now_ms));
    }
}

/// The columns that deltas write though they were dropped, by the delta's place.
fn ignored(deltas: &[RowDelta], schemas: &dyn Schemas) -> BTreeMap<usize, Vec<ColumnName>> {
    let mut ignored = BTreeMap::new();
    // Deltas of one table mostly stand together.
    let mut last: Option<Arc<TableSchema>> = None;
    for (nth, delta) in deltas.iter().enumerate() {
        if last.as_ref().is_none_or(|last| last.table != delta.table) {
            last = schemas.schema(&delta.table);
        }
        let Some(schema) = last.as_ref().filter(|schema| !schema.dropped.is_empty()) else {
            continue;
        };
        let names = delta.columns.iter().map(|change| &change.column);
        let gone = names.filter(|name| schema.dropped_column(name.as_str()).is_some());
        let gone: Vec<ColumnName> = gone.cloned().collect();
        if !gone.is_empty() {
            ignored.insert(nth, gone);
        }
    }
    ignored
}

/// Refuses a delta whose id the flushed log knows with other content.
fn refuse_other_content(
    deltas: &[RowDelta],
    known: &[Arc<SeqDelta>],
    schemas: &dyn Schemas,
) -> Result<(), Refusal> {
    let by_id: HashMap<_, _> = known
        .iter()
        .map(|known| (known.delta.delta_id, &known.delta))
        .collect();
    for (index, delta) in deltas.iter().enumerate() {
        if by_id
            .get(&delta.delta_id)
            .is_some_and(|known| !is_same(known, delta, schemas))
        {
            return Err(reused(delta, "other content").at(index));
        }
    }
    Ok(())
}
