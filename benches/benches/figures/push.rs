//! W3: pushes over HTTP on loopback, acknowledged means fsynced; the limit is SQLite committing the same bytes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use lakesync::Lake;
use lakesync::server::Server;
use lakesync_benches::load::{TABLE, config, push};
use lakesync_benches::{Cost, Figure, Figures, median, p99, rate};
use lakesync_proto::{Seq, SeqDelta, encode_batch, encode_push_json};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server::ServerProcess;

/// Clients, deltas of one push, pushes of each client, and what the TypeScript LakeSync reaches in memory
/// (`TARGETS.md`), in deltas a second.
const SHAPES: [(usize, usize, usize, f64); 3] = [
    (1, 100, 100, 506.0),
    (8, 100, 25, 442.0),
    (8, 1_000, 5, 523.0),
];

pub(crate) fn measure(figures: &mut Figures) {
    let runtime = Runtime::new().expect("a runtime");
    for (clients, batch, pushes, peer) in SHAPES {
        let total = clients * batch * pushes;
        let mut round = 0;
        let (cost, ()) = median(|| {
            round += 1;
            push_round(&runtime, (clients, batch, pushes), round);
        });
        let reached = rate(total, cost.wall);
        let (limit, ()) = median(|| sqlite_limit((clients, batch, pushes)));
        let limit_rate = rate(total, limit.wall);
        figures.0.push(Figure {
            what: format!("push, {clients} client(s), batch {batch}"),
            figure: format!("{reached:.0} deltas/s ({})", cpu(cost)),
            limit: format!("SQLite commits of the same bytes: {limit_rate:.0}/s"),
            ratio: format!(
                "{:.2} of the limit; {:.0}x TypeScript",
                reached / limit_rate,
                reached / peer
            ),
            target: ">= 0.5 of the limit; >= 100x",
        });
    }
    single(&runtime, figures);
    growth(figures);
}

pub(crate) fn cpu(cost: Cost) -> String {
    format!(
        "{:.2} CPU-s of {:.2} s",
        cost.cpu.as_secs_f64(),
        cost.wall.as_secs_f64()
    )
}

/// A server in this process: its URL, what stops it, and its task.
fn serve(
    runtime: &Runtime,
    dir: &Path,
) -> (
    String,
    oneshot::Sender<()>,
    JoinHandle<lakesync::Result<()>>,
) {
    runtime.block_on(async {
        let lake = Lake::builder(dir)
            .with_config(config())
            .open()
            .await
            .expect("a lake");
        lake.create_table(TABLE).await.expect("a table");
        let server = Server::bind(lake, SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        let (stop, stopped) = oneshot::channel::<()>();
        let url = server.url();
        (
            url,
            stop,
            tokio::spawn(server.run(async move { drop(stopped.await) })),
        )
    })
}

fn push_round(runtime: &Runtime, (clients, batch, pushes): (usize, usize, usize), round: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, stop, serving) = serve(runtime, folder.path());
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let url = format!("{url}/v1/sync/public/push");
            std::thread::spawn(move || {
                let agent = ureq::Agent::new_with_defaults();
                for n in 0..pushes {
                    let body = encode_push_json(&push(client, batch, round, n));
                    let answer = agent
                        .post(&url)
                        .header("content-type", "application/json")
                        .send(&body);
                    assert_eq!(answer.expect("accepted").status(), 200);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client that was served");
    }
    drop(stop);
    runtime.block_on(serving).expect("joined").expect("served");
}

/// The same blobs, one fsynced transaction for a push of each client, straight into SQLite.
fn sqlite_limit((clients, batch, pushes): (usize, usize, usize)) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut db = open(&folder.path().join("limit.db"));
    let mut seq = Seq::ZERO;
    for n in 0..pushes {
        let tx = db.transaction().expect("a transaction");
        for client in 0..clients {
            let push = push(client, batch, 0, n);
            let deltas = push.deltas.into_iter().map(|delta| {
                seq = seq.next();
                SeqDelta { seq, delta }
            });
            let blob = encode_batch(&deltas.collect::<Vec<_>>());
            tx.execute("insert into pushes (deltas) values (?1)", [blob])
                .expect("inserted");
        }
        tx.commit().expect("committed");
    }
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a database");
    db.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table pushes (first_seq integer primary key, deltas blob not null);",
    )
    .expect("a table");
    db
}

/// Eight clients that push one delta at a time: a push shares its fsync with those that wait.
fn single(runtime: &Runtime, figures: &mut Figures) {
    const PUSHES: usize = 200;
    let folder = tempfile::tempdir().expect("a folder");
    let (url, stop, serving) = serve(runtime, folder.path());
    let clients = (0..8).map(|client| {
        let url = format!("{url}/v1/sync/public/push");
        std::thread::spawn(move || {
            let agent = ureq::Agent::new_with_defaults();
            (0..PUSHES)
                .map(|n| {
                    let body = encode_push_json(&push(client, 1, 0, n));
                    let begun = Instant::now();
                    let answer = agent
                        .post(&url)
                        .header("content-type", "application/json")
                        .send(&body);
                    assert_eq!(answer.expect("accepted").status(), 200);
                    begun.elapsed()
                })
                .collect::<Vec<_>>()
        })
    });
    let clients: Vec<_> = clients.collect();
    let waits = clients
        .into_iter()
        .flat_map(|client| client.join().expect("a client that was served"));
    let slowest = p99(waits.collect());
    drop(stop);
    runtime.block_on(serving).expect("joined").expect("served");
    let fsync = p99(fsyncs());
    figures.0.push(Figure {
        what: "push, 8 clients, batch 1: p99 of the answer".to_owned(),
        figure: format!("{:.2} ms", slowest.as_secs_f64() * 1e3),
        limit: format!(
            "p99 of one small SQLite commit: {:.2} ms",
            fsync.as_secs_f64() * 1e3
        ),
        ratio: format!("{:.1} fsyncs", slowest.as_secs_f64() / fsync.as_secs_f64()),
        target: "<= 3 fsyncs",
    });
}

/// How long a small commit takes, again and again.
fn fsyncs() -> Vec<Duration> {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("fsync.db"));
    let commit = |_| {
        let begun = Instant::now();
        db.execute("insert into pushes (deltas) values (zeroblob(300))", [])
            .expect("inserted");
        begun.elapsed()
    };
    (0..500).map(commit).collect()
}

/// A million hot deltas in one gateway: the last tenth is pushed as fast as the first.
fn growth(figures: &mut Figures) {
    const TENTH: usize = 100;
    let folder = tempfile::tempdir().expect("a folder");
    let server = ServerProcess::start(folder.path());
    let before = server.resident_bytes();
    let url = format!("{}/v1/sync/public/push", server.url);
    let agent = ureq::Agent::new_with_defaults();
    let mut bytes = 0;
    let tenths: Vec<Duration> = (0..10)
        .map(|tenth| {
            let mut spent = Duration::ZERO;
            for n in 0..TENTH {
                let body = encode_push_json(&push(0, 1_000, 0, tenth * TENTH + n));
                bytes += body.len();
                let begun = Instant::now();
                let answer = agent
                    .post(&url)
                    .header("content-type", "application/json")
                    .send(&body);
                assert_eq!(answer.expect("accepted").status(), 200);
                spent += begun.elapsed();
            }
            spent
        })
        .collect();
    let (first, last) = (tenths[0], tenths[9]);
    figures.0.push(Figure {
        what: "push, 1 client, batch 1,000: the 10th 100,000 of a million hot deltas".to_owned(),
        figure: format!("{:.0} deltas/s", rate(TENTH * 1_000, last)),
        limit: format!(
            "the 1st 100,000: {:.0} deltas/s",
            rate(TENTH * 1_000, first)
        ),
        ratio: format!("{:.2}", first.as_secs_f64() / last.as_secs_f64()),
        target: ">= 0.9: flat",
    });
    let held = server.resident_bytes().saturating_sub(before);
    figures.0.push(Figure {
        what: "resident memory with 1 M hot deltas of 300 B".to_owned(),
        figure: format!("{} MB", held / 1_000_000),
        limit: format!("their bytes as JSON: {} MB", bytes / 1_000_000),
        ratio: ratio(held, bytes),
        target: "<= 3x",
    });
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(held: u64, bytes: usize) -> String {
    format!("{:.1}x", held as f64 / bytes as f64)
}
