//! A mixed run: pushes, pulls, live readers, SQL, flushes and compactions at once, for as long as
//! `LAKESYNC_SOAK_SECONDS` says (20; an hour before a release), and the server neither grows nor forgets.
//!
//! Invariant: rows are updated, not added, so whatever grows over time is a leak.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, RowId, TableName, Value,
};

use crate::server::{Server, TABLE, answer, push_body};

/// Small enough that every part turns many times in a short run.
const CONFIG: &str = "
[flush]
max_rows = 2000
max_age = \"1s\"
[compact]
when_rows = 4000
[sync]
pull_window = \"1s\"
[limits]
feed = \"1 MiB\"
";
const CLIENTS: u64 = 4;
const ROWS: u64 = 500;
const NOW_MS: u64 = 1_700_000_000_000;

/// What the server says of itself.
#[derive(Clone, Copy, Debug)]
struct Use {
    resident_bytes: u64,
    descriptors: u64,
    tasks: u64,
}

fn used(server: &Server) -> Use {
    let (status, metrics) = server.ask("GET", "/metrics", &[], b"");
    assert_eq!(status, 200, "{metrics}");
    let gauge = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}"))
            .trim()
            .parse()
            .unwrap()
    };
    Use {
        resident_bytes: gauge("process_resident_memory_bytes "),
        descriptors: gauge("process_open_fds "),
        tasks: gauge("lakesync_tasks "),
    }
}

/// The last value of a counter of a client, and its row.
fn delta(client: u64, n: u64) -> RowDelta {
    let name = format!("client-{client}");
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(&format!("{name}-{}", n % ROWS)).unwrap(),
        client_id: ClientId::parse(&name).unwrap(),
        hlc: Hlc::new(NOW_MS + n, 0).unwrap(),
    };
    let change = |column: &str, value| ColumnChange {
        column: ColumnName::parse(column).unwrap(),
        value,
    };
    let columns = vec![
        change("batch", Value::Long(i64::try_from(n).unwrap())),
        change(
            "note",
            Value::from("a note that is written again and again"),
        ),
    ];
    RowDelta::new(Op::Insert, key, columns)
}

#[test]
fn a_mixed_run_keeps_memory_descriptors_and_tasks_flat_and_every_row_right() {
    let seconds = std::env::var("LAKESYNC_SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), CONFIG);
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    let stop = Arc::new(AtomicBool::new(false));
    let sent: Vec<Arc<AtomicU64>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    let mut work: Vec<JoinHandle<()>> = sent
        .iter()
        .zip(0..)
        .map(|(sent, client)| pusher(&server.url, client, sent, &stop))
        .collect();
    work.push(reader(&server.url, &stop));
    work.push(live_reader(&server.url, &stop));
    work.push(analyst(&server.url, &stop));

    let mut samples = Vec::new();
    let begun = Instant::now();
    let (tick, ticks) = std::sync::mpsc::channel::<()>();
    while begun.elapsed() < Duration::from_secs(seconds) {
        // Nobody sends: the wait is the sampling interval.
        let _waited = ticks.recv_timeout(Duration::from_millis(250));
        samples.push(used(&server));
    }
    drop(tick);
    stop.store(true, Ordering::Release);
    for thread in work {
        thread.join().expect("it met nothing unexpected");
    }
    flat(&samples);
    let rows = server.sql("select row_id, batch from t");
    for (sent, client) in sent.iter().zip(0_u64..) {
        let sent = sent.load(Ordering::Acquire);
        assert!(sent > ROWS, "client {client} came to push something");
        for n in sent - ROWS..sent {
            let id = format!("client-{client}-{}", n % ROWS);
            let row = rows
                .iter()
                .find(|row| row["row_id"] == id.as_str())
                .unwrap_or_else(|| panic!("no {id}"));
            assert_eq!(row["batch"], n, "{id}");
        }
    }
    assert_eq!(rows.len() as u64, CLIENTS * ROWS);
}

/// The last quarter of a run against its second one. What leaks stays, so half of the samples show it; threads and
/// descriptors that come and go with the requests of a moment do not.
fn flat(samples: &[Use]) {
    let quarter = samples.len() / 4;
    let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let memory = |of: &[Use]| of.iter().map(|sample| sample.resident_bytes).max().unwrap();
    let grown = memory(late).saturating_sub(memory(early));
    assert!(
        memory(late) < memory(early) / 4 * 5 + (32 << 20),
        "memory grew by {} MiB: {:?} … {:?}",
        grown >> 20,
        early[0],
        late.last()
    );
    for (what, of) in [
        (
            "descriptors",
            (|sample| sample.descriptors) as fn(&Use) -> u64,
        ),
        ("tasks", |sample| sample.tasks),
    ] {
        let (early, late) = (middle(early, of), middle(late, of));
        assert!(late <= early + 8, "{what}: {early} … {late}: {samples:?}");
    }
}

/// The median of one number.
fn middle(samples: &[Use], of: fn(&Use) -> u64) -> u64 {
    let mut numbers: Vec<u64> = samples.iter().map(of).collect();
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

#[test]
fn a_thread_that_every_second_adds_is_seen_and_a_burst_is_not() {
    let run = |tasks: fn(u64) -> u64| {
        let samples: Vec<Use> = (0..80)
            .map(|n| Use {
                resident_bytes: 1,
                descriptors: 30,
                tasks: tasks(n),
            })
            .collect();
        std::panic::catch_unwind(|| flat(&samples)).is_ok()
    };
    assert!(run(|n| if n > 70 { 14 + n % 30 } else { 14 }), "a burst");
    assert!(!run(|n| 14 + n / 4), "a leak");
}

fn pusher(url: &str, client: u64, sent: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (url, sent, stop) = (url.to_owned(), Arc::clone(sent), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut n = 0;
        while !stop.load(Ordering::Acquire) || n <= ROWS {
            let body = push_body((n..n + 20).map(|n| delta(client, n)).collect());
            let (status, said) =
                answer(&url, "/v1/sync/public/push", &body).expect("the server serves");
            match status {
                200 => n += 20,
                // Backpressure is an answer: the same push again.
                429 | 503 => {}
                _ => panic!("{status}: {said}"),
            }
            sent.store(n, Ordering::Release);
        }
    })
}

/// A legacy client that pulls for ever.
fn reader(url: &str, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (url, stop) = (url.to_owned(), Arc::clone(stop));
    std::thread::spawn(move || {
        let agent = ureq::Agent::new_with_defaults();
        let mut since = "0".to_owned();
        while !stop.load(Ordering::Acquire) {
            let page = agent
                .get(format!(
                    "{url}/v1/sync/public/pull?since={since}&clientId=reader&limit=1000&wait=1s"
                ))
                .call();
            let page = page
                .expect("a page")
                .into_body()
                .into_with_config()
                .limit(1 << 30)
                .read_to_string()
                .expect("text");
            let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
            page["serverHlc"]
                .as_str()
                .expect("a cursor")
                .clone_into(&mut since);
        }
    })
}

/// An event stream that is opened again and again.
fn live_reader(url: &str, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (url, stop) = (url.to_owned(), Arc::clone(stop));
    std::thread::spawn(move || {
        let agent = ureq::Agent::new_with_defaults();
        while !stop.load(Ordering::Acquire) {
            let stream = agent
                .get(format!("{url}/v1/sync/public/live?since=0&clientId=live"))
                .call()
                .expect("a stream");
            let lines = BufReader::new(stream.into_body().into_reader()).lines();
            for line in lines.take(30) {
                line.expect("a line");
            }
        }
    })
}

fn analyst(url: &str, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (url, stop) = (url.to_owned(), Arc::clone(stop));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            let body = br#"{"sql": "select count(*) as n, max(batch) as newest from t"}"#;
            let (status, said) = answer(&url, "/v1/sql", body).expect("the server serves");
            assert_eq!(status, 200, "{said}");
        }
    })
}
