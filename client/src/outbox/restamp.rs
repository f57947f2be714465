//! New stamps for own edits: after a clock that had run ahead, or because a person sends a dead letter again.
//!
//! Invariant: only an edit that the gateway certainly never took is stamped anew. The new stamp is above everything that
//! the gateway is known to have and above every own edit that was made before, so own edits stay in their order.

use lakesync_proto::{DeltaKey, Hlc, HlcClock, RowDelta};

use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::Refused;
use crate::outbox::durable::restore;
use crate::outbox::entry::{CHUNK_ENTRIES, decode, replace};
use crate::schema::TableNumber;
use crate::state;

/// The gateway refused `named` because it is `skew_ms` ahead of its clock.
///
/// What stands at `named` or above would be refused by the same answer, and would have been at any earlier time, so even
/// what is in doubt was never taken. Below it, only what was never sent without an answer is certain, and is not on its way
/// now, as another session on this file may have it.
pub(super) fn ahead(
    work: &mut Work<'_>,
    named: Hlc,
    skew_ms: Option<u64>,
) -> Result<Refused, ClientError> {
    let gateway_ms = match skew_ms {
        Some(skew_ms) => {
            let gateway_ms = named.wall_ms().saturating_sub(skew_ms);
            let skew_ms = crate::skew::between(gateway_ms, work.now_ms);
            state::set_skew_ms(work.tx, skew_ms)?;
            gateway_ms
        }
        None => work.gateway_ms()?,
    };
    if named.wall_ms() <= gateway_ms {
        // By all that is known the stamp was right: another one would be no better.
        return Ok(Refused::Whole);
    }
    let now = Hlc::new(gateway_ms, u16::MAX)?;
    let mut clock = HlcClock::starting_at(state::known(work.tx)?);
    let mut count = 0;
    let mut behind = 0;
    loop {
        let found = page(work, (named, now), behind)?;
        let Some(last) = found.last() else {
            break;
        };
        behind = last.entry;
        let mut rows = Vec::new();
        for found in found {
            match found.again {
                None if found.hlc > clock.last() => clock = HlcClock::starting_at(found.hlc),
                None => {}
                Some(blob) => {
                    let delta = decode(&blob, work.registry)?;
                    let stamped = stamp(delta, clock.now(gateway_ms)?);
                    replace(work, found.entry, &stamped)?;
                    rows.push((found.table, stamped.row_id.to_string()));
                    count += 1;
                }
            }
        }
        restore(work, rows)?;
    }
    // Downwards too: what it stood at was given to nothing that anybody has.
    state::set_clock(work.tx, clock.last())?;
    Ok(Refused::Restamped { count })
}

/// An own edit that is not confirmed.
struct Found {
    entry: i64,
    table: TableNumber,
    hlc: Hlc,
    /// Its delta, when it is to be stamped anew.
    again: Option<Vec<u8>>,
}

/// Own edits behind entry `behind`, in order. Not among them are those that are in doubt and held: nobody hears whether
/// their stamps are too high before they can be sent, and until then nothing is to stand above them.
fn page(work: &Work<'_>, (named, now): (Hlc, Hlc), behind: i64) -> Result<Vec<Found>, ClientError> {
    let mut statement = work.tx.prepare_cached(
        "SELECT entry, table_number, hlc, \
             CASE WHEN state <= 1 AND (hlc >= ?1 OR (state = 0 AND doubt = 0 AND hlc > ?2)) THEN delta END \
         FROM _lakesync_outbox \
         WHERE entry > ?3 AND (state IN (1, 2) OR (state = 0 AND (seq IS NULL OR doubt = 0 OR hlc >= ?1))) \
         ORDER BY entry LIMIT ?4",
    )?;
    let limit = i64::try_from(CHUNK_ENTRIES).expect("ten thousand");
    let mut rows = statement.query((named.as_i64(), now.as_i64(), behind, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Found {
            entry: row.get(0)?,
            table: row.get(1)?,
            hlc: Hlc::from_i64(row.get(2)?)?,
            again: row.get(3)?,
        });
    }
    Ok(found)
}

/// The same edit under another stamp. Its row keeps its id.
pub(super) fn stamp(delta: RowDelta, hlc: Hlc) -> RowDelta {
    let key = DeltaKey { hlc, ..delta.key() };
    RowDelta::new(delta.op, key, delta.columns)
}

/// The next stamp of this client, as for a new edit.
pub(super) fn next(work: &Work<'_>) -> Result<Hlc, ClientError> {
    let mut clock = HlcClock::starting_at(state::clock(work.tx)?);
    let hlc = clock.now(work.gateway_ms()?)?;
    state::set_clock(work.tx, hlc)?;
    Ok(hlc)
}
