//! W3: pulls in process, over HTTP, and by a client that is a day behind.

use std::path::Path;

use lakesync::Lake;
use lakesync_benches::load::{TABLE, config, push};
use lakesync_benches::{Figure, Figures, median, rate};
use lakesync_gateway::{Gateway, GatewayConfig};
use lakesync_proto::{Schemas, Seq, decode_batch, encode_page_protobuf};
use rusqlite::Connection;
use tokio::runtime::Runtime;

use crate::push::cpu;
use crate::server::ServerProcess;

const DELTAS: usize = 1_000_000;
const BEHIND: usize = 100_000;

pub(crate) fn measure(figures: &mut Figures) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(fill(folder.path(), DELTAS));
    in_process(&runtime, folder.path(), figures);
    over_http(folder.path(), figures);
    a_day_behind(&runtime, figures);
}

async fn fill(dir: &Path, deltas: usize) {
    let lake = Lake::builder(dir)
        .with_config(config())
        .open()
        .await
        .expect("a lake");
    lake.create_table(TABLE).await.expect("a table");
    let gateway = lake.gateway("public").expect("it exists");
    for n in 0..deltas / 1_000 {
        gateway.push(push(0, 1_000, 1, n)).await.expect("accepted");
    }
}

/// Pulls everything; gives deltas and encoded bytes.
async fn pull_all(gateway: &Gateway) -> (usize, usize) {
    let (mut since, mut deltas, mut bytes) = (Seq::ZERO, 0, 0);
    loop {
        let page = gateway.pull(since, 10_000).await.expect("a page");
        deltas += page.deltas.len();
        bytes += encode_page_protobuf(&page).len();
        since = page.cursor;
        if !page.has_more {
            return (deltas, bytes);
        }
    }
}

fn in_process(runtime: &Runtime, dir: &Path, figures: &mut Figures) {
    let lake = runtime
        .block_on(Lake::builder(dir).with_config(config()).open())
        .expect("a lake");
    let gateway = lake.gateway("public").expect("it exists");
    let (cost, (deltas, bytes)) = median(|| runtime.block_on(pull_all(&gateway)));
    assert_eq!(deltas, DELTAS);
    figures.0.push(Figure {
        what: "pull, protobuf, in process, 1 M deltas".to_owned(),
        figure: format!(
            "{:.0} deltas/s ({}, {} MB)",
            rate(deltas, cost.wall),
            cpu(cost),
            bytes / 1_000_000
        ),
        limit: "-".to_owned(),
        ratio: "-".to_owned(),
        target: ">= 1,000,000 deltas/s",
    });
}

fn over_http(dir: &Path, figures: &mut Figures) {
    let server = ServerProcess::start(dir);
    let agent = ureq::Agent::new_with_defaults();
    let before = server.cpu_time();
    let (cost, bytes) = median(|| {
        let (mut since, mut bytes) = (0, 0);
        while since < DELTAS {
            let url = format!(
                "{}/v1/sync/public/pull?since={since}&clientId=reader&limit=10000",
                server.url
            );
            let answer = agent
                .get(&url)
                .header("accept", "application/x-protobuf")
                .call()
                .expect("a page");
            let body = answer
                .into_body()
                .into_with_config()
                .limit(1 << 30)
                .read_to_vec()
                .expect("a body");
            bytes += body.len();
            since += 10_000;
        }
        bytes
    });
    let spent = (server.cpu_time() - before) / u32::try_from(lakesync_benches::RUNS).expect("few");
    figures.0.push(Figure {
        what: "pull, protobuf, over HTTP, 1 M deltas".to_owned(),
        figure: format!(
            "{:.0} deltas/s ({:.2} CPU-s of the server, {} MB)",
            rate(DELTAS, cost.wall),
            spent.as_secs_f64(),
            bytes / 1_000_000
        ),
        limit: "-".to_owned(),
        ratio: "-".to_owned(),
        target: ">= 500,000 deltas/s",
    });
}

/// What is no longer in memory is read from the durable log; the limit reads and decodes the same blobs.
fn a_day_behind(runtime: &Runtime, figures: &mut Figures) {
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(fill(folder.path(), BEHIND));
    let config = GatewayConfig {
        feed_bytes_max: 0,
        ..config()
    };
    let lake = Lake::builder(folder.path()).with_config(config);
    let lake = runtime.block_on(lake.open()).expect("a lake");
    let gateway = lake.gateway("public").expect("it exists");
    let (cost, (deltas, _)) = median(|| runtime.block_on(pull_all(&gateway)));
    let database = folder.path().join("gateways").join("public.db");
    let (limit, read) = median(|| read_blobs(&database, gateway.live().as_ref()));
    assert_eq!((deltas, read), (BEHIND, BEHIND));
    figures.0.push(Figure {
        what: "pull of a client a day behind, 100,000 deltas".to_owned(),
        figure: format!("{:.0} ms ({})", cost.wall.as_secs_f64() * 1e3, cpu(cost)),
        limit: format!(
            "reading those blobs: {:.0} ms",
            limit.wall.as_secs_f64() * 1e3
        ),
        ratio: format!("{:.1}x", cost.wall.as_secs_f64() / limit.wall.as_secs_f64()),
        target: "<= 1.5x",
    });
}

fn read_blobs(database: &Path, schemas: &dyn Schemas) -> usize {
    let db = Connection::open(database).expect("the durable log");
    let mut blobs = db
        .prepare("select deltas from pushes order by first_seq")
        .expect("its table");
    let blobs = blobs
        .query_map([], |row| row.get::<_, Vec<u8>>(0))
        .expect("its rows");
    blobs
        .map(|blob| {
            decode_batch(&blob.expect("a blob"), schemas)
                .expect("deltas")
                .len()
        })
        .sum()
}
