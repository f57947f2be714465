//! Applying what other clients did: one page, one transaction, its cursor with it.
//!
//! Invariant: applying is merging, so a delta may come twice, late, or be this client's own; the rows are those of the
//! merge rule over everything heard of, own pending edits included, because those are merged when they are made.

use std::collections::BTreeMap;

use lakesync_proto::{HlcClock, PullPage, RowId, TableName, check_drift};
use rusqlite::{Connection, TransactionBehavior};

use crate::client::Client;
use crate::error::ClientError;
use crate::{state, store};

impl Client {
    /// Merges a page that was asked for behind the stored cursor, and moves the cursor to the page's.
    pub(crate) fn apply(&mut self, page: &PullPage) -> Result<(), ClientError> {
        let now_ms = self.wall_clock.now_ms();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        learn(&transaction, page, now_ms)?;
        let mut rows = BTreeMap::new();
        for entry in &page.deltas {
            let delta = &entry.delta;
            rows.entry((&delta.table, &delta.row_id))
                .or_insert_with(Vec::new)
                .push(delta);
        }
        for ((table, row_id), deltas) in rows {
            let (table, row_id): (&TableName, &RowId) = (table, row_id);
            let table = self.registry.table(table)?;
            let before = store::load(&transaction, table, row_id)?;
            let mut after = before.clone();
            deltas.into_iter().for_each(|delta| after.apply(delta));
            store::save(&transaction, table, row_id, &before, &after)?;
        }
        state::set_cursor(&transaction, page.cursor)?;
        state::set_epoch(&transaction, &page.epoch)?;
        Ok(transaction.commit()?)
    }
}

/// Moves the clock above the page's stamps, so that the next local edit wins over what it has seen. Stamps beyond the
/// drift bound of this client's wall clock teach nothing: one bad clock would drag all others along. Nor does a wall
/// clock that no stamp can hold keep others' edits from being merged.
fn learn(connection: &Connection, page: &PullPage, now_ms: u64) -> Result<(), ClientError> {
    let stamps = page.deltas.iter().map(|entry| entry.delta.hlc);
    let Some(greatest) = stamps.filter(|hlc| check_drift(*hlc, now_ms).is_ok()).max() else {
        return Ok(());
    };
    let mut clock = HlcClock::starting_at(state::clock(connection)?);
    match clock.recv(greatest, now_ms) {
        Ok(learned) => state::set_clock(connection, learned),
        Err(_) => Ok(()),
    }
}
