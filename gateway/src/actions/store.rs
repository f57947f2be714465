//! The actions of one gateway on disk: what waits, what was answered, what was given up.
//!
//! ```text
//! actions  number │ action_id │ client_id │ idempotency_key │ connector │ action_type │ hlc │ params
//!          │ received_ms │ state │ attempts │ due_ms │ outcome │ bytes
//!          state 0 waiting (outcome: the last error)  1 done (data)  2 failed (code, message)  3 dead (the last error)
//!          due_ms: the next attempt of one that waits; else when it came to its end
//! totals   state │ rows │ bytes                    kept by triggers
//! ```
//! **Invariant:** every change is one fsynced transaction. An action is delivered only by whoever has its [`Job`], and
//! there is one: `in_flight` knows those that are out, and forgets them with the process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakesync_proto::{Action, ActionOutcome, Hlc, JsonText};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::Value as Json;

use super::verdict::{DEAD_LETTERED, RETRY_HORIZON, Verdict};
use super::webhook::null;
use crate::error::{Error, Result};

/// The version of this file's format, in `PRAGMA user_version`.
const FORMAT: i64 = 1;

const TABLES: &str = "
    create table actions (
        number integer primary key autoincrement,
        action_id text not null, client_id text not null, idempotency_key text,
        connector text not null, action_type text not null, hlc integer not null, params text not null,
        received_ms integer not null, state integer not null, attempts integer not null,
        due_ms integer not null, outcome text not null,
        bytes integer as (500 + octet_length(params) + octet_length(outcome)) stored
    );
    create unique index actions_by_id on actions (action_id, client_id);
    create index actions_by_key on actions (client_id, idempotency_key) where idempotency_key is not null;
    create index actions_by_due on actions (state, connector, due_ms);
    create index actions_by_end on actions (state, due_ms);
    create table totals (state integer primary key, rows integer not null, bytes integer not null);
    insert into totals values (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0);
    create trigger actions_added after insert on actions begin
        update totals set rows = rows + 1, bytes = bytes + new.bytes where state = new.state;
    end;
    create trigger actions_removed after delete on actions begin
        update totals set rows = rows - 1, bytes = bytes - old.bytes where state = old.state;
    end;
    create trigger actions_changed after update on actions begin
        update totals set rows = rows - 1, bytes = bytes - old.bytes where state = old.state;
        update totals set rows = rows + 1, bytes = bytes + new.bytes where state = new.state;
    end;
    pragma user_version = 1;
";

const JOB_COLUMNS: &str =
    "number, action_id, client_id, idempotency_key, connector, action_type, hlc, params, attempts";

/// What is answered while an action waits.
const QUEUED: &str = r#"{"status":"queued"}"#;

/// Where an action stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting = 0,
    Done = 1,
    Failed = 2,
    Dead = 3,
}

/// How much is kept, each in rows and in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What waits: beyond it new actions are refused, to be sent again.
    pub(super) waiting: (i64, i64),
    /// Dead letters: beyond it the oldest are given up for good, which is logged.
    pub(super) dead: (i64, i64),
    /// Answers that are remembered: beyond it the oldest are forgotten.
    pub(super) finished: (i64, i64),
    /// How long answers are remembered.
    pub(super) remembered: Duration,
}

impl Default for Limits {
    /// Ten thousand actions that wait, in 1 GiB; as many dead letters; 100,000 answers, in 256 MiB, for 7 days: longer
    /// than a client is offline and sends again.
    fn default() -> Self {
        Self {
            waiting: (10_000, 1 << 30),
            dead: (10_000, 1 << 30),
            finished: (100_000, 256 << 20),
            remembered: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// One attempt that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) number: i64,
    pub(super) action_id: String,
    pub(super) client_id: String,
    pub(super) idempotency_key: Option<String>,
    pub(super) connector: String,
    pub(super) action_type: String,
    pub(super) hlc: Hlc,
    /// An object, as JSON text.
    pub(super) params: String,
    /// Which attempt this is, from 1.
    pub(super) attempts: u32,
}

/// What became of an action that came in.
#[derive(Debug, PartialEq)]
pub(super) enum Admitted {
    /// It is stored, and this is its first attempt.
    New(Job),
    /// It came before, as this number.
    Known(i64),
    /// Too much waits: it was not stored.
    Full,
}

/// The open database of one gateway's actions. One owner.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) db: Connection,
    pub(super) limits: Limits,
    pub(super) in_flight: HashSet<i64>,
    path: PathBuf,
}

impl Store {
    /// Opens the database at `path`, making it when there is none.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let db = Connection::open(path).map_err(|error| unusable(path, &error.to_string()))?;
        Self::prepare(db, path)
    }

    /// One that is gone with the process.
    pub(super) fn in_memory() -> Result<Self> {
        let path = Path::new(":memory:");
        let db =
            Connection::open_in_memory().map_err(|error| unusable(path, &error.to_string()))?;
        Self::prepare(db, path)
    }

    fn prepare(mut db: Connection, path: &Path) -> Result<Self> {
        let format = read_format(&db).map_err(|error| unusable(path, &error.to_string()))?;
        match format {
            0 | FORMAT => {}
            newer => {
                return Err(unusable(
                    path,
                    &format!(
                        "it has format {newer}, this program knows {FORMAT}: open it with a later version"
                    ),
                ));
            }
        }
        configure(&mut db, format).map_err(|error| unusable(path, &error.to_string()))?;
        Ok(Self {
            db,
            limits: Limits::default(),
            in_flight: HashSet::new(),
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Stores the actions that are new, all in one transaction.
    pub(super) fn admit(
        &mut self,
        actions: &[Action],
        now_ms: i64,
    ) -> rusqlite::Result<Vec<Admitted>> {
        let limits = self.limits;
        let tx = write(&mut self.db)?;
        let admitted: rusqlite::Result<Vec<_>> = actions
            .iter()
            .map(|action| admit_one(&tx, action, &limits, now_ms))
            .collect();
        let admitted = admitted?;
        tx.commit()?;
        for entry in &admitted {
            if let Admitted::New(job) = entry {
                self.in_flight.insert(job.number);
            }
        }
        Ok(admitted)
    }

    /// What is to be said of actions by number; none for one that was forgotten.
    pub(super) fn outcomes(&self, numbers: &[i64]) -> rusqlite::Result<Vec<Option<ActionOutcome>>> {
        let sql = "select state, outcome from actions where number = ?1";
        let mut statement = self.db.prepare_cached(sql)?;
        let outcome = |row: &Row<'_>| Ok(outcome(row.get(0)?, &row.get::<_, String>(1)?));
        numbers
            .iter()
            .map(|number| statement.query_row([number], outcome).optional())
            .collect()
    }

    /// The connectors with actions that are due and not in flight.
    pub(super) fn due_connectors(&self, now_ms: i64) -> rusqlite::Result<Vec<String>> {
        let sql = "select distinct connector from actions where state = 0 and (due_ms <= ?1 or due_ms > ?2)";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([now_ms, horizon(now_ms)], |row| row.get(0))?;
        rows.collect()
    }

    /// Takes up to `jobs_max` actions of a connector that are due, and counts the attempt.
    pub(super) fn claim(
        &mut self,
        connector: &str,
        now_ms: i64,
        jobs_max: usize,
    ) -> rusqlite::Result<Vec<Job>> {
        let tx = write(&mut self.db)?;
        let mut jobs = Vec::new();
        {
            let mut statement = tx.prepare_cached(&format!(
                "select {JOB_COLUMNS} from actions where state = 0 and connector = ?1
                 and (due_ms <= ?2 or due_ms > ?3) order by due_ms, number"
            ))?;
            let mut rows = statement.query(params![connector, now_ms, horizon(now_ms)])?;
            while let Some(row) = rows.next()? {
                if jobs.len() >= jobs_max {
                    break;
                }
                if !self.in_flight.contains(&row.get(0)?) {
                    jobs.push(job(row)?);
                }
            }
            let mut count =
                tx.prepare_cached("update actions set attempts = ?1 where number = ?2")?;
            for job in &mut jobs {
                job.attempts = job.attempts.saturating_add(1);
                count.execute(params![job.attempts, job.number])?;
            }
        }
        tx.commit()?;
        self.in_flight.extend(jobs.iter().map(|job| job.number));
        Ok(jobs)
    }

    /// Gives back a job whose attempt was not made.
    pub(super) fn release(&mut self, number: i64) -> rusqlite::Result<()> {
        self.in_flight.remove(&number);
        let sql =
            "update actions set attempts = max(attempts - 1, 0) where number = ?1 and state = 0";
        self.db.execute(sql, [number]).map(drop)
    }

    /// Writes down what came of an attempt.
    pub(super) fn settle(
        &mut self,
        number: i64,
        verdict: &Verdict,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        self.in_flight.remove(&number);
        let (state, due_ms, outcome) = match verdict {
            Verdict::Done(data) => (State::Done, now_ms, data.as_str().to_owned()),
            Verdict::Failed { code, message } => (State::Failed, now_ms, failure(code, message)),
            Verdict::Dead(reason) => (State::Dead, now_ms, reason.clone()),
            Verdict::Again { wait, reason } => (
                State::Waiting,
                now_ms.saturating_add(millis(*wait)),
                reason.clone(),
            ),
        };
        let finished = matches!(state, State::Done | State::Failed);
        // Nobody asks for the params of what was answered.
        let sql =
            "update actions set state = ?2, due_ms = ?3, outcome = ?4, params = iif(?5, '', params)
                   where number = ?1 and state = 0";
        let values = params![number, state as i64, due_ms, outcome, finished];
        self.db.execute(sql, values).map(drop)
    }

    /// When the next action is due that is not due yet, in milliseconds since 1970.
    pub(super) fn next_due(&self, now_ms: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "select min(due_ms) from actions where state = 0 and due_ms > ?1";
        self.db.query_row(sql, [now_ms], |row| row.get(0))
    }
}

fn read_format(db: &Connection) -> rusqlite::Result<i64> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn configure(db: &mut Connection, format: i64) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    if format == 0 {
        let tx = write(db)?;
        tx.execute_batch(TABLES)?;
        tx.commit()?;
    }
    Ok(())
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Database {
        path: path.to_owned(),
        reason: format!(
            "{reason}. It holds queued actions and what was answered to earlier ones, no delta: restore it from a \
             copy, or move it away with its -wal and -shm files to begin without them"
        ),
    }
}

pub(super) fn write(db: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn admit_one(
    tx: &Transaction<'_>,
    action: &Action,
    limits: &Limits,
    now_ms: i64,
) -> rusqlite::Result<Admitted> {
    if let Some(number) = known(tx, action)? {
        return Ok(Admitted::Known(number));
    }
    if over(totals(tx, &[State::Waiting])?, limits.waiting) {
        return Ok(Admitted::Full);
    }
    let sql = "insert into actions (action_id, client_id, idempotency_key, connector, action_type, hlc, params,
                   received_ms, state, attempts, due_ms, outcome)
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 1, ?8, '')";
    let content = &action.content;
    let action_id = action.action_id.to_string();
    tx.prepare_cached(sql)?.execute(params![
        action_id,
        content.client_id.as_str(),
        action.idempotency_key,
        content.connector,
        content.action_type,
        content.hlc.as_i64(),
        content.params.as_str(),
        now_ms,
    ])?;
    Ok(Admitted::New(Job {
        number: tx.last_insert_rowid(),
        action_id,
        client_id: content.client_id.to_string(),
        idempotency_key: action.idempotency_key.clone(),
        connector: content.connector.clone(),
        action_type: content.action_type.clone(),
        hlc: content.hlc,
        params: content.params.as_str().to_owned(),
        attempts: 1,
    }))
}

/// The action that this one is: of the same id, or what the same client calls the same.
fn known(tx: &Transaction<'_>, action: &Action) -> rusqlite::Result<Option<i64>> {
    let client = action.content.client_id.as_str();
    let number = |sql: &str, name: &str| {
        let mut statement = tx.prepare_cached(sql)?;
        statement
            .query_row([client, name], |row| row.get(0))
            .optional()
    };
    let by_id = "select number from actions where client_id = ?1 and action_id = ?2";
    let by_key = "select number from actions where client_id = ?1 and idempotency_key = ?2";
    match (
        number(by_id, &action.action_id.to_string())?,
        &action.idempotency_key,
    ) {
        (None, Some(key)) => number(by_key, key),
        (same, _) => Ok(same),
    }
}

/// Rows and bytes of the actions in some states.
pub(super) fn totals(db: &Connection, states: &[State]) -> rusqlite::Result<(i64, i64)> {
    let mut statement = db.prepare_cached("select rows, bytes from totals where state = ?1")?;
    let mut sum = (0, 0);
    for state in states {
        let (rows, bytes): (i64, i64) =
            statement.query_row([*state as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        sum = (sum.0 + rows, sum.1 + bytes);
    }
    Ok(sum)
}

/// Whether so many rows or bytes are all that is allowed, or more.
pub(super) fn over(sum: (i64, i64), limit: (i64, i64)) -> bool {
    sum.0 >= limit.0 || sum.1 >= limit.1
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        number: row.get(0)?,
        action_id: row.get(1)?,
        client_id: row.get(2)?,
        idempotency_key: row.get(3)?,
        connector: row.get(4)?,
        action_type: row.get(5)?,
        hlc: Hlc::from_i64(row.get(6)?).unwrap_or_default(),
        params: row.get(7)?,
        attempts: row.get(8)?,
    })
}

/// Due times beyond this are of a wall clock that was set back since.
fn horizon(now_ms: i64) -> i64 {
    now_ms.saturating_add(millis(RETRY_HORIZON))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn failure(code: &str, message: &str) -> String {
    serde_json::json!({"code": code, "message": message}).to_string()
}

fn outcome(state: i64, text: &str) -> ActionOutcome {
    let failed = |code: &str, message: String| ActionOutcome::Failed {
        code: code.to_owned(),
        message,
        retryable: false,
    };
    match state {
        1 => ActionOutcome::Done {
            data: JsonText::parse(text).unwrap_or_else(|_| null()),
        },
        2 => {
            let json: Json = serde_json::from_str(text).unwrap_or_default();
            let message = json["message"].as_str().unwrap_or_default();
            failed(
                json["code"].as_str().unwrap_or_default(),
                message.to_owned(),
            )
        }
        3 => failed(
            DEAD_LETTERED,
            format!("it was given up after its last attempt: {text}"),
        ),
        _ => ActionOutcome::Done {
            data: JsonText::parse(QUEUED).expect("it is a small object"),
        },
    }
}
