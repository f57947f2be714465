//! A page of a pull, or of the live connection.
//!
//! Steps: is it asked for behind our cursor → is it whole → is it of our log → have we the tables it speaks of → merge →
//! learn its stamps → move the cursor → own edits up to there are covered.
//!
//! Invariant: the cursor moves in the transaction that merges what it counts.

use std::collections::BTreeSet;

use lakesync_proto::{
    Epoch, Hlc, HlcClock, PullPage, Seq, TableSchema, check_drift, page_checksum,
};

use super::checkpoint;
use super::heard::{Absolute, merge_rows};
use super::needs::bring_up;
use crate::error::ClientError;
use crate::local::Work;
use crate::{outbox, state};

/// What a page did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Deltas and removed rows.
    pub(crate) changes: u64,
    /// The page was asked for behind another cursor than the file's, or a checkpoint is being loaded: another process was
    /// faster, nothing was done.
    pub(crate) stale: bool,
    /// The page is of another log than the file's: nothing was applied, what had been acknowledged goes again, and there
    /// is no cursor any more.
    pub(crate) other_log: bool,
}

impl Applied {
    pub(crate) const STALE: Applied = Applied {
        changes: 0,
        stale: true,
        other_log: false,
    };
}

/// Merges a page that was asked for behind `since` (empty: from the beginning), brings tables up to `schemas` where the
/// page needs it, and moves the cursor.
pub(crate) fn page(
    work: &mut Work<'_>,
    since: &str,
    page: &PullPage,
    schemas: &[TableSchema],
) -> Result<Applied, ClientError> {
    let cursor = state::cursor(work.tx)?.unwrap_or_default();
    if cursor != since || checkpoint::loading(work.tx)?.is_some() {
        return Ok(Applied::STALE);
    }
    check(page)?;
    if state::epoch(work.tx)?.is_some_and(|epoch| epoch != page.epoch) {
        start_over(work, &page.epoch)?;
        return Ok(Applied {
            other_log: true,
            ..Applied::default()
        });
    }
    let next = page
        .notes
        .next
        .as_ref()
        .ok_or_else(|| ClientError::Protocol {
            what: "a page without a cursor to go on from".to_owned(),
        })?;
    bring_up(work, page, schemas)?;
    let heard = merge_rows(work, page, Absolute::Never)?;
    learn(work, page)?;
    state::set_epoch(work.tx, &page.epoch)?;
    state::set_cursor(work.tx, &next.to_string())?;
    reach(work, (page.cursor, page.notes.durable), &heard.own)?;
    Ok(Applied {
        changes: heard.changes,
        ..Applied::default()
    })
}

/// The gateway's log is another one than the file's: what it had acknowledged goes again, and nothing is known of how far
/// this file has read. Rows stay as they are until the checkpoint that must follow.
pub(crate) fn start_over(work: &mut Work<'_>, epoch: &Epoch) -> Result<(), ClientError> {
    outbox::resend(work)?;
    state::forget_cursor(work.tx)?;
    state::set_epoch(work.tx, epoch)
}

/// Refuses a page that is not what the gateway sent.
pub(super) fn check(page: &PullPage) -> Result<(), ClientError> {
    match page.notes.checksum {
        Some(checksum) if checksum != page_checksum(page) => Err(ClientError::Protocol {
            what: format!(
                "the checksum of the page up to seq {} does not match its content",
                page.cursor
            ),
        }),
        _ => Ok(()),
    }
}

/// Everything up to `seq` has been applied; `own` are the stamps of own edits whose rows are as they must be.
pub(super) fn reach(
    work: &mut Work<'_>,
    (seq, durable): (Seq, Option<Seq>),
    own: &BTreeSet<Hlc>,
) -> Result<(), ClientError> {
    state::set_seq(work.tx, seq)?;
    outbox::cover(work, seq, own)?;
    match durable {
        Some(durable) if durable > state::durable(work.tx)? => {
            state::set_durable(work.tx, durable)?;
            outbox::forget(work, durable)
        }
        _ => Ok(()),
    }
}

/// Moves the clock above the page's stamps, so that the next own edit wins over what it has seen. Stamps beyond the drift
/// bound of the gateway's wall clock teach nothing: one bad clock would drag all others along. Nor does a wall clock that
/// no stamp can hold keep others' edits from being merged.
pub(super) fn learn(work: &mut Work<'_>, page: &PullPage) -> Result<(), ClientError> {
    let gateway_ms = work.gateway_ms()?;
    let stamps = page.deltas.iter().map(|delta| delta.delta.hlc);
    let sane = stamps.filter(|hlc| check_drift(*hlc, gateway_ms).is_ok());
    let Some(greatest) = sane.max().filter(|hlc| *hlc > Hlc::ZERO) else {
        return Ok(());
    };
    state::raise_known(work.tx, greatest)?;
    let clock = state::clock(work.tx)?;
    match HlcClock::starting_at(clock).recv(greatest, gateway_ms) {
        Ok(learned) if learned > clock => state::set_clock(work.tx, learned),
        _ => Ok(()),
    }
}
