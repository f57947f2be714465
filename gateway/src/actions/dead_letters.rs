//! What was given up, and what is forgotten.
//!
//! **Invariant:** a dead letter leaves only by being retried or discarded, or when there are too many, which is logged.
//! What was discarded is still known, so that a client that sends it again is not served.

use lakesync_proto::{ClientId, JsonText};
use rusqlite::{Row, params};
use serde_json::json;

use super::store::{State, Store, over, totals, write};
use super::verdict::DEAD_LETTERED;
use super::webhook::null;

/// Dead letters of one listing.
pub const DEAD_PAGE_MAX: usize = 100;

/// Bytes of params of one listing, beyond its first letter.
const DEAD_PAGE_BYTES_MAX: usize = 16 << 20;

/// Rows that go in one step when bytes are too many: few, because one may be what was too much.
const BYTES_STEP_ROWS: i64 = 10;

/// An action whose attempts are used up.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its place in the list: list on after it.
    pub number: i64,
    /// Its id, by which it is retried or discarded.
    pub action_id: String,
    /// Who asked.
    pub client_id: ClientId,
    /// Which connector.
    pub connector: String,
    /// What to do.
    pub action_type: String,
    /// With what.
    pub params: JsonText,
    /// Attempts that were made.
    pub attempts: u32,
    /// How the last one ended.
    pub last_error: String,
    /// When it came in, in milliseconds since 1970.
    pub received_ms: i64,
    /// When it was given up, in milliseconds since 1970.
    pub dead_ms: i64,
}

impl Store {
    /// Dead letters after a number, oldest first: [`DEAD_PAGE_MAX`] of them or fewer.
    pub(super) fn list_dead(&self, after: i64) -> rusqlite::Result<Vec<DeadLetter>> {
        let sql = "select number, action_id, client_id, connector, action_type, params, attempts, outcome, received_ms,
                       due_ms
                   from actions where state = 3 and number > ?1 order by number";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([after])?;
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < DEAD_PAGE_MAX && bytes < DEAD_PAGE_BYTES_MAX {
            let Some(row) = rows.next()? else {
                break;
            };
            bytes += row.get_ref(5)?.as_str().map_or(0, str::len);
            letters.extend(letter(row)?);
        }
        Ok(letters)
    }

    /// Makes a dead letter wait again, with all its attempts; whether there was one.
    pub(super) fn retry(&mut self, action_id: &str, now_ms: i64) -> rusqlite::Result<bool> {
        let sql = "update actions set state = 0, attempts = 0, due_ms = ?2, outcome = ''
                   where action_id = ?1 and state = 3";
        Ok(self.db.execute(sql, params![action_id, now_ms])? > 0)
    }

    /// Gives a dead letter up for good; whether there was one.
    pub(super) fn discard(&mut self, action_id: &str, now_ms: i64) -> rusqlite::Result<bool> {
        let sql = "update actions set state = 2, params = '', due_ms = ?2, outcome = ?3
                   where action_id = ?1 and state = 3";
        let outcome = given_up("it was discarded by an administrator");
        Ok(self.db.execute(sql, params![action_id, now_ms, outcome])? > 0)
    }

    /// Forgets answers that are old or too many, and gives up dead letters that are too many.
    pub(super) fn forget(&mut self, now_ms: i64) -> rusqlite::Result<()> {
        let limits = self.limits;
        let remembered_ms = i64::try_from(limits.remembered.as_millis()).unwrap_or(i64::MAX);
        let tx = write(&mut self.db)?;
        tx.execute(
            "delete from actions where state in (1, 2) and due_ms < ?1",
            [now_ms.saturating_sub(remembered_ms)],
        )?;
        let mut given_up_rows = 0;
        loop {
            let excess = excess(totals(&tx, &[State::Dead])?, limits.dead);
            if excess == 0 {
                break;
            }
            let sql = "update actions set state = 2, params = '', due_ms = ?1, outcome = ?2 where number in
                       (select number from actions where state = 3 order by due_ms limit ?3)";
            let outcome = given_up("too many dead letters came after it");
            let rows = tx.execute(sql, params![now_ms, outcome, excess])?;
            given_up_rows += rows;
            if rows == 0 {
                break;
            }
        }
        loop {
            let sum = totals(&tx, &[State::Done, State::Failed])?;
            let excess = excess(sum, limits.finished);
            let sql = "delete from actions where number in
                       (select number from actions where state in (1, 2) order by due_ms limit ?1)";
            if excess == 0 || tx.execute(sql, [excess])? == 0 {
                break;
            }
        }
        tx.commit()?;
        if given_up_rows > 0 {
            tracing::warn!(
                given_up_rows,
                "dead letters were given up: there were too many"
            );
        }
        Ok(())
    }
}

/// How many rows are to go at once to come below a limit; 0 when they are.
fn excess(sum: (i64, i64), limit: (i64, i64)) -> i64 {
    match (over(sum, limit), sum.0 - limit.0 + 1) {
        (false, _) => 0,
        (true, rows) if rows > 0 => rows,
        (true, _) => BYTES_STEP_ROWS,
    }
}

fn given_up(why: &str) -> String {
    json!({"code": DEAD_LETTERED, "message": format!("it was given up: {why}")}).to_string()
}

/// A letter; none when its client id is none, which no door lets in.
fn letter(row: &Row<'_>) -> rusqlite::Result<Option<DeadLetter>> {
    let client: String = row.get(2)?;
    let Ok(client_id) = ClientId::parse(&client) else {
        return Ok(None);
    };
    Ok(Some(DeadLetter {
        number: row.get(0)?,
        action_id: row.get(1)?,
        client_id,
        connector: row.get(3)?,
        action_type: row.get(4)?,
        params: JsonText::parse(&row.get::<_, String>(5)?).unwrap_or_else(|_| null()),
        attempts: row.get(6)?,
        last_error: row.get(7)?,
        received_ms: row.get(8)?,
        dead_ms: row.get(9)?,
    }))
}
