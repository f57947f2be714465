//! Dead letters: edits that the gateway refused for good, until a person has looked at them.
//!
//! Invariant: a dead letter leaves only by a person's hand. Its cells show what is confirmed from the moment of the
//! refusal on, and those who asked to be told hear of it once, after the commit.

use std::sync::Arc;

use lakesync_proto::{ColumnChange, ErrorCode, Op, TableName};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use crate::db::LocalDb;
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::durable::restore;
use crate::outbox::entry::{REJECTED, add, decode, delta_of, table_of};
use crate::outbox::restamp;
use crate::rows;
use crate::schema::LocalTable;
use crate::transport::Refusal;
use crate::watch::{First, Interest, Mail, Subscription};

/// Dead letters of one transaction that are told to callbacks; when there are more, the rest is only in the list.
const TOLD_MAX: usize = 1_000;

/// The code of an edit that this database itself found impossible.
const NOT_AN_EDIT: &str = "NOT_AN_EDIT";

/// Why an edit is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The gateway's error code, such as `FORBIDDEN`; `NOT_AN_EDIT` when plain SQL wrote values that the table's schema
    /// does not allow, which were never sent.
    pub code: String,
    /// The gateway's text.
    pub message: String,
    /// The id under which the gateway's own log knows the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// This machine's wall clock at the refusal, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Reason {
    pub(super) fn of(refusal: &Refusal, at_ms: u64) -> Reason {
        Reason {
            code: refusal.code.clone(),
            message: refusal.message.clone(),
            request_id: refusal.request_id.clone(),
            at_ms,
        }
    }
}

/// An edit that was refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number in the outbox.
    pub entry: i64,
    /// Its table.
    pub table: TableName,
    /// Its row, as it was written.
    pub row_id: String,
    /// What it did; none when it never became an edit.
    pub op: Option<Op>,
    /// What it wrote; empty when it never became an edit.
    pub columns: Vec<ColumnChange>,
    /// The captured values as text, when it never became an edit.
    pub captured: Option<String>,
    /// Why.
    pub reason: Reason,
}

impl DeadLetter {
    /// Whether it was refused only because it came too late: sent again with the stamp of now it will be taken.
    pub fn is_too_late(&self) -> bool {
        self.reason.code == ErrorCode::LateDelta.as_str()
    }
}

/// What could not become a delta, as a dead letter: `what` shows the captured values as text.
pub(crate) fn add_rejected(
    work: &mut Work<'_>,
    table: &LocalTable,
    row_id: &str,
    (what, reason): (&str, &str),
) -> Result<(), ClientError> {
    let reason = Reason {
        code: NOT_AN_EDIT.to_owned(),
        message: reason.to_owned(),
        request_id: None,
        at_ms: work.now_ms,
    };
    work.tx
        .prepare_cached(
            "INSERT INTO _lakesync_outbox (state, table_number, row_id, hlc, reason, delta) \
             VALUES (4, ?1, ?2, 0, ?3, ?4)",
        )?
        .execute((table.number, row_id, text(&reason), what.as_bytes()))?;
    tell(work, work.tx.last_insert_rowid())
}

/// Makes entries dead letters; their rows fall back to what is confirmed and what else is on its way.
pub(super) fn reject(
    work: &mut Work<'_>,
    entries: &[i64],
    reason: &Reason,
) -> Result<(), ClientError> {
    let mut rows = Vec::with_capacity(entries.len());
    {
        let mut statement = work.tx.prepare_cached(
            "UPDATE _lakesync_outbox SET state = 4, doubt = 0, seq = NULL, reason = ?2 WHERE entry = ?1
             RETURNING table_number, row_id",
        )?;
        let reason = text(reason);
        for entry in entries {
            rows.push(statement.query_row((entry, &reason), |row| Ok((row.get(0)?, row.get(1)?)))?);
        }
    }
    restore(work, rows)?;
    entries.iter().try_for_each(|entry| tell(work, *entry))
}

fn tell(work: &mut Work<'_>, entry: i64) -> Result<(), ClientError> {
    if work.dead.len() < TOLD_MAX {
        let found = read(work, "entry = ?1", (entry, 1))?;
        work.dead.extend(found);
    }
    Ok(())
}

fn text(reason: &Reason) -> String {
    serde_json::to_string(reason).expect("texts and a number are plain JSON")
}

/// Dead letters that a condition on `?1` chooses, oldest first.
fn read(
    work: &Work<'_>,
    which: &str,
    (of, limit): (i64, i64),
) -> Result<Vec<DeadLetter>, ClientError> {
    let mut statement = work.tx.prepare_cached(&format!(
        "SELECT entry, table_number, row_id, hlc, delta, reason FROM _lakesync_outbox \
         WHERE state = 4 AND seq IS NULL AND {which} ORDER BY entry LIMIT ?2"
    ))?;
    let mut found = statement.query([of, limit])?;
    let mut letters = Vec::new();
    while let Some(row) = found.next()? {
        let table = table_of(work.registry, row.get(1)?)?;
        let blob = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        let reason: Option<String> = row.get(5)?;
        let mut letter = DeadLetter {
            entry: row.get(0)?,
            table: table.schema.table.clone(),
            row_id: row.get(2)?,
            op: None,
            columns: Vec::new(),
            captured: None,
            reason: reason_of(reason.as_deref())?,
        };
        if row.get::<_, i64>(3)? == 0 {
            letter.captured = Some(String::from_utf8_lossy(blob).into_owned());
        } else {
            let delta = decode(blob, work.registry)?;
            letter.op = Some(delta.op);
            letter.columns = delta.columns;
        }
        letters.push(letter);
    }
    Ok(letters)
}

fn reason_of(stored: Option<&str>) -> Result<Reason, ClientError> {
    serde_json::from_str(stored.unwrap_or_default()).map_err(|error| ClientError::Damaged {
        what: format!("the reason of a dead letter: {error}"),
    })
}

impl LocalDb {
    /// The oldest dead letters, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, ClientError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.keep(|work| read(work, "entry > ?1", (0, limit)))
    }

    /// Sends a dead letter again, as an edit of now: it gets a new number and a new stamp, shows in its row, and waits for
    /// the next push.
    ///
    /// # Errors
    /// [`ClientError::NoDeadLetter`] when there is none of this number, [`ClientError::NeverAnEdit`] when there is nothing
    /// to send, [`ClientError::Check`] when the table's schema has changed so that it does not fit any more.
    pub fn retry(&self, entry: i64) -> Result<(), ClientError> {
        self.keep(|work| retry(work, entry))?;
        self.hub().publish_outbox();
        Ok(())
    }

    /// Sends every dead letter again that was refused only because it came too late, each as an edit of now, in the order
    /// in which they were made. Says how many there were.
    ///
    /// # Errors
    /// When the database fails, or as [`LocalDb::retry`]: then none is sent.
    pub fn retry_all_too_late(&self) -> Result<u64, ClientError> {
        let count = self.keep(retry_all_too_late)?;
        self.hub().publish_outbox();
        Ok(count)
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// [`ClientError::NoDeadLetter`] when there is none of this number.
    pub fn discard(&self, entry: i64) -> Result<(), ClientError> {
        self.keep(|work| discard(work, entry))?;
        self.hub().publish_outbox();
        Ok(())
    }

    /// Calls `callback` for every edit that becomes a dead letter from now on, after it has. It may use the database. One
    /// transaction tells at most a thousand; all of them are in [`LocalDb::dead_letters`].
    ///
    /// The callback runs on the thread that heard of the refusal, which is the one that syncs, until the subscription is
    /// dropped: it should be quick.
    pub fn on_dead_letter(
        &self,
        mut callback: impl FnMut(&DeadLetter) + Send + 'static,
    ) -> Subscription {
        let inbox = self.hub().subscribe(Interest::Dead, First::Nothing);
        let call = move |mail: Mail| mail.dead.iter().for_each(&mut callback);
        Subscription::begin(self.clone(), inbox, Box::new(call))
    }
}

pub(super) fn discard(work: &mut Work<'_>, entry: i64) -> Result<(), ClientError> {
    let deleted = work.tx.execute(
        "DELETE FROM _lakesync_outbox WHERE entry = ?1 AND state = 4",
        [entry],
    )?;
    match deleted {
        0 => Err(ClientError::NoDeadLetter { entry }),
        _ => Ok(()),
    }
}

pub(super) fn retry(work: &mut Work<'_>, entry: i64) -> Result<(), ClientError> {
    let mut statement = work
        .tx
        .prepare_cached("SELECT hlc FROM _lakesync_outbox WHERE entry = ?1 AND state = ?2")?;
    let hlc: Option<i64> = statement
        .query_row([entry, REJECTED], |row| row.get(0))
        .optional()?;
    match hlc {
        None => return Err(ClientError::NoDeadLetter { entry }),
        Some(0) => return Err(ClientError::NeverAnEdit { entry }),
        Some(_) => {}
    }
    let delta = delta_of(work, entry)?;
    let table = Arc::clone(work.registry.table(&delta.table)?);
    let delta = restamp::stamp(delta, restamp::next(work)?);
    table
        .schema
        .check(&delta)
        .map_err(|source| ClientError::Check {
            table: delta.table.clone(),
            source,
        })?;
    // Under a new number: it is the newest edit now, and goes behind the others.
    discard(work, entry)?;
    let row_id = delta.row_id.clone();
    add(work, &table, delta)?;
    rows::restore(work, &table, &row_id)
}

pub(super) fn retry_all_too_late(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let mut count = 0;
    let mut behind = 0;
    while let Some(entry) = next_too_late(work, behind)? {
        retry(work, entry)?;
        behind = entry;
        count += 1;
    }
    Ok(count)
}

fn next_too_late(work: &Work<'_>, behind: i64) -> Result<Option<i64>, ClientError> {
    let mut statement = work.tx.prepare_cached(
        "SELECT entry FROM _lakesync_outbox \
         WHERE state = 4 AND seq IS NULL AND entry > ?1 AND reason ->> 'code' = ?2 ORDER BY entry LIMIT 1",
    )?;
    let late = ErrorCode::LateDelta.as_str();
    Ok(statement
        .query_row((behind, late), |row| row.get(0))
        .optional()?)
}
