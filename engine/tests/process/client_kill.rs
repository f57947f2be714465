//! `kill -9` of a client in the middle of writes, pushes and applied pages, sixty times in a row; now and then the
//! server is killed as well.
//!
//! The client is this test's own binary, started again with [`CHILD`] set. Invariant: after every kill the file is sound
//! and holds every write that was reported, the one that was under way whole or not at all; at the end the gateway has
//! each write once, in its order, and everybody has the same rows.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use lakesync_client::{
    ClientError, HttpTransport, LocalDb, OutboxCounts, SessionOptions, SqlValue, SyncHandle,
    SystemClock,
};
use lakesync_proto::{ClientId, GatewayId, TableDefinition, TableSchema};
use serde_json::Value as Json;

use crate::server::{Server, TABLE, answer, delta, push_body};

const KILLS: u64 = 60;
/// Tells the child its file and its gateway.
const CHILD: &str = "LAKESYNC_KILLED_CLIENT";
const CLIENT: &str = "killed";
/// Long ago, so that no machine's clock refuses the stamps of the other client as too far ahead.
const START_MS: u64 = 1_700_000_000_000;
/// What a kill waits for beyond the last line that it counted, at most: a push, a page and some commits.
const DELAY_MS: u64 = 40;
/// Syncs until nothing waits any more.
const SYNCS_MAX: usize = 20;

/// One delta as the gateway must have it: op, row, columns.
type Expected = (String, String, BTreeMap<String, Json>);

/// The statements of write number `n`, each in the same transaction as its number.
fn statements(n: i64) -> Vec<(&'static str, Vec<SqlValue>)> {
    let row = |n: i64| SqlValue::from(format!("own {n}"));
    let insert = "INSERT INTO t (row_id, batch, note) VALUES (?1, ?2, ?3)";
    let write = match n % 5 {
        1 => (
            "UPDATE t SET batch = ?2 WHERE row_id = ?1",
            vec![row(n - 1), n.into()],
        ),
        2 => (
            "UPDATE t SET note = ?3 WHERE row_id IN (?1, ?2)",
            vec![row(n - 2), row(n - 7), format!("note {n}").into()],
        ),
        4 => ("DELETE FROM t WHERE row_id = ?1", vec![row(n - 1)]),
        _ => (insert, vec![row(n), n.into(), format!("note {n}").into()]),
    };
    vec![("UPDATE progress SET n = ?1", vec![n.into()]), write]
}

/// The rows after the writes up to `last`, and the deltas that they make.
fn model(last: i64) -> (BTreeMap<String, (i64, String)>, Vec<Expected>) {
    let mut rows: BTreeMap<String, (i64, String)> = BTreeMap::new();
    let mut deltas = Vec::new();
    let mut tell = |op: &str, row: &str, columns: &[(&str, Json)]| {
        let columns = columns
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        deltas.push((op.to_owned(), row.to_owned(), columns.collect()));
    };
    for n in 1..=last {
        let row = |n: i64| format!("own {n}");
        let note = format!("note {n}");
        match n % 5 {
            1 if n > 1 => {
                rows.get_mut(&row(n - 1)).unwrap().0 = n;
                tell("UPDATE", &row(n - 1), &[("batch", n.into())]);
            }
            1 => {}
            2 => {
                for row in [row(n - 2), row(n - 7)] {
                    if let Some(held) = rows.get_mut(&row) {
                        held.1.clone_from(&note);
                        tell("UPDATE", &row, &[("note", note.as_str().into())]);
                    }
                }
            }
            4 => {
                rows.remove(&row(n - 1)).unwrap();
                tell("DELETE", &row(n - 1), &[]);
            }
            _ => {
                tell(
                    "INSERT",
                    &row(n),
                    &[("batch", n.into()), ("note", note.as_str().into())],
                );
                rows.insert(row(n), (n, note));
            }
        }
    }
    (rows, deltas)
}

fn open(path: &Path, client: &str) -> LocalDb {
    let id = ClientId::parse(client).unwrap();
    let db = LocalDb::open(path, id, Arc::new(SystemClock)).unwrap();
    let definition = TableDefinition::from_json(TABLE.as_bytes()).unwrap();
    let schema = TableSchema::from_definition(&definition).unwrap();
    db.register(&schema).unwrap();
    db.migrate(&["CREATE TABLE progress (n INTEGER NOT NULL); INSERT INTO progress VALUES (0);"])
        .unwrap();
    db
}

fn transport(url: &str) -> HttpTransport {
    HttpTransport::new(url, GatewayId::parse("public").unwrap()).unwrap()
}

fn progress(db: &LocalDb) -> i64 {
    match db.query("SELECT n FROM progress", []).unwrap().rows[0][0] {
        SqlValue::Integer(n) => n,
        ref other => panic!("a number {other:?}"),
    }
}

/// The child: writes and syncs until it is killed. Without [`CHILD`] it is a test that has nothing to do.
#[test]
fn child_that_writes_and_syncs() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (path, url) = told.split_once('|').unwrap();
    let db = open(Path::new(path), CLIENT);
    let _syncing = SyncHandle::start(db.clone(), transport(url), SessionOptions::default());
    let mut n = progress(&db);
    loop {
        n += 1;
        let written = db.transaction(|tx| {
            for (sql, params) in statements(n) {
                tx.execute(sql, lakesync_client::rusqlite::params_from_iter(params))?;
            }
            Ok::<(), ClientError>(())
        });
        written.unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "\nwrote {n}").unwrap();
        out.flush().unwrap();
    }
}

/// A child that runs, and the writes that it reports.
struct Writer {
    child: Child,
    reported: mpsc::Receiver<i64>,
}

impl Writer {
    fn start(path: &Path, url: &str) -> Writer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "client_kill::child_that_writes_and_syncs",
                "--nocapture",
            ])
            .env(CHILD, format!("{}|{url}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (report, reported) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(n) = line.strip_prefix("wrote ") {
                    drop(report.send(n.parse().unwrap()));
                }
            }
        });
        Writer { child, reported }
    }

    /// Kills it after `writes` more writes and `delay`; gives the last one that was reported.
    fn kill_after(mut self, writes: u64, delay: Duration) -> i64 {
        let mut last = 0;
        for _ in 0..=writes {
            last = self.reported.recv().expect("it writes until it is killed");
        }
        let (nobody, never) = mpsc::channel::<()>();
        // Nobody sends: the wait is the moment of the kill.
        let _waited = never.recv_timeout(delay);
        drop(nobody);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reported.iter().last().unwrap_or(last)
    }
}

#[test]
fn sixty_kills_of_a_client_lose_no_reported_write_and_send_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (path, dir) = (folder.path().join("killed.db"), folder.path().join("data"));
    let mut server = Server::start(&dir);
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    let pushed = Arc::new(AtomicU64::new(0));
    for round in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let pushing = push_as_another(&server.url, &pushed, &stop);
        let writer = Writer::start(&path, &server.url);
        let delay = Duration::from_millis(round * 31 % DELAY_MS);
        let reported = writer.kill_after(round * 7 % 29, delay);
        verify(&path, reported, round);
        stop.store(true, Ordering::Release);
        if round % 7 == 6 {
            server.kill();
            pushing.join().unwrap();
            server = Server::start(&dir);
        } else {
            pushing.join().unwrap();
        }
    }
    let db = open(&path, CLIENT);
    settle(&db, &server.url);
    let writes = progress(&db);
    assert!(writes > 300, "only {writes} writes");
    check_log(&server, writes);
    let reader = open(&folder.path().join("reader.db"), "reader");
    settle(&reader, &server.url);
    assert_eq!(reader.rows("t").unwrap(), db.rows("t").unwrap());
    let others = db
        .rows("t")
        .unwrap()
        .keys()
        .filter(|id| id.as_str().starts_with("other"))
        .count();
    assert_eq!(others as u64, pushed.load(Ordering::Acquire));
    let counted = server.sql("select count(*) as n, count(distinct row_id) as d from t");
    assert_eq!(counted[0]["n"], db.rows("t").unwrap().len());
    assert_eq!(counted[0]["d"], counted[0]["n"]);
}

/// Rows of another client, so that pages come while the child writes.
fn push_as_another(
    url: &str,
    pushed: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    let (url, pushed, stop) = (url.to_owned(), Arc::clone(pushed), Arc::clone(stop));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            let n = pushed.load(Ordering::Acquire);
            let row = |n: u64| {
                delta(
                    "other",
                    &format!("other {n}"),
                    START_MS + n,
                    n.cast_signed(),
                )
            };
            let body = push_body((n..n + 3).map(row).collect());
            match answer(&url, "/v1/sync/public/push", &body) {
                Ok((200, _)) => pushed.store(n + 3, Ordering::Release),
                Ok((status, said)) => panic!("{status} {said}"),
                // The server was killed; whether it took them the next round finds out by sending them again.
                Err(_) => return,
            }
        }
    })
}

fn verify(path: &Path, reported: i64, round: u64) {
    let db = open(path, CLIENT);
    let said = db.query("PRAGMA integrity_check", []).unwrap();
    assert_eq!(
        said.rows,
        [[SqlValue::from("ok".to_owned())]],
        "round {round}"
    );
    let written = progress(&db);
    assert!(
        written >= reported,
        "round {round}: write {reported} was reported, {written} is there"
    );
    assert!(
        written <= reported + 1,
        "round {round}: {written} was never reported, {reported} was"
    );
    let rows = db
        .query(
            "SELECT row_id, batch, note FROM t WHERE row_id LIKE 'own %'",
            [],
        )
        .unwrap();
    let rows = rows
        .rows
        .into_iter()
        .map(|row| match <[SqlValue; 3]>::try_from(row).unwrap() {
            [
                SqlValue::Text(id),
                SqlValue::Integer(batch),
                SqlValue::Text(note),
            ] => (id, (batch, note)),
            other => panic!("round {round}: a row {other:?}"),
        });
    assert_eq!(
        rows.collect::<BTreeMap<_, _>>(),
        model(written).0,
        "round {round}, {written} writes"
    );
}

fn settle(db: &LocalDb, url: &str) {
    for _ in 0..SYNCS_MAX {
        db.sync(&transport(url)).unwrap();
        let counts = db.outbox_counts().unwrap();
        if counts
            == (OutboxCounts {
                kept: counts.kept,
                ..OutboxCounts::default()
            })
        {
            return;
        }
    }
    panic!("{:?} after {SYNCS_MAX} syncs", db.outbox_counts().unwrap());
}

/// The gateway has each write of the child once, with its own content, in the order in which they were made.
fn check_log(server: &Server, writes: i64) {
    let mut found: Vec<(u64, Expected)> = Vec::new();
    let mut since = "0".to_owned();
    loop {
        let (status, page) = server.get(&format!(
            "/v1/sync/public/pull?since={since}&clientId=checker&limit=500"
        ));
        assert_eq!(status, 200, "{page}");
        for delta in page["deltas"].as_array().unwrap() {
            if delta["clientId"] != CLIENT {
                continue;
            }
            let columns = delta["columns"].as_array().unwrap().iter().map(|change| {
                (
                    change["column"].as_str().unwrap().to_owned(),
                    change["value"].clone(),
                )
            });
            let text = |name: &str| delta[name].as_str().unwrap().to_owned();
            let hlc = text("hlc").parse().unwrap();
            found.push((hlc, (text("op"), text("rowId"), columns.collect())));
        }
        page["serverHlc"].as_str().unwrap().clone_into(&mut since);
        if page["hasMore"] == false {
            break;
        }
    }
    found.sort_by_key(|(hlc, _)| *hlc);
    let found: Vec<Expected> = found.into_iter().map(|(_, delta)| delta).collect();
    let (_, mut expected) = model(writes);
    // The rows of one statement are written in no order that SQL promises.
    for pair in 1..expected.len() {
        let swapped = found.get(pair) == Some(&expected[pair - 1]);
        if swapped && expected[pair].2 == expected[pair - 1].2 {
            expected.swap(pair, pair - 1);
        }
    }
    assert_eq!(found.len(), expected.len());
    for (nth, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "delta {nth}");
    }
}
