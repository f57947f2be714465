//! Beginning anew: another log, or a cursor that cannot be gone on from.
//!
//! Invariant: in the transaction that notes another log a checkpoint is begun, so what this file holds of the old one is
//! replaced as a whole.

use lakesync_proto::{Cursor, Epoch, TableName};

use super::errors::protocol;
use crate::apply::{self, Applied, Loading};
use crate::error::ClientError;
use crate::local::Work;
use crate::transport::Refusal;

/// Begins to follow another log, from its checkpoint. What the old one had acknowledged goes again.
pub(super) fn follow(work: &mut Work<'_>, epoch: &Epoch) -> Result<(), ClientError> {
    apply::start_over(work, epoch)?;
    apply::begin_checkpoint(work, &[], None)?;
    Ok(())
}

/// Begins a checkpoint when a page turned out to be of another log.
pub(super) fn heed_epoch(work: &mut Work<'_>, applied: Applied) -> Result<(), ClientError> {
    if applied.other_log {
        apply::begin_checkpoint(work, &[], None)?;
    }
    Ok(())
}

/// Begins the checkpoint that is being loaded from its beginning.
pub(super) fn load_again(work: &mut Work<'_>) -> Result<Loading, ClientError> {
    let (tables, then) = match apply::loading(work.tx)? {
        Some(loading) => (loading.tables, loading.then),
        None => (Vec::new(), None),
    };
    let then: Option<Cursor> =
        then.map(|then| then.parse())
            .transpose()
            .map_err(|_| ClientError::Damaged {
                what: "_lakesync_state holds no cursor for after the checkpoint".to_owned(),
            })?;
    apply::begin_checkpoint(work, &tables, then.as_ref())
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
    let Some(cursor) = refusal.details.get("cursor") else {
        // Without a place to go on from, nobody would know where the other tables are.
        return Ok((Vec::new(), None));
    };
    let text = cursor
        .as_str()
        .ok_or_else(|| protocol("`cursor` is no text"))?;
    let then = text
        .parse::<Cursor>()
        .map_err(|error| protocol(format!("`cursor` of {}: {error}", refusal.code)))?;
    Ok((tables, Some(then)))
}
