//! What a row is: its confirmed state, own uncovered edits, and what shows.

use lakesync_proto::{RowDelta, RowId, RowState};

use crate::error::ClientError;
use crate::local::Work;
use crate::schema::{LocalTable, Slot};

/// One row as the file keeps it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RowImage {
    /// What the gateway's pages say.
    pub(crate) confirmed: RowState,
    /// Own edits that the cursor has not covered, oldest first.
    pub(crate) pending: Vec<RowDelta>,
}

impl RowImage {
    /// Reads a row; nothing at all when it was never heard of. Everything captured must be sealed.
    pub(crate) fn load(
        work: &Work<'_>,
        table: &LocalTable,
        row_id: &RowId,
    ) -> Result<RowImage, ClientError> {
        let _ = (work, table, row_id);
        unimplemented!("rows")
    }

    /// What shows: the merge of both.
    pub(crate) fn visible(&self) -> RowState {
        unimplemented!("rows")
    }

    /// Writes clocks, confirmed values and the visible row, whatever stands there now.
    pub(crate) fn store(
        &self,
        work: &mut Work<'_>,
        table: &LocalTable,
        row_id: &RowId,
    ) -> Result<(), ClientError> {
        let _ = (work, table, row_id);
        unimplemented!("rows")
    }
}

/// What a sealed edit does to its row beyond what `t` shows already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// It is newer than everything confirmed: what stands in `t` is right.
    Shows,
    /// Something confirmed is newer, as a clock far ahead makes it: the row must be stored anew after the seal.
    Hidden,
}

/// Keeps the confirmed values that an own edit is about to hide: `before` are the values that its cells had in `t` before
/// it, by slot, none when the row was not there. Called for each edit in order, before it goes into the outbox.
pub(crate) fn hide_confirmed(
    work: &mut Work<'_>,
    table: &LocalTable,
    delta: &RowDelta,
    before: Option<&[(Slot, rusqlite::types::Value)]>,
) -> Result<Own, ClientError> {
    let _ = (work, table, delta, before);
    unimplemented!("rows")
}

/// Brings a row to what it must show: after a refusal, a withdrawal, a seal that lost.
pub(crate) fn restore(
    work: &mut Work<'_>,
    table: &LocalTable,
    row_id: &RowId,
) -> Result<(), ClientError> {
    let image = RowImage::load(work, table, row_id)?;
    image.store(work, table, row_id)
}
