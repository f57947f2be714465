//! How fast a client takes what others wrote.

use std::path::Path;
use std::time::Duration;

use lakesync_benches::Figures;
use lakesync_client::{ClientError, FirstSync, LocalDb, Reply, Session, SessionOptions, Step};
use lakesync_proto::{decode_page_protobuf, encode_page_protobuf};

use super::rows::{INSERT, delta, page, parameters, schema};
use super::{figure, median, open, plain, timed};

const ROWS: usize = 200_000;
const PAGE: usize = 5_000;

pub(super) fn measure(figures: &mut Figures) {
    let pages: Vec<Vec<u8>> = (PAGE..=ROWS)
        .step_by(PAGE)
        .map(|end| {
            let deltas = (end - PAGE..end).map(delta).collect();
            encode_page_protobuf(&page(deltas, end, end < ROWS))
        })
        .collect();
    let mut decoding = Vec::new();
    let took = median(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let db = open(&folder.path().join("client.db"));
        let (mut decoded, mut took) = (Duration::ZERO, Duration::ZERO);
        took += timed(|| decoded = apply(&db, &pages));
        decoding.push(decoded);
        took
    });
    decoding.sort_unstable();
    let decoding = decoding[decoding.len() / 2];
    let limit = median(|| {
        let folder = tempfile::tempdir().expect("a folder");
        insert(&folder.path().join("plain.db"), (ROWS, PAGE))
    });
    let what = "client: pages of 5,000 new rows";
    for (what, took, target) in [
        (format!("{what}, from protobuf to SQLite"), took, "-"),
        (
            format!("{what}, decoded already"),
            took.saturating_sub(decoding),
            ">= 100,000 rows/s",
        ),
        (format!("{what}, decoding alone"), decoding, "-"),
    ] {
        figures.0.push(figure(what, ROWS, (took, limit), target));
    }
}

/// Has a session read the pages; how long the decoding took.
fn apply(db: &LocalDb, pages: &[Vec<u8>]) -> Duration {
    let options = SessionOptions::once().with_first_sync(FirstSync::Log);
    let mut session = Session::new(db.clone(), options);
    let mut pages = pages.iter();
    let mut decoding = Duration::ZERO;
    loop {
        let reply = match session.next().expect("a step") {
            Step::Schemas => Reply::Schemas(Ok(vec![schema()])),
            Step::Pull(pull) => {
                let mut read = None;
                decoding += timed(|| {
                    let page = pages.next().expect("the last one said so");
                    read = decode_page_protobuf(page, pull.schemas.as_ref()).ok();
                });
                Reply::Pulled(Ok(read.expect("a page")))
            }
            Step::Wait { .. } | Step::Stopped => break,
            other => panic!("a session that only pulls asks for {other:?}"),
        };
        session.on_reply(reply).expect("applied");
    }
    assert_eq!((pages.len(), rows(db)), (0, ROWS));
    decoding
}

/// How many rows there are.
pub(super) fn rows(db: &LocalDb) -> usize {
    let counted = db.with_connection(|connection| {
        let sql = "SELECT count(*) FROM items";
        let count = connection.query_row(sql, [], |row| row.get::<_, i64>(0))?;
        Ok::<_, ClientError>(count)
    });
    usize::try_from(counted.expect("counted")).expect("not below 0")
}

/// The same rows straight into SQLite, as many to a transaction.
pub(super) fn insert(path: &Path, (rows, batch): (usize, usize)) -> Duration {
    let mut db = plain::open(path);
    timed(|| {
        for first in (0..rows).step_by(batch) {
            let tx = db.transaction().expect("a transaction");
            let mut statement = tx.prepare_cached(INSERT).expect("a statement");
            for n in first..first + batch {
                statement.execute(parameters(n)).expect("inserted");
            }
            drop(statement);
            tx.commit().expect("committed");
        }
    })
}
