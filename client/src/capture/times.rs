//! When captured changes were made: by the injected clock where a transaction of ours made them, else by SQLite's.
//!
//! Invariant: a stamp is greater than every one before it, whatever the clocks say; a time that no stamp can hold counts
//! as unknown, so a broken clock stops nobody.

use lakesync_proto::limits::WALL_MS_MAX;
use lakesync_proto::{Hlc, HlcClock};
use rusqlite::{Connection, Rows, Statement};

use super::change::Change;
use super::plan::Writer;
use crate::error::ClientError;
use crate::state;

/// The stamps of own edits.
pub(super) struct Stamps {
    clock: HlcClock,
    skew_ms: i64,
}

impl Stamps {
    pub(super) fn load(connection: &Connection) -> Result<Stamps, ClientError> {
        Ok(Stamps {
            clock: HlcClock::starting_at(state::clock(connection)?),
            skew_ms: state::skew_ms(connection)?,
        })
    }

    /// The next stamp, of an edit at this time of this machine.
    pub(super) fn next(&mut self, at_ms: u64) -> Result<Hlc, ClientError> {
        Ok(self.clock.now(known(at_ms, self.skew_ms))?)
    }

    /// Keeps the greatest stamp given.
    pub(super) fn store(self, connection: &Connection) -> Result<(), ClientError> {
        state::set_clock(connection, self.clock.last())
    }
}

/// A stamp for a new row's id, given once only.
pub(crate) fn row_stamp(connection: &Connection, at_ms: u64) -> Result<Hlc, ClientError> {
    let mut clock = HlcClock::starting_at(state::named(connection)?);
    let hlc = clock.now(known(at_ms, state::skew_ms(connection)?))?;
    state::set_named(connection, hlc)?;
    Ok(hlc)
}

/// The gateway's time; 0, which holds no clock up, for one that no stamp can hold.
fn known(at_ms: u64, skew_ms: i64) -> u64 {
    let gateway_ms = at_ms.saturating_add_signed(skew_ms);
    if gateway_ms > WALL_MS_MAX {
        0
    } else {
        gateway_ms
    }
}

/// Which transactions of ours made which changes.
pub(super) struct Commits<'s> {
    rows: Rows<'s>,
    current: Option<Commit>,
}

#[derive(Clone, Copy)]
struct Commit {
    first: i64,
    last: i64,
    at_ms: i64,
}

/// The query that [`Commits`] reads.
pub(super) fn commits(connection: &Connection) -> Result<Statement<'_>, ClientError> {
    Ok(connection.prepare("SELECT first, last, at_ms FROM _lakesync_commits ORDER BY last")?)
}

impl<'s> Commits<'s> {
    pub(super) fn of(statement: &'s mut Statement<'_>) -> Result<Commits<'s>, ClientError> {
        Ok(Commits {
            rows: statement.query([])?,
            current: None,
        })
    }

    /// Who made a change, and when. Changes are asked for in their order.
    pub(super) fn maker(&mut self, change: &Change<'_>) -> Result<(Writer, u64), ClientError> {
        while self
            .current
            .is_none_or(|commit| commit.last < change.number)
        {
            let Some(row) = self.rows.next()? else {
                self.current = Some(Commit {
                    first: i64::MAX,
                    last: i64::MAX,
                    at_ms: 0,
                });
                break;
            };
            self.current = Some(Commit {
                first: row.get(0)?,
                last: row.get(1)?,
                at_ms: row.get(2)?,
            });
        }
        let ms = |at_ms: i64| u64::try_from(at_ms).unwrap_or(0);
        Ok(match self.current {
            Some(commit) if commit.first <= change.number => (Writer::Own, ms(commit.at_ms)),
            _ => (Writer::Foreign, ms(change.at_ms)),
        })
    }
}
