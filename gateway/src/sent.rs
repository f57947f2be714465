//! What clients have sent that the durable log may have forgotten: when a push has to be looked up in the
//! flushed log before it can be called new.
//!
//! **Invariant:** the mark of a client is never below a stamp of it that was accepted, and the trim count
//! has moved before anything is forgotten. So a push that was looked up under the current count is either
//! known or new.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lakesync_proto::{ClientId, Hlc, RowDelta, RowId, TableName};

/// The marks of one gateway, shared by its requests and its writer.
#[derive(Debug)]
pub(crate) struct Sent {
    newest: Mutex<HashMap<ClientId, Hlc>>,
    /// The greatest stamp that the lake held when the gateway was opened.
    lake_max_hlc: Hlc,
    /// Whether deltas were accepted that the durable log does not hold.
    forgotten: AtomicBool,
    trims: AtomicU64,
}

impl Sent {
    pub(crate) fn new(newest: HashMap<ClientId, Hlc>, lake_max_hlc: Hlc, forgotten: bool) -> Self {
        Self {
            newest: Mutex::new(newest),
            lake_max_hlc,
            forgotten: AtomicBool::new(forgotten),
            trims: AtomicU64::new(0),
        }
    }

    /// Raises the marks of clients to what was just made durable.
    pub(crate) fn raise(&self, stamps: HashMap<ClientId, Hlc>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        for (client, stamp) in stamps {
            let mark = newest.entry(client).or_default();
            *mark = (*mark).max(stamp);
        }
    }

    /// How often the durable log has been trimmed.
    pub(crate) fn trims(&self) -> u64 {
        self.trims.load(Ordering::Acquire)
    }

    /// Says that the durable log is about to forget.
    pub(crate) fn begin_trim(&self) {
        self.forgotten.store(true, Ordering::Release);
        self.trims.fetch_add(1, Ordering::AcqRel);
    }

    /// The rows whose deltas may have been accepted and forgotten: those not stamped above what their client
    /// is known to have sent, or what the lake held at opening.
    pub(crate) fn suspects<'a>(
        &self,
        deltas: &'a [RowDelta],
    ) -> HashMap<&'a TableName, BTreeSet<RowId>> {
        let mut suspects: HashMap<&TableName, BTreeSet<RowId>> = HashMap::new();
        if !self.forgotten.load(Ordering::Acquire) {
            return suspects;
        }
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            let sent = newest.get(&delta.client_id).copied().unwrap_or_default();
            if delta.hlc <= sent.max(self.lake_max_hlc) {
                let rows = suspects.entry(&delta.table).or_default();
                rows.insert(delta.row_id.clone());
            }
        }
        suspects
    }
}
