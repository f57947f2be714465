//! W3: pushes over HTTP on loopback, acknowledged means fsynced; the limit is SQLite committing the same bytes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakesync::Lake;
use lakesync::server::Server;
use lakesync_benches::{Cost, Figure, Figures, median};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, SeqDelta,
    TableName, Value, encode_batch, encode_page_protobuf, encode_push_json,
};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const TABLE: &str = r#"{"table": "t", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"},
    {"name": "points", "type": "long"}, {"name": "note", "type": "string"}]}"#;
const NOW_MS: u64 = 1_700_000_000_000;

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
        let rate = rate(total, cost.wall);
        let (limit, ()) = median(|| sqlite_limit((clients, batch, pushes)));
        let limit_rate = self::rate(total, limit.wall);
        figures.0.push(Figure {
            what: format!("push, {clients} client(s), batch {batch}"),
            figure: format!("{rate:.0} deltas/s ({})", cpu(cost)),
            limit: format!("SQLite commits of the same bytes: {limit_rate:.0}/s"),
            ratio: format!(
                "{:.2} of the limit; {:.0}x TypeScript",
                rate / limit_rate,
                rate / peer
            ),
            target: ">= 0.5 of the limit; >= 100x",
        });
    }
    pull(&runtime, figures);
}

fn cpu(cost: Cost) -> String {
    format!(
        "{:.2} CPU-s of {:.2} s",
        cost.cpu.as_secs_f64(),
        cost.wall.as_secs_f64()
    )
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(count: usize, wall: Duration) -> f64 {
    count as f64 / wall.as_secs_f64()
}

fn push_round(runtime: &Runtime, (clients, batch, pushes): (usize, usize, usize), round: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, stop, serving) = runtime.block_on(async {
        let lake = Lake::open(folder.path()).await.expect("a lake");
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
    });
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

fn push(client: usize, batch: usize, round: u64, n: usize) -> Push {
    let client_id = ClientId::parse(&format!("client-{client}")).expect("an id");
    let deltas = (0..batch)
        .map(|i| delta(&client_id, round, n * batch + i))
        .collect();
    Push {
        client_id,
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

/// About 300 bytes of JSON.
fn delta(client_id: &ClientId, round: u64, n: usize) -> RowDelta {
    let change = |name: &str, value| ColumnChange {
        column: ColumnName::parse(name).expect("a name"),
        value,
    };
    let number = u64::try_from(n).expect("a small number");
    let key = DeltaKey {
        table: TableName::parse("t").expect("a name"),
        row_id: RowId::parse(&format!("{client_id}-{n:08}")).expect("an id"),
        client_id: client_id.clone(),
        hlc: Hlc::new(NOW_MS + round * 1_000_000 + number, 0).expect("a stamp"),
    };
    let columns = vec![
        change("title", Value::from("Buy oat milk and a loaf of bread")),
        change("done", Value::Boolean(n.is_multiple_of(2))),
        change(
            "points",
            Value::Long(i64::try_from(n).expect("a small number")),
        ),
        change("note", Value::from("on the way home")),
    ];
    RowDelta::new(Op::Insert, key, columns)
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

fn pull(runtime: &Runtime, figures: &mut Figures) {
    const PUSHES: usize = 100;
    let folder = tempfile::tempdir().expect("a folder");
    let lake = runtime.block_on(async {
        let lake = Lake::open(folder.path()).await.expect("a lake");
        lake.create_table(TABLE).await.expect("a table");
        for n in 0..PUSHES {
            lake.gateway("public")
                .expect("it exists")
                .push(push(0, 1_000, 1, n))
                .await
                .expect("accepted");
        }
        lake
    });
    let gateway = Arc::clone(lake.gateway("public").expect("it exists"));
    let (cost, bytes) = median(|| {
        runtime.block_on(async {
            let (mut since, mut bytes) = (Seq::ZERO, 0);
            loop {
                let page = gateway.pull(since, 10_000).await.expect("a page");
                bytes += encode_page_protobuf(&page).len();
                since = page.cursor;
                if !page.has_more {
                    return bytes;
                }
            }
        })
    });
    let rate = rate(PUSHES * 1_000, cost.wall);
    figures.0.push(Figure {
        what: "pull, protobuf, in process, 100,000 deltas".to_owned(),
        figure: format!(
            "{rate:.0} deltas/s ({}, {} MB)",
            cpu(cost),
            bytes / 1_000_000
        ),
        limit: "-".to_owned(),
        ratio: "-".to_owned(),
        target: ">= 1,000,000 deltas/s",
    });
}
