//! A server over time: TLS, logs, what it does by itself, and how it ends.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::server::{Server, TABLE, delta, push_body, run};

const WALL_MS: u64 = 1_700_000_000_000;
/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The path of a file beside this one.
fn tls(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/tls");
    folder.join(name).to_str().unwrap().to_owned()
}

fn push(server: &Server, row: &str) {
    let body = push_body(vec![delta("ana", row, WALL_MS, 7)]);
    let (status, answer) = server.post("/v1/sync/public/push", &body);
    assert_eq!(status, 200, "{answer}");
}

fn snapshots(server: &Server, kind: &str) -> u64 {
    let sql = format!("select count(*) as n from t$snapshots where kind = '{kind}'");
    server.sql(&sql)[0]["n"].as_u64().unwrap()
}

/// A log pipe that dies is ordinary: `serve 2>&1 | head -3`.
#[test]
fn a_server_whose_stderr_is_gone_serves_on_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    // This server's stderr is closed as soon as its URL has been read.
    let mut server = Server::start_deaf(folder.path());
    for _ in 0..3 {
        assert_eq!(server.get("/health").0, 200);
    }
    assert_eq!(server.terminate(), 0);
}

#[test]
fn everything_works_over_tls_and_a_key_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let (cert, key, other) = (tls("cert.pem"), tls("key.pem"), tls("other.pem"));
    let set = |key: &str| {
        let (cert, key) = (
            format!("server.tls.cert={cert}"),
            format!("server.tls.key={key}"),
        );
        ["--set".to_owned(), cert, "--set".to_owned(), key]
    };
    let wrong = set(&other);
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        dir.to_str().unwrap(),
    ];
    let refused = run(&[&serve[..], &wrong].concat());
    assert!(
        text(&refused.stderr).contains("is not the key of"),
        "{}",
        text(&refused.stderr)
    );

    let right = set(&key);
    let right: Vec<&str> = right.iter().map(String::as_str).collect();
    let mut server = Server::start_args(&dir, &right);
    assert!(
        server.url.starts_with("https://127.0.0.1:"),
        "{}",
        server.url
    );
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    push(&server, "r1");
    let plain = server.url.replace("https", "http");
    assert!(ureq::get(format!("{plain}/health")).call().is_err());
    let sql = [
        "sql",
        "--format",
        "csv",
        "-c",
        "select batch from t",
        "--dir",
    ];
    let asked = run(&[&sql[..], &[dir.to_str().unwrap()]].concat());
    assert_eq!(text(&asked.stdout), "batch\n7\n", "{}", text(&asked.stderr));
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_stop_flushes_what_was_acknowledged_and_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    push(&server, "r1");
    assert_eq!(
        snapshots(&server, "log"),
        0,
        "nothing is flushed before its time"
    );
    assert_eq!(server.terminate(), 0);
    assert!(server.said().contains("everything is flushed"));
    let server = Server::start(folder.path());
    assert_eq!(snapshots(&server, "log"), 1);
    assert_eq!(server.sql("select batch from t"), [json!({"batch": 7})]);
}

#[test]
fn a_server_left_alone_flushes_and_compacts_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["--set", "flush.max_rows=1", "--set", "compact.when_rows=1"];
    let server = Server::start_args(folder.path(), &set);
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    push(&server, "r1");
    let began = Instant::now();
    while snapshots(&server, "base") == 0 {
        assert!(began.elapsed() < PATIENCE, "nothing was compacted");
    }
    assert_eq!(snapshots(&server, "log"), 1);
    assert_eq!(server.sql("select batch from t"), [json!({"batch": 7})]);
}

#[test]
fn json_logs_are_json_lines_and_a_request_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_args(folder.path(), &["--set", "log.format=json"]);
    assert_eq!(server.get("/v1/sync/public/schema").0, 200);
    assert_eq!(server.terminate(), 0);
    let said = server.said();
    let lines: Result<Vec<Json>, _> = said.lines().map(serde_json::from_str).collect();
    let lines = lines.unwrap_or_else(|error| panic!("{error} in {said}"));
    let request = lines
        .iter()
        .find(|line| line["route"] == "/v1/sync/{g}/schema");
    let request = request.unwrap_or_else(|| panic!("no line of the request in {said}"));
    assert_eq!(request["status"], 200, "{request}");
}
