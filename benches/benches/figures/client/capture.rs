//! What it costs that every edit by any SQL is captured.

use std::path::Path;
use std::time::Duration;

use lakesync_benches::Figures;
use lakesync_client::{ClientError, LocalDb};
use rusqlite::Connection;

use super::rows::{INSERT, id, parameters};
use super::{figure, median, open, plain, timed};

/// Rows of a bulk run and of one of its transactions, and rows of a run that commits each row.
const BULK: usize = 50_000;
const BATCH: usize = 1_000;
const SINGLE: usize = 1_000;

const UPDATE: &str = "UPDATE items SET title = 'Buy milk' WHERE id = ?1";
const DELETE: &str = "DELETE FROM items WHERE id = ?1";

/// What is done to each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Insert,
    Update,
    Delete,
}

pub(super) fn measure(figures: &mut Figures) {
    for (edit, what) in [
        (Edit::Insert, "insert"),
        (Edit::Update, "update of one column"),
        (Edit::Delete, "delete"),
    ] {
        for (rows, batch) in [(BULK, BATCH), (SINGLE, 1)] {
            let tracked = median(|| tracked(edit, (rows, batch)));
            let plain = median(|| untracked(edit, (rows, batch)));
            figures.0.push(figure(
                format!("client: captured {what}, {batch} row(s) a transaction"),
                rows,
                (tracked, plain),
                "<= 2x",
            ));
        }
    }
    sealing(figures);
}

fn tracked(edit: Edit, (rows, batch): (usize, usize)) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("client.db"));
    if edit != Edit::Insert {
        fill(&db, rows);
    }
    timed(|| {
        for first in (0..rows).step_by(batch) {
            db.transaction(|tx| {
                for n in first..first + batch {
                    match edit {
                        Edit::Insert => tx.execute(INSERT, parameters(n))?,
                        Edit::Update => tx.execute(UPDATE, [id(n)])?,
                        Edit::Delete => tx.execute(DELETE, [id(n)])?,
                    };
                }
                Ok::<_, ClientError>(())
            })
            .expect("committed");
        }
    })
}

/// Rows that are there, with nothing captured that waits.
pub(super) fn fill(db: &LocalDb, rows: usize) {
    db.transaction(|tx| {
        for n in 0..rows {
            tx.execute(INSERT, parameters(n))?;
        }
        Ok::<_, ClientError>(())
    })
    .expect("committed");
    assert_eq!(db.outbox(1).expect("sealed").len(), 1);
}

fn untracked(edit: Edit, (rows, batch): (usize, usize)) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let mut db = filled(&folder.path().join("plain.db"), edit, rows);
    timed(|| {
        for first in (0..rows).step_by(batch) {
            let tx = db.transaction().expect("a transaction");
            for n in first..first + batch {
                write(&tx, edit, n);
            }
            tx.commit().expect("committed");
        }
    })
}

fn filled(path: &Path, edit: Edit, rows: usize) -> Connection {
    let mut db = plain::open(path);
    if edit != Edit::Insert {
        let tx = db.transaction().expect("a transaction");
        (0..rows).for_each(|n| write(&tx, Edit::Insert, n));
        tx.commit().expect("committed");
    }
    db
}

fn write(db: &Connection, edit: Edit, n: usize) {
    let (sql, row) = match edit {
        Edit::Insert => (INSERT, parameters(n).to_vec()),
        Edit::Update => (UPDATE, parameters(n)[..1].to_vec()),
        Edit::Delete => (DELETE, parameters(n)[..1].to_vec()),
    };
    let mut statement = db.prepare_cached(sql).expect("a statement");
    let written = statement.execute(rusqlite::params_from_iter(row));
    assert_eq!(written.expect("written"), 1);
}

/// From captured changes to deltas in the outbox; it happens before the next push.
fn sealing(figures: &mut Figures) {
    const CAPTURED: usize = 100_000;
    let took = median(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let db = open(&folder.path().join("client.db"));
        db.transaction(|tx| {
            for n in 0..CAPTURED {
                tx.execute(INSERT, parameters(n))?;
            }
            Ok::<_, ClientError>(())
        })
        .expect("committed");
        timed(|| assert_eq!(db.outbox(1).expect("sealed").len(), 1))
    });
    let limit = median(|| untracked(Edit::Insert, (CAPTURED, BATCH)));
    figures.0.push(figure(
        "client: sealing of 100,000 captured inserts".to_owned(),
        CAPTURED,
        (took, limit),
        ">= 100,000 rows/s",
    ));
}
