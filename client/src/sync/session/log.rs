//! Another log than the one that this database followed.
//!
//! Invariant: seqs of two logs never meet: in the transaction that notes another epoch the cursor is gone, and a checkpoint
//! is to be loaded.

use lakesync_proto::{Cursor, Epoch, Seq, TableName};

use crate::apply::{self, Loading};
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox;
use crate::state;
use crate::transport::Refusal;

use super::errors::protocol;

/// Whether an answer is of another log than the one that this database follows.
pub(super) fn is_other(work: &Work<'_>, epoch: &Epoch) -> Result<bool, ClientError> {
    Ok(state::epoch(work.tx)?.is_some_and(|known| known != *epoch))
}

/// Gives the edits that the other log may lack again, and begins to follow it.
pub(super) fn follow(work: &mut Work<'_>, epoch: &Epoch) -> Result<(), ClientError> {
    outbox::resend(work)?;
    begin(work, epoch)
}

/// Begins to follow another log, from its checkpoint.
pub(super) fn begin(work: &mut Work<'_>, epoch: &Epoch) -> Result<(), ClientError> {
    state::set_epoch(work.tx, epoch)?;
    state::set_seq(work.tx, Seq::ZERO)?;
    state::set_durable(work.tx, Seq::ZERO)?;
    state::set_cursor(work.tx, "")?;
    apply::begin_checkpoint(work, &[], None)?;
    Ok(())
}

/// The checkpoint that is being loaded.
pub(super) fn loading(work: &Work<'_>) -> Result<Option<Loading>, ClientError> {
    let Some(text) = state::checkpoint(work.tx)? else {
        return Ok(None);
    };
    let loading = serde_json::from_str(&text).map_err(|error| ClientError::Damaged {
        what: format!("_lakesync_state holds no checkpoint: {error}"),
    })?;
    Ok(Some(loading))
}

/// How many rows a half loaded checkpoint has brought.
pub(super) fn rows_of(text: &str) -> Option<u64> {
    let loading: Loading = serde_json::from_str(text).ok()?;
    Some(loading.rows)
}

/// The tables that a refused cursor names, all without, and where pulls go on afterwards.
pub(super) fn tables_of(
    refusal: &Refusal,
) -> Result<(Vec<TableName>, Option<Cursor>), ClientError> {
    let tables = match refusal.details.get("tables") {
        None => Vec::new(),
        Some(tables) => serde_json::from_value::<Vec<TableName>>(tables.clone())
            .map_err(|error| protocol(format!("`tables` of {}: {error}", refusal.code)))?,
    };
    let then = match refusal.details.get("cursor").map(|cursor| cursor.as_str()) {
        None => None,
        Some(text) => {
            let text = text.ok_or_else(|| protocol("`cursor` is no text"))?;
            let cursor = text
                .parse::<Cursor>()
                .map_err(|error| protocol(format!("`cursor` of {}: {error}", refusal.code)))?;
            Some(cursor)
        }
    };
    // Without a place to go on from, the other tables would be left where nobody knows.
    match then {
        None => Ok((Vec::new(), None)),
        then => Ok((tables, then)),
    }
}
