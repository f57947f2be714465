//! What the gateway's answer to a push does to its entries.
//!
//! Invariant: every entry of an answered batch leaves the state *in flight* in the answer's transaction, one way or the
//! other, unless that transaction fails.

use std::collections::BTreeSet;

use lakesync_proto::{ErrorCode, Hlc, PushAck};

use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::batch::{gateway_lacks, hold};
use crate::outbox::dead::{Reason, reject};
use crate::outbox::durable::{cover, forget};
use crate::outbox::entry::delta_of;
use crate::outbox::verdict::{Verdict, judge};
use crate::outbox::{Batch, Refused, doubt, put_back, restamp};
use crate::transport::Refusal;
use crate::{apply, state};

/// Whose acknowledgement it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// That of the log that this database follows.
    Noted,
    /// That of another log, which has the batch and perhaps nothing else: what the old one had acknowledged goes again, and
    /// there is no cursor any more, so a checkpoint must follow.
    OtherLog,
}

/// The gateway has them.
///
/// # Errors
/// [`ClientError::Protocol`] when the answer is none to this batch: nothing is changed, the batch is still in flight.
pub(crate) fn acknowledge(
    work: &mut Work<'_>,
    batch: &Batch,
    ack: &PushAck,
) -> Result<Acknowledged, ClientError> {
    if ack.outcomes.len() != batch.entries.len() {
        return Err(ClientError::Protocol {
            what: format!(
                "{} outcomes for a push of {} deltas",
                ack.outcomes.len(),
                batch.entries.len()
            ),
        });
    }
    let mut whose = Acknowledged::Noted;
    match state::epoch(work.tx)? {
        // Seqs of two logs are not to be compared: a page of the old one would confirm what only the new one has.
        Some(epoch) if epoch != ack.epoch => {
            apply::start_over(work, &ack.epoch)?;
            whose = Acknowledged::OtherLog;
        }
        Some(_) => {}
        None => state::set_epoch(work.tx, &ack.epoch)?,
    }
    let mut newest = Hlc::ZERO;
    {
        // The stamp is asked for because another process may have sent the entry meanwhile, and stamped it anew.
        let mut statement = work.tx.prepare_cached(
            "UPDATE _lakesync_outbox SET state = 2, doubt = 0, seq = ?2 WHERE entry = ?1 AND hlc = ?3 AND state <= 1",
        )?;
        for ((entry, delta), outcome) in batch.entries.iter().zip(&batch.deltas).zip(&ack.outcomes)
        {
            statement.execute((entry, outcome.seq().as_i64(), delta.hlc.as_i64()))?;
            newest = newest.max(delta.hlc);
        }
    }
    state::raise_known(work.tx, newest)?;
    // A duplicate may be long since in a page that has been applied.
    let seq = state::seq(work.tx)?;
    cover(work, seq, &BTreeSet::new())?;
    if let Some(durable) = ack.notes.durable
        && durable > state::durable(work.tx)?
    {
        state::set_durable(work.tx, durable)?;
        forget(work, durable)?;
    }
    Ok(whose)
}

/// The gateway has looked at the batch and taken none of it.
pub(crate) fn refuse(
    work: &mut Work<'_>,
    batch: &Batch,
    refusal: &Refusal,
) -> Result<Refused, ClientError> {
    let verdict = judge(refusal, batch.entries.len());
    if verdict == Verdict::Unknown {
        doubt(work, batch)?;
        return Ok(Refused::Whole);
    }
    put_back(work, batch)?;
    if let Some(index) = verdict.named()
        && !is_waiting(work, (batch.entries[index], batch.deltas[index].hlc))?
    {
        // Another session on this file has had a later answer: this one condemns nothing.
        let entry = batch.entries[index];
        return Ok(Refused::Rejected { entry });
    }
    let reason = Reason::of(refusal, work.now_ms);
    match verdict {
        Verdict::Later | Verdict::Unknown => Ok(Refused::Whole),
        Verdict::Split => Ok(Refused::Split {
            limit: (batch.entries.len() / 2).max(1),
        }),
        Verdict::Reject(index) => rejected(work, batch.entries[index], &reason),
        Verdict::Late(index) => late(work, batch, index, (&reason, oldest(refusal))),
        Verdict::Schema(index) => schema(work, batch.entries[index], &reason),
        Verdict::Ahead(index) => {
            let skew_ms = refusal.details.get("skewMs").and_then(|skew| skew.as_u64());
            restamp::ahead(work, batch.deltas[index].hlc, skew_ms)
        }
    }
}

fn rejected(work: &mut Work<'_>, entry: i64, reason: &Reason) -> Result<Refused, ClientError> {
    reject(work, &[entry], reason)?;
    Ok(Refused::Rejected { entry })
}

/// The named one is too old, and so are those of the batch that are stamped below what the gateway still takes and cannot
/// have been taken before: that bound only rises. A gateway that does not tell it has them named one by one.
fn late(
    work: &mut Work<'_>,
    batch: &Batch,
    index: usize,
    (reason, oldest): (&Reason, Option<Hlc>),
) -> Result<Refused, ClientError> {
    let mut late = Vec::new();
    for (place, (entry, delta)) in batch.entries.iter().zip(&batch.deltas).enumerate() {
        let is_late = oldest.is_some_and(|oldest| delta.hlc < oldest);
        if place == index || (is_late && is_certain(work, (*entry, delta.hlc))?) {
            late.push(*entry);
        }
    }
    reject(work, &late, reason)?;
    Ok(Refused::Rejected {
        entry: batch.entries[index],
    })
}

/// The oldest stamp that the gateway still takes, when a refusal tells.
fn oldest(refusal: &Refusal) -> Option<Hlc> {
    refusal.details.get("oldestHlc")?.as_str()?.parse().ok()
}

/// Whether the entry was never sent without an answer, and has no better answer meanwhile.
fn is_certain(work: &Work<'_>, sent: (i64, Hlc)) -> Result<bool, ClientError> {
    exists(work, sent, "state = 0 AND doubt = 0")
}

fn is_waiting(work: &Work<'_>, sent: (i64, Hlc)) -> Result<bool, ClientError> {
    exists(work, sent, "state = 0")
}

/// Whether the entry is as it was sent: another session may have stamped it anew.
fn exists(work: &Work<'_>, (entry, hlc): (i64, Hlc), and: &str) -> Result<bool, ClientError> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM _lakesync_outbox WHERE entry = ?1 AND hlc = ?2 AND {and})"
    );
    let mut statement = work.tx.prepare_cached(&sql)?;
    Ok(statement.query_row([entry, hlc.as_i64()], |row| row.get(0))?)
}

/// The gateway has no such table or column: that is waited for. When it has them as far as is known, and refuses a value,
/// that is final; when it denies the whole table, what is known is old.
fn schema(work: &mut Work<'_>, entry: i64, reason: &Reason) -> Result<Refused, ClientError> {
    let delta = delta_of(work, entry)?;
    let table = work.registry.table(&delta.table)?;
    let lacks = table.gateway.is_none() || gateway_lacks(table, &delta, true);
    if lacks || reason.code == ErrorCode::UnknownTable.as_str() {
        hold(work, entry)?;
        return Ok(Refused::Held { entry });
    }
    rejected(work, entry, reason)
}
