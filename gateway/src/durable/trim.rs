//! What the durable log lets go of, in steps that are short enough to stand between two commits of pushes.
//!
//! **Invariant:** of `pushes` only a prefix goes, and never one that is not flushed or that ordinary pulls still read. A
//! client's mark goes only together with a note of the greatest mark that went: whoever is not known any more may have
//! sent everything up to that. A crash between steps leaves what the steps before it left.

use std::path::Path;

use lakesync_proto::{Hlc, Seq};
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::{DurableLog, broken};
use crate::error::{Error, Result};

/// Pushes that one step forgets at most.
const PUSHES_PER_STEP: u32 = 256;

/// Bytes of pushes that one step forgets at most (4 MiB), beyond its first: SQLite looks at each of their thousand pages.
const BYTES_PER_STEP: u64 = 4 << 20;

/// Clients that one step looks at.
const CLIENTS_PER_STEP: u32 = 5_000;

/// Pages that one step gives back to the file system (256, of 4 KiB): each is moved from the end of the file to a gap.
const PAGES_PER_STEP: u64 = 256;

/// A file is made smaller when so much of it (16 MiB) and more than a quarter is unused: the next pushes fill what is left.
const UNUSED_BYTES_MIN: u64 = 16 << 20;

/// The WAL file's size after a checkpoint, at most (64 MiB).
pub(super) const WAL_BYTES_MAX: u64 = 64 << 20;

/// A file of an older version is brought to a form that can shrink when what is in use has no more than this (256 MiB): it
/// is written anew once, and nobody can push meanwhile.
const CONVERTED_BYTES_MAX: u64 = 256 << 20;

/// `auto_vacuum` of a file that shrinks when it is told to.
const INCREMENTAL: u64 = 2;

/// The key in `meta` of the greatest mark of a client that was forgotten.
pub(crate) const FORGOTTEN_CLIENTS: &str = "forgotten_clients";

/// The pushes at the old end.
const OLDEST: &str =
    "select first_seq, last_seq, arrived_ms, length(deltas) + ifnull(length(members), 0)
    from pushes order by first_seq limit ?1";

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trimmed {
    /// Pushes, clients or pages that went.
    pub(crate) gone: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// Where the next step goes on; none when there is nothing left to do.
    pub(crate) next: Option<String>,
}

/// How large the file is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSize {
    pub(crate) bytes: u64,
    pub(crate) unused: u64,
}

impl FileSize {
    /// Whether it is worth making it smaller.
    fn is_wasteful(self) -> bool {
        self.unused >= UNUSED_BYTES_MIN && self.unused.saturating_mul(4) > self.bytes
    }
}

impl DurableLog {
    /// Forgets some of the oldest pushes up to `flushed` that arrived before `before_ms`.
    pub(crate) fn trim_pushes(&mut self, flushed: Seq, before_ms: u64) -> Result<Trimmed> {
        let path = self.path.clone();
        self.try_trim_pushes(flushed, before_ms)
            .map_err(|error| broken(&path, &error))
    }

    fn try_trim_pushes(&mut self, flushed: Seq, before_ms: u64) -> rusqlite::Result<Trimmed> {
        let before_ms = i64::try_from(before_ms).unwrap_or(i64::MAX);
        let mut trimmed = Trimmed::default();
        let mut below = None;
        let mut ended = true;
        {
            let mut oldest = self.connection.prepare_cached(OLDEST)?;
            let mut rows = oldest.query([PUSHES_PER_STEP + 1])?;
            while let Some(row) = rows.next()? {
                let (first, last, arrived_ms): (i64, i64, i64) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let bytes: i64 = row.get(3)?;
                if last > flushed.as_i64() || arrived_ms >= before_ms {
                    below.get_or_insert(first);
                    break;
                }
                let full = trimmed.gone > 0 && trimmed.bytes >= BYTES_PER_STEP;
                if full || trimmed.gone == u64::from(PUSHES_PER_STEP) {
                    below.get_or_insert(first);
                    ended = false;
                    break;
                }
                trimmed.gone += 1;
                trimmed.bytes += u64::try_from(bytes).unwrap_or(0);
            }
        }
        if trimmed.gone > 0 {
            let delete = "delete from pushes where first_seq < ?1";
            self.connection
                .execute(delete, [below.unwrap_or(i64::MAX)])?;
        }
        trimmed.next = (!ended).then(String::new);
        Ok(trimmed)
    }

    /// Forgets those of the clients after `after`, some of them, whose newest stamp is below `below`, and notes the greatest
    /// mark that went.
    pub(crate) fn forget_clients(&mut self, after: &str, below: Hlc) -> Result<Trimmed> {
        let path = self.path.clone();
        self.try_forget_clients(after, below)
            .map_err(|error| broken(&path, &error))
    }

    fn try_forget_clients(&mut self, after: &str, below: Hlc) -> rusqlite::Result<Trimmed> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = "select max(client_id) from
            (select client_id from clients where client_id > ?1 order by client_id limit ?2)";
        let last: Option<String> =
            tx.query_row(last, params![after, CLIENTS_PER_STEP], |row| row.get(0))?;
        let Some(last) = last else {
            return Ok(Trimmed::default());
        };
        let range = params![after, last, below.as_i64()];
        let greatest = "select max(newest_hlc) from clients
            where client_id > ?1 and client_id <= ?2 and newest_hlc < ?3";
        let greatest: Option<i64> = tx.query_row(greatest, range, |row| row.get(0))?;
        let mut gone = 0;
        if let Some(greatest) = greatest.and_then(|mark| Hlc::from_i64(mark).ok()) {
            let noted = "select value from meta where key = ?1";
            let noted: Option<String> = tx
                .query_row(noted, [FORGOTTEN_CLIENTS], |row| row.get(0))
                .optional()?;
            let noted = noted.and_then(|text| text.parse().ok());
            let mark = noted.unwrap_or(Hlc::ZERO).max(greatest);
            tx.execute(
                "insert or replace into meta values (?1, ?2)",
                params![FORGOTTEN_CLIENTS, mark.to_string()],
            )?;
            let delete =
                "delete from clients where client_id > ?1 and client_id <= ?2 and newest_hlc < ?3";
            gone = tx.execute(delete, range)?;
        }
        tx.commit()?;
        Ok(Trimmed {
            gone: u64::try_from(gone).unwrap_or(u64::MAX),
            bytes: 0,
            next: Some(last),
        })
    }

    /// The greatest mark of a client that was forgotten.
    pub(crate) fn forgotten_clients(&self) -> Result<Hlc> {
        let Some(text) = self.meta(FORGOTTEN_CLIENTS)? else {
            return Ok(Hlc::ZERO);
        };
        text.parse().map_err(|_| Error::Database {
            path: self.path.clone(),
            reason: format!(
                "the stored mark of forgotten clients `{text}` is not a stamp; restore the file from a copy"
            ),
        })
    }

    /// Gives some unused pages back to the file system, when there are enough of them.
    pub(crate) fn shrink(&mut self) -> Result<Trimmed> {
        let size = self.size()?;
        if !size.is_wasteful() || !self.can_shrink()? {
            return Ok(Trimmed::default());
        }
        let path = self.path.clone();
        self.try_shrink().map_err(|error| broken(&path, &error))?;
        let left = self.size()?;
        let bytes = size.bytes.saturating_sub(left.bytes);
        Ok(Trimmed {
            gone: bytes,
            bytes,
            next: (bytes > 0 && left.is_wasteful()).then(String::new),
        })
    }

    fn try_shrink(&self) -> rusqlite::Result<()> {
        let pages = format!("pragma incremental_vacuum({PAGES_PER_STEP})");
        let mut vacuum = self.connection.prepare(&pages)?;
        let mut steps = vacuum.query([])?;
        // Each row is a page that moved.
        while steps.next()?.is_some() {}
        Ok(())
    }

    /// Brings the WAL into the file, as far as readers let it, so that the file ends where its pages do.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.connection
            .query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()))
            .map_err(|error| broken(&self.path, &error))
    }

    /// How large the file is, the WAL not counted.
    pub(crate) fn size(&self) -> Result<FileSize> {
        let [page, pages, unused] =
            ["page_size", "page_count", "freelist_count"].map(|pragma| self.number(pragma));
        let page = page?;
        Ok(FileSize {
            bytes: pages?.saturating_mul(page),
            unused: unused?.saturating_mul(page),
        })
    }

    fn can_shrink(&self) -> Result<bool> {
        Ok(self.number("auto_vacuum")? == INCREMENTAL)
    }

    fn number(&self, pragma: &str) -> Result<u64> {
        let number: rusqlite::Result<i64> =
            self.connection
                .pragma_query_value(None, pragma, |row| row.get(0));
        let number = number.map_err(|error| broken(&self.path, &error))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    /// Writes a file of an older version anew, once, as one that can shrink; a large one stays as it is.
    pub(super) fn make_shrinkable(&self) -> Result<()> {
        let size = self.size()?;
        if self.can_shrink()? || size.bytes - size.unused > CONVERTED_BYTES_MAX {
            return Ok(());
        }
        let convert = "pragma auto_vacuum = incremental; vacuum;";
        let converted = self.connection.execute_batch(convert);
        converted.map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => full(&self.path),
            _ => broken(&self.path, &error),
        })
    }
}

fn full(path: &Path) -> Error {
    Error::Database {
        path: path.to_owned(),
        reason: "the disk is too full to write it anew; free as much space as the file has, then start again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use lakesync_proto::{ClientId, DeltaKey, Op, RowDelta, SeqDelta};
    use rusqlite::Connection;

    use super::*;
    use crate::durable::StoredPush;

    fn seq(number: u64) -> Seq {
        Seq::from_u64(number).unwrap()
    }

    /// A push of one delta that arrived at its seq in milliseconds, with a row id of so many bytes.
    fn stored(number: u64, bytes: usize) -> StoredPush {
        let key = DeltaKey {
            table: "t".parse().unwrap(),
            row_id: "r".repeat(bytes).parse().unwrap(),
            client_id: "ana".parse().unwrap(),
            hlc: Hlc::new(number, 0).unwrap(),
        };
        StoredPush {
            arrived_ms: number,
            deltas: vec![SeqDelta {
                seq: seq(number),
                delta: RowDelta::new(Op::Delete, key, Vec::new()),
            }],
            moved: Vec::new(),
        }
    }

    fn log(folder: &Path, pushes: u64, bytes: usize) -> DurableLog {
        let mut log = DurableLog::open(&folder.join("g.db")).unwrap();
        let pushes: Vec<StoredPush> = (1..=pushes).map(|number| stored(number, bytes)).collect();
        log.append(&pushes, &HashMap::new(), &[]).unwrap();
        log
    }

    #[test]
    fn pushes_go_in_steps_up_to_the_first_that_has_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(folder.path(), 600, 1);
        let nothing = log.trim_pushes(seq(600), 1).unwrap();
        assert_eq!((nothing.gone, nothing.next), (0, None));
        let mut steps = Vec::new();
        loop {
            // All flushed; the last hundred arrived too lately.
            let step = log.trim_pushes(seq(600), 501).unwrap();
            steps.push(step.gone);
            if step.next.is_none() {
                break;
            }
        }
        assert_eq!(steps, [256, 244]);
        assert_eq!(log.span().unwrap(), (seq(501), seq(600)));
        log.trim_pushes(seq(550), u64::MAX).unwrap();
        assert_eq!(
            log.span().unwrap(),
            (seq(551), seq(600)),
            "the rest is not flushed"
        );
        let all = log.trim_pushes(seq(600), u64::MAX).unwrap();
        assert_eq!((all.gone, all.next), (50, None));
        assert_eq!(log.span().unwrap(), (Seq::ZERO, Seq::ZERO));
    }

    #[test]
    fn a_step_ends_by_bytes_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(folder.path(), 100, 500);
        let blob = vec![0_u8; 1 << 20];
        log.connection
            .execute("update pushes set members = ?1", [blob])
            .unwrap();
        let step = log.trim_pushes(seq(100), u64::MAX).unwrap();
        assert_eq!((step.gone, step.next.is_some()), (4, true));
    }

    #[test]
    fn old_clients_are_forgotten_and_the_greatest_of_their_marks_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = DurableLog::open(&folder.path().join("g.db")).unwrap();
        let marks = (0..12_000_u64).map(|n| {
            let client = ClientId::parse(&format!("c{n:05}")).unwrap();
            (client, Hlc::new(n + 1, 0).unwrap())
        });
        log.append(&[], &marks.collect(), &[]).unwrap();
        let below = Hlc::new(7_001, 0).unwrap();
        let (mut after, mut gone) = (String::new(), Vec::new());
        loop {
            let step = log.forget_clients(&after, below).unwrap();
            let Some(next) = step.next else { break };
            gone.push(step.gone);
            after = next;
        }
        assert_eq!(gone, [5_000, 2_000, 0]);
        assert_eq!(log.newest_by_client().unwrap().len(), 5_000);
        let mark = Hlc::new(7_000, 0).unwrap();
        assert_eq!(log.forgotten_clients().unwrap(), mark);
        // It only ever grows.
        let old = (ClientId::parse("old").unwrap(), Hlc::new(5, 0).unwrap());
        log.append(&[], &[old].into(), &[]).unwrap();
        log.forget_clients("", below).unwrap();
        log.forget_clients("c11999", below).unwrap();
        assert_eq!(log.forgotten_clients().unwrap(), mark);
    }

    #[test]
    fn the_file_shrinks_after_what_it_held_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(folder.path(), 200, 500);
        let blob = vec![7_u8; 512 << 10];
        log.connection
            .execute("update pushes set members = ?1", [blob])
            .unwrap();
        assert_eq!(log.shrink().unwrap().gone, 0, "nothing is unused");
        while log.trim_pushes(seq(190), u64::MAX).unwrap().next.is_some() {}
        let before = log.size().unwrap();
        assert!(before.unused > 90 << 20, "{before:?}");
        let mut steps = 0;
        while log.shrink().unwrap().next.is_some() {
            steps += 1;
        }
        let after = log.size().unwrap();
        assert!(
            !after.is_wasteful() && steps > 40,
            "{after:?} after {steps}"
        );
        log.checkpoint().unwrap();
        let on_disk = fs::metadata(folder.path().join("g.db")).unwrap().len();
        assert_eq!(on_disk, after.bytes);
        assert_eq!(log.span().unwrap(), (seq(191), seq(200)));
    }

    #[test]
    fn a_file_of_an_older_version_can_shrink_once_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.db");
        drop(log(folder.path(), 10, 1));
        let old = Connection::open(&path).unwrap();
        old.execute_batch("pragma auto_vacuum = none; vacuum;")
            .unwrap();
        let mode: i64 = old
            .pragma_query_value(None, "auto_vacuum", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, 0);
        drop(old);
        let log = DurableLog::open(&path).unwrap();
        assert!(log.can_shrink().unwrap());
        assert_eq!(log.span().unwrap(), (seq(1), seq(10)));
    }
}
