//! The durable log: one SQLite row a push, one commit a group, fsynced before anyone hears of it.
//!
//! ```text
//! pushes    first_seq │ last_seq │ arrived_ms │ deltas (blob: proto::encode_batch) │ members (blob: rules::moved);
//!           what a large statement writes is cut into several rows, stored in one transaction
//! clients   client_id │ newest_hlc            the high-water mark of what each client has sent
//! rule_rows version │ table_name │ row_id │ state    what the rules look at of each row: rules::ledger
//! meta      key │ value                       fence, pending_fence, floor, rules, rules_since, rules_epoch, …
//! ```
//! What every table has flushed and pulls no longer read goes again, and so do old clients' marks: `trim.rs`.
//!
//! Format 1 had no rules: neither `members` nor `rule_rows`. It is brought to format 2 when it is opened.
//!
//! **Invariant:** the rows of `pushes` are ascending and disjoint in seq; a row is whole or absent. WAL
//! mode with `synchronous=FULL` makes COMMIT the moment of durability.

mod rows;
mod trim;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakesync_proto::{ClientId, DecodeErrorKind, Hlc, Schemas, Seq, SeqDelta, decode_batch};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use crate::error::{Error, Result};
use crate::rules::moved::{self, Moved};
use crate::rules::rows::{RULE_ROWS, RuleRow, put_rule_rows};
use rows::insert;
pub(crate) use trim::{FileSize, Trimmed};

/// The pushes with deltas above a seq. The first one is searched by its key, which bounds the scan from below.
const READ: &str = "select first_seq, arrived_ms, deltas, last_seq, members from pushes
    where first_seq >= ifnull((select max(first_seq) from pushes where first_seq <= ?1 + 1), 0)
    and last_seq > ?1 order by first_seq";

/// Bytes of deltas that one read gives at most, beyond its first push.
const READ_BYTES_MAX: usize = 32 << 20;

/// The version of this file's format, in `PRAGMA user_version`.
const FORMAT: i64 = 2;

/// What brings a file of format 1 to format 2.
const TO_FORMAT_2: &str = "alter table pushes add column members blob;";

const TRUNCATED: &str = "the file exists but holds no LakeSync tables: it was truncated, or is another program's. \
    Restore it from a copy; or, if it is lost for good, move it away with its -wal and -shm files: what was flushed is \
    in the lake, and clients send again what was not";

const TABLES: &str = "
    create table pushes (
        first_seq integer primary key, last_seq integer not null,
        arrived_ms integer not null, deltas blob not null, members blob
    );
    create table clients (client_id text primary key, newest_hlc integer not null) without rowid;
    create table meta (key text primary key, value text not null) without rowid;
";

/// One push as it is stored.
#[derive(Debug)]
pub(crate) struct StoredPush {
    /// When it was accepted, in milliseconds since 1970.
    pub(crate) arrived_ms: u64,
    /// Its new deltas, dense in seq.
    pub(crate) deltas: Vec<SeqDelta>,
    /// What each delta did to who sees its row; empty when it came in without rules.
    pub(crate) moved: Vec<Arc<Moved>>,
}

/// An open durable log. One connection, one owner.
#[derive(Debug)]
pub(crate) struct DurableLog {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
}

impl DurableLog {
    /// Opens the database at `path`, making it when there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let size = fs::metadata(path).map(|file| file.len());
        match size {
            Ok(0) => return Err(refused(path, TRUNCATED)),
            Ok(_) => {}
            Err(_) => {
                refuse_orphaned_wal(path)?;
                create(path)?;
            }
        }
        // First through a connection that cannot write: a file that is refused stays as it is, its WAL too.
        Self::reader(path)?.check()?;
        let connection = Connection::open(path).map_err(|error| broken(path, &error))?;
        let log = Self {
            connection,
            path: path.to_owned(),
        };
        log.prepare().map_err(|error| broken(path, &error))?;
        log.make_shrinkable()?;
        Ok(log)
    }

    /// A second connection to a database that is open, for reading beside the writer.
    pub(crate) fn reader(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| broken(path, &error))?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(|error| broken(path, &error))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let db = &self.connection;
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "full")?;
        let wal_bytes_max = i64::try_from(trim::WAL_BYTES_MAX).unwrap_or(i64::MAX);
        db.pragma_update(None, "journal_size_limit", wal_bytes_max)?;
        let format: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if format == 1 {
            db.execute_batch(&format!(
                "begin immediate; {TO_FORMAT_2} {RULE_ROWS} pragma user_version = {FORMAT}; commit;"
            ))?;
        }
        Ok(())
    }

    /// Whether the file is whole and of a format that this program knows.
    fn check(&self) -> Result<()> {
        let sqlite = |error| broken(&self.path, &error);
        let db = &self.connection;
        let format: i64 = db
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(sqlite)?;
        match format {
            1 | FORMAT => {}
            0 => return Err(refused(&self.path, TRUNCATED)),
            newer => {
                return Err(refused(
                    &self.path,
                    &format!(
                        "the gateway database has format {newer}, this program knows {FORMAT}; open it with the \
                         version that wrote it, or a later one"
                    ),
                ));
            }
        }
        let damage: String = db
            .query_row("pragma quick_check(1)", [], |row| row.get(0))
            .map_err(sqlite)?;
        match damage.as_str() {
            "ok" => Ok(()),
            damage => Err(refused(&self.path, &damaged(damage))),
        }
    }

    /// Stores a group of pushes, each client's newest stamp and the rules' rows in one fsynced transaction.
    ///
    /// # Errors
    /// [`AppendError::RolledBack`] when nothing was written, [`AppendError::Unknown`] when COMMIT failed.
    pub(crate) fn append(
        &mut self,
        pushes: &[StoredPush],
        newest: &HashMap<ClientId, Hlc>,
        rows: &[RuleRow],
    ) -> std::result::Result<(), AppendError> {
        let tx = self
            .write(pushes, newest, rows)
            .map_err(AppendError::RolledBack)?;
        tx.commit().map_err(AppendError::Unknown)
    }

    /// A transaction with the group in it; dropping it rolls back.
    fn write(
        &mut self,
        pushes: &[StoredPush],
        newest: &HashMap<ClientId, Hlc>,
        rows: &[RuleRow],
    ) -> rusqlite::Result<Transaction<'_>> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&tx, pushes)?;
        {
            let mut mark = tx.prepare_cached(
                "insert into clients values (?1, ?2)
                 on conflict do update set newest_hlc = max(newest_hlc, excluded.newest_hlc)",
            )?;
            for (client, hlc) in newest {
                mark.execute(params![client.as_ref(), hlc.as_i64()])?;
            }
            put_rule_rows(&tx, rows)?;
        }
        Ok(tx)
    }

    /// Puts `pushes` in the place of those that begin at `firsts`, all in one fsynced transaction.
    pub(crate) fn exchange(&mut self, firsts: &[Seq], pushes: &[StoredPush]) -> Result<()> {
        let path = self.path.clone();
        let sqlite = |error| broken(&path, &error);
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sqlite)?;
        for first in firsts {
            let delete = "delete from pushes where first_seq = ?1";
            tx.execute(delete, params![first.as_i64()])
                .map_err(sqlite)?;
        }
        insert(&tx, pushes).map_err(sqlite)?;
        tx.commit().map_err(sqlite)
    }

    /// Stored pushes with deltas above `since`, ascending, until they hold `deltas_max` deltas or
    /// [`READ_BYTES_MAX`] bytes.
    pub(crate) fn read(
        &self,
        since: Seq,
        deltas_max: usize,
        schemas: &dyn Schemas,
    ) -> Result<Vec<StoredPush>> {
        let mut statement = self
            .connection
            .prepare_cached(READ)
            .map_err(|error| broken(&self.path, &error))?;
        let mut rows = statement
            .query(params![since.as_i64()])
            .map_err(|error| broken(&self.path, &error))?;
        let (mut found, mut count, mut bytes) = (Vec::new(), 0, 0);
        while count < deltas_max && bytes < READ_BYTES_MAX {
            let Some(row) = rows.next().map_err(|error| broken(&self.path, &error))? else {
                break;
            };
            let push = self.stored(row, schemas)?;
            let above = push.deltas.iter().filter(|delta| delta.seq > since);
            for delta in above {
                count += 1;
                bytes += delta.delta.bytes();
            }
            found.push(push);
        }
        Ok(found)
    }

    fn stored(&self, row: &rusqlite::Row<'_>, schemas: &dyn Schemas) -> Result<StoredPush> {
        let sqlite = |error| broken(&self.path, &error);
        let first: i64 = row.get(0).map_err(sqlite)?;
        let last: i64 = row.get(3).map_err(sqlite)?;
        let arrived_ms: i64 = row.get(1).map_err(sqlite)?;
        let blob = row
            .get_ref(2)
            .and_then(|value| Ok(value.as_blob()?))
            .map_err(sqlite)?;
        let broken = |what: String| {
            let what = format!("the push at seq {first} cannot be read: {what}");
            refused(&self.path, &damaged(&what))
        };
        let deltas = decode_batch(blob, schemas).map_err(|error| match error.kind() {
            DecodeErrorKind::UnknownTable => refused(
                &self.path,
                &format!(
                    "the push at seq {first} is of a table that the catalog does not know ({error}). The database is \
                     whole; it is catalog.db that was lost or is older: restore that one"
                ),
            ),
            _ => broken(error.to_string()),
        })?;
        let seqs = deltas.iter().map(|delta| delta.seq.as_i64());
        if !seqs.eq(first..=last) {
            return Err(broken(format!(
                "it does not hold the deltas {first} to {last}"
            )));
        }
        let members = row
            .get_ref(4)
            .and_then(|value| Ok(value.as_blob_or_null()?))
            .map_err(sqlite)?;
        let moved = match members {
            None => Vec::new(),
            Some(members) => moved::decode(members, deltas.len())
                .ok_or_else(|| broken("what it did under the rules is damaged".to_owned()))?,
        };
        Ok(StoredPush {
            arrived_ms: u64::try_from(arrived_ms).unwrap_or(0),
            deltas,
            moved,
        })
    }

    /// The first and last seq that are stored; zeros when nothing is.
    pub(crate) fn span(&self) -> Result<(Seq, Seq)> {
        let ends = "select ifnull(min(first_seq), 0), ifnull(max(last_seq), 0) from pushes";
        let (first, last): (i64, i64) = self
            .connection
            .query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|error| broken(&self.path, &error))?;
        let seq = |number| {
            Seq::from_i64(number).map_err(|error| Error::Database {
                path: self.path.clone(),
                reason: damaged(&error.to_string()),
            })
        };
        Ok((seq(first)?, seq(last)?))
    }

    /// The greatest stamp that each client has sent.
    pub(crate) fn newest_by_client(&self) -> Result<HashMap<ClientId, Hlc>> {
        let sqlite = |error| broken(&self.path, &error);
        let mut statement = self
            .connection
            .prepare("select client_id, newest_hlc from clients")
            .map_err(sqlite)?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })
            .map_err(sqlite)?;
        let mut newest = HashMap::new();
        for row in rows {
            let (client, hlc) = row.map_err(sqlite)?;
            if let (Ok(client), Ok(hlc)) = (ClientId::parse(&client), Hlc::from_i64(hlc)) {
                newest.insert(client, hlc);
            }
        }
        Ok(newest)
    }

    /// The error of a file that holds something it should not.
    pub(crate) fn damage(&self, what: &str) -> Error {
        refused(&self.path, &damaged(what))
    }

    /// Lets the file go; what is read afterwards finds nothing.
    pub(crate) fn release(&mut self) {
        if let Ok(nothing) = Connection::open_in_memory() {
            self.connection = nothing;
        }
    }

    /// The value of a key of `meta`.
    pub(crate) fn meta(&self, key: &str) -> Result<Option<String>> {
        self.connection
            .query_row(
                "select value from meta where key = ?1",
                params![key],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| broken(&self.path, &error))
    }

    /// Sets a key of `meta`, durably.
    pub(crate) fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        self.connection
            .execute(
                "insert or replace into meta values (?1, ?2)",
                params![key, value],
            )
            .map(|_| ())
            .map_err(|error| broken(&self.path, &error))
    }
}

/// Makes an empty database under another name and moves it into place whole, so that a crash never leaves
/// a file that looks truncated.
fn create(path: &Path) -> Result<()> {
    let at = |error: std::io::Error| Error::Database {
        path: path.to_owned(),
        reason: format!("cannot be made: {error}"),
    };
    let draft = path.with_extension("db.new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let sqlite = |error| broken(path, &error);
    let db = Connection::open(&draft).map_err(sqlite)?;
    db.pragma_update(None, "synchronous", "full")
        .map_err(sqlite)?;
    // Before the first table: a file that cannot shrink would keep the size of its busiest week.
    db.pragma_update(None, "auto_vacuum", "incremental")
        .map_err(sqlite)?;
    db.execute_batch(&format!(
        "begin immediate; {TABLES} {RULE_ROWS} pragma user_version = {FORMAT}; commit;"
    ))
    .map_err(sqlite)?;
    db.close().map_err(|(_, error)| broken(path, &error))?;
    fs::rename(&draft, path).map_err(at)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at)
}

/// Why a group of pushes was not stored.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing of it was.
    RolledBack(rusqlite::Error),
    /// It may have been: what is on disk is unknown until the log is opened again.
    Unknown(rusqlite::Error),
}

fn refused(path: &Path, reason: &str) -> Error {
    Error::Database {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// A WAL without its database holds acknowledged pushes; a new database would replay or delete it.
fn refuse_orphaned_wal(path: &Path) -> Result<()> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    match Path::new(&wal).exists() {
        false => Ok(()),
        true => Err(refused(
            path,
            "the file is missing, but its -wal file is there and may hold acknowledged pushes: put the file back \
             beside it; or, if it is lost for good, move the -wal and -shm files away too",
        )),
    }
}

fn damaged(what: &str) -> String {
    format!(
        "the gateway database is damaged ({what}). Stop the server, keep a copy of the file, and restore the \
         last good one; what was flushed is in the lake, and clients send again what was not"
    )
}

pub(crate) fn broken(path: &Path, error: &rusqlite::Error) -> Error {
    let reason = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            damaged(&error.to_string())
        }
        Some(rusqlite::ErrorCode::DiskFull) => {
            format!("the disk is full ({error}); free some space, then send again")
        }
        _ => format!("{error}; check that the directory exists and may be written"),
    };
    Error::Database {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakesync_proto::{DeltaKey, Op, RowDelta, TableSchema};

    struct NoTable;

    impl Schemas for NoTable {
        fn schema(&self, _: &lakesync_proto::TableName) -> Option<Arc<TableSchema>> {
            None
        }
    }

    fn seq(number: u64) -> Seq {
        Seq::from_u64(number).unwrap()
    }

    /// Pushes of these seqs; what they hold cannot be read, so that a read tells where it begins.
    fn log(folder: &Path, spans: &[(u64, u64)]) -> DurableLog {
        let mut log = DurableLog::open(&folder.join("g.db")).unwrap();
        for (first, last) in spans {
            let deltas = (*first..=*last).map(|number| {
                let key = DeltaKey {
                    table: "t".parse().unwrap(),
                    row_id: "r".parse().unwrap(),
                    client_id: "ana".parse().unwrap(),
                    hlc: Hlc::new(number, 0).unwrap(),
                };
                let delta = RowDelta::new(Op::Delete, key, Vec::new());
                SeqDelta {
                    seq: seq(number),
                    delta,
                }
            });
            let push = StoredPush {
                arrived_ms: 0,
                deltas: deltas.collect(),
                moved: Vec::new(),
            };
            log.append(&[push], &HashMap::new(), &[]).unwrap();
        }
        log
    }

    #[test]
    fn a_read_searches_its_first_push_and_does_not_scan_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), &[]);
        let explain = format!("explain query plan {READ}");
        let mut statement = log.connection.prepare(&explain).unwrap();
        let steps = statement.query_map([7], |row| row.get::<_, String>(3));
        let steps: Vec<String> = steps.unwrap().map(|step| step.unwrap()).collect();
        assert!(
            steps.iter().all(|step| !step.starts_with("SCAN pushes")),
            "{steps:?}"
        );
        assert!(
            steps.iter().any(|step| step.starts_with("SEARCH pushes")),
            "{steps:?}"
        );
    }

    #[test]
    fn a_read_begins_at_the_first_push_above_its_seq_whole_pushes_and_gaps_alike() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), &[(1, 3), (4, 4), (5, 9), (20, 21)]);
        for (since, first) in [
            (0, Some(1)),
            (1, Some(1)),
            (3, Some(4)),
            (4, Some(5)),
            (8, Some(5)),
            (9, Some(20)),
            (15, Some(20)),
            (19, Some(20)),
            (20, Some(20)),
            (21, None),
            (99, None),
        ] {
            let read = log.read(seq(since), 1, &NoTable);
            let expected = first.map(|first| format!("the push at seq {first} is of a table"));
            match (read, expected) {
                (Ok(pushes), None) => assert!(pushes.is_empty(), "since {since}"),
                (Err(error), Some(text)) => {
                    assert!(error.to_string().contains(&text), "since {since}: {error}");
                }
                (read, _) => panic!("since {since}: {read:?}"),
            }
        }
    }
}
