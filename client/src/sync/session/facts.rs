//! What the file says before a decision.
//!
//! Invariant: reading it writes nothing, so a session that has nothing to do leaves the file alone.

use rusqlite::Connection;

use super::Session;
use super::schemas::Known;
use crate::error::ClientError;
use crate::state;
use crate::sync::machine::{Facts, OutboxMark};
use crate::sync::options::FirstSync;

impl Session {
    pub(super) fn read_facts(&mut self) -> Result<(), ClientError> {
        let first_sync = self.options.first_sync;
        let local = self.db.local();
        let connection = &local.connection;
        let outbox = outbox_mark(connection)?;
        let has_cursor = state::cursor(connection)?.is_some_and(|cursor| !cursor.is_empty());
        let has_checkpoint = state::checkpoint(connection)?.is_some();
        let hash = state::schemas_hash(connection)?;
        if self.known.registry != Some(outbox.registry) {
            let registry = local.registry.refreshed(connection)?;
            self.known = Known::of(&registry, outbox.registry, hash);
        }
        drop(local);
        self.facts = Facts {
            outbox,
            schemas_known: hash.is_some(),
            loading: has_checkpoint || (!has_cursor && first_sync == FirstSync::Checkpoint),
        };
        self.machine.found_facts();
        self.errors.forget_local();
        Ok(())
    }

    /// This machine's wall clock, and what the gateway's is known to show more.
    pub(super) fn clocks(&self) -> Result<(u64, i64), ClientError> {
        let local = self.db.local();
        Ok((
            local.wall_clock.now_ms(),
            state::skew_ms(&local.connection)?,
        ))
    }

    /// Keeps what the gateway's clock shows more. Without sealing: edits made before are stamped by what is known now.
    pub(super) fn set_skew(&self, skew_ms: i64) -> Result<(), ClientError> {
        self.db.edit(|work| state::set_skew_ms(work.tx, skew_ms))
    }
}

/// What the outbox holds, in a few numbers.
pub(super) fn outbox_mark(connection: &Connection) -> Result<OutboxMark, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT coalesce(max(change), 0) FROM _lakesync_changes), count(*), coalesce(max(entry), 0) \
         FROM _lakesync_outbox WHERE state = 0",
    )?;
    let (change, count, last) =
        statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(OutboxMark {
        change,
        waiting: (count, last),
        registry: state::registry(connection)?,
    })
}
