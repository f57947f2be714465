//! What it costs that every edit by any SQL is captured. Captured and plain runs take turns, and the ratio is the median of
//! each pair's, so a machine that gets slower for a while makes both slower.

use std::path::Path;
use std::time::Duration;

use lakesync_benches::{Figure, Figures, RUNS, cpu_time, rate};
use lakesync_client::{ClientError, LocalDb};
use rusqlite::Connection;

use super::rows::{INSERT, id, parameters};
use super::{figure, median, middle, open, plain, timed};

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
            figures.0.push(beside(edit, what, (rows, batch)));
        }
    }
    sealing(figures);
}

/// What was spent in one run.
#[derive(Clone, Copy)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

/// Captured and plain runs in turns.
fn beside(edit: Edit, what: &str, (rows, batch): (usize, usize)) -> Figure {
    let mut ratios: Vec<(f64, f64)> = Vec::new();
    let (mut captured, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let one = untracked(edit, (rows, batch));
        let other = tracked(edit, (rows, batch));
        let ratio = |of: fn(&Spent) -> Duration| of(&other).as_secs_f64() / of(&one).as_secs_f64();
        ratios.push((ratio(|spent| spent.wall), ratio(|spent| spent.cpu)));
        captured.push(other.wall);
        plain.push(one.wall);
    }
    let middle_of = |of: fn(&(f64, f64)) -> f64| {
        let mut ratios: Vec<f64> = ratios.iter().map(of).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[RUNS / 2]
    };
    Figure {
        what: format!("client: captured {what}, {batch} row(s) a transaction"),
        figure: format!("{:.0} rows/s", rate(rows, middle(captured))),
        limit: format!("plain SQLite: {:.0} rows/s", rate(rows, middle(plain))),
        ratio: format!(
            "{:.2}x the time, {:.2}x the CPU",
            middle_of(|ratio| ratio.0),
            middle_of(|ratio| ratio.1)
        ),
        target: "<= 2x",
    }
}

/// What a run spends.
fn spent(run: impl FnOnce()) -> Spent {
    let before = cpu_time();
    let wall = timed(run);
    let cpu = cpu_time().saturating_sub(before);
    Spent { wall, cpu }
}

fn tracked(edit: Edit, (rows, batch): (usize, usize)) -> Spent {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("client.db"));
    if edit != Edit::Insert {
        fill(&db, rows);
    }
    spent(|| {
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

fn untracked(edit: Edit, (rows, batch): (usize, usize)) -> Spent {
    let folder = tempfile::tempdir().expect("a folder");
    let mut db = filled(&folder.path().join("plain.db"), edit, rows);
    spent(|| {
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
    let limit = median(|| untracked(Edit::Insert, (CAPTURED, BATCH)).wall);
    figures.0.push(figure(
        "client: sealing of 100,000 captured inserts".to_owned(),
        CAPTURED,
        (took, limit),
        ">= 100,000 rows/s",
    ));
}
