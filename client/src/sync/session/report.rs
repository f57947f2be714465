//! How syncing goes, told to those who watch.
//!
//! Invariant: a status is told when it is another one; that time passes alone is no news.

use std::collections::BTreeMap;

use super::Session;
use crate::apply;
use crate::error::ClientError;
use crate::outbox;
use crate::sync::machine::Exchange;
use crate::sync::status::{Phase, SchemaState, Status, TableSchemaState};

/// What the file tells for a status.
#[derive(Default)]
struct Told {
    counts: outbox::OutboxCounts,
    schema: Vec<TableSchemaState>,
    /// Rows of a checkpoint that is being loaded.
    loading: Option<u64>,
}

impl Session {
    /// Everything is here and nothing is left to send.
    pub(super) fn note_synced(&mut self) {
        if let Some(at_ms) = self.machine.synced_at(&self.facts) {
            self.last_synced_ms = Some(at_ms);
        }
    }

    pub(super) fn publish(&mut self) {
        let now_ms = self.now_ms();
        // A file that cannot be read says so in `last_error`, with what it told before.
        let told = self.look().unwrap_or_else(|_| Told {
            counts: self.status.counts,
            schema: self.status.schema.clone(),
            loading: None,
        });
        let is_live = self.machine.is_open() && self.machine.is_up_to_date();
        let behind_ms = match is_live {
            true => Some(0),
            false => self
                .last_synced_ms
                .map(|synced_ms| now_ms.saturating_sub(synced_ms)),
        };
        let status = Status {
            phase: self.phase(told.loading),
            counts: told.counts,
            last_error: self.errors.last().cloned(),
            last_synced_ms: self.last_synced_ms,
            behind_ms,
            retry_at_ms: self
                .machine
                .retry_at(now_ms)
                .filter(|_| self.errors.last().is_some()),
            schema: told.schema,
            mismatches: self.mismatches,
        };
        let is_news = Status {
            behind_ms: self.status.behind_ms,
            ..status.clone()
        } != self.status;
        self.status = status;
        if is_news {
            self.db.hub().publish_status(&self.status);
        }
    }

    fn phase(&self, loading: Option<u64>) -> Phase {
        if self.has_stopped {
            return Phase::Stopped;
        }
        let under_way = self.machine.under_way();
        if self.machine.is_offline() && under_way.is_none() {
            return Phase::Offline;
        }
        match under_way {
            Some(_) if !self.has_answered || self.machine.is_offline() => Phase::Connecting,
            Some(Exchange::Push) => Phase::Pushing,
            Some(Exchange::Checkpoint | Exchange::Chunk) => Phase::Loading {
                rows: loading.unwrap_or(0),
            },
            Some(Exchange::Pull) if self.machine.is_known_behind() => Phase::Pulling,
            _ => match loading {
                Some(rows) => Phase::Loading { rows },
                None if self.machine.is_open() => Phase::Live,
                None if !self.has_answered => Phase::Connecting,
                None => Phase::Idle,
            },
        }
    }

    fn look(&self) -> Result<Told, ClientError> {
        let local = self.db.local();
        let connection = &local.connection;
        let mut told = Told {
            counts: outbox::counts(connection)?,
            ..Told::default()
        };
        told.loading = apply::loading(connection)?.map(|loading| loading.rows);
        if self.known.hash.is_none() {
            return Ok(told);
        }
        // Counting what waits reads every entry that does.
        let is_asked = told.counts.pending > 0 && !self.known.differences.is_empty();
        let waiting = match is_asked {
            true => outbox::waiting(connection)?,
            false => BTreeMap::new(),
        };
        drop(local);
        told.schema = self
            .known
            .differences
            .iter()
            .map(|difference| difference.with(&waiting))
            .collect();
        let untaken = self.untaken.iter().map(|(table, reason)| TableSchemaState {
            table: table.clone(),
            state: SchemaState::Conflict {
                reason: reason.clone(),
            },
        });
        told.schema.extend(untaken);
        Ok(told)
    }
}

impl Drop for Session {
    /// Nobody syncs any more: those who watch hear it.
    fn drop(&mut self) {
        if self.status.phase != Phase::Stopped {
            self.status.phase = Phase::Offline;
            self.db.hub().publish_status(&self.status);
        }
    }
}
