//! What one client may not take from the others: threads, connections, time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::Server;

/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Hours of work for every core, in batches of a moment each: a statement ends with its batch.
const HEAVY: &str = "select sum(a.value * b.value) as n from generate_series(1, 2000) a cross join \
                     generate_series(1, 1000000000000) b where a.value % 7 = b.value % 11";

fn connect(server: &Server) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that comes until the other side closes.
fn rest(mut stream: TcpStream) -> String {
    let mut read = Vec::new();
    // A reset is a close, too.
    let _closed = stream.read_to_end(&mut read);
    String::from_utf8(read).unwrap()
}

/// One request; its answer is read as it comes and the connection stays.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).unwrap();
    String::from_utf8(answer[..read].to_vec()).unwrap()
}

fn statement(sql: &str) -> String {
    let body = json!({ "sql": sql }).to_string();
    let length = body.len();
    format!(
        "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn heavy_statements_leave_the_server_awake_are_counted_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "--set",
        "sql.timeout=8s",
        "--set",
        "sql.statements_per_subject=3",
    ];
    let server = Server::start_args(folder.path(), &set);
    let heavy: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(&server);
            stream.write_all(statement(HEAVY).as_bytes()).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let refused = loop {
        let mut stream = connect(&server);
        stream.write_all(statement("select 1").as_bytes()).unwrap();
        let answer = rest(stream);
        if answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is refused: {answer}");
    };
    assert!(refused.contains("retry-after: "), "{refused}");
    assert!(refused.contains("sql.statements_per_subject"), "{refused}");
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(server.get("/health").0, 200);
        assert!(began.elapsed() < Duration::from_secs(3), "/health waited");
    }
    let answers: Vec<String> = heavy.into_iter().map(rest).collect();
    let ended = answers
        .iter()
        .filter(|answer| answer.starts_with("HTTP/1.1 504"));
    assert!(
        ended.clone().all(|answer| answer.contains("sql.timeout")),
        "{answers:?}"
    );
    // One that came when a short statement had its place was refused as the short one was.
    let refused = answers
        .iter()
        .filter(|answer| answer.starts_with("HTTP/1.1 503"));
    assert!(ended.clone().count() >= 1, "{answers:?}");
    assert_eq!(ended.count() + refused.count(), 3, "{answers:?}");
    // A statement ends with its batch, so its place is free a little later.
    let began = Instant::now();
    while server.post("/v1/sql", br#"{"sql": "select 1 as n"}"#).0 != 200 {
        assert!(began.elapsed() < PATIENCE, "the statements go on");
    }
}

#[test]
fn one_statement_cannot_end_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for sql in [
        "select length(repeat(arrow_cast('x', 'LargeUtf8'), 100000000000000))",
        "select array_length(range(1, 100000000000000))",
        "select length(lpad(arrow_cast('x', 'LargeUtf8'), 2000000000, 'y'))",
        "select array_length(array_repeat(1, 100000000000000))",
    ] {
        let body = json!({ "sql": sql }).to_string();
        let (status, answer) = server.post("/v1/sql", body.as_bytes());
        assert_eq!(status, 400, "{sql}: {answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains("is the most"), "{sql}: {said}");
    }
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn connections_that_say_nothing_are_closed_also_between_requests() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_args(folder.path(), &["--set", "server.idle=1s"]);
    let silent = connect(&server);
    let mut idle = connect(&server);
    assert!(ask(&mut idle, "/health").starts_with("HTTP/1.1 200"));
    let mut half = connect(&server);
    assert!(ask(&mut half, "/health").starts_with("HTTP/1.1 200"));
    half.write_all(b"GET /health HTTP/1.1\r\nhost:").unwrap();
    let began = Instant::now();
    for stream in [silent, idle, half] {
        rest(stream);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn connections_beyond_the_limit_are_closed_and_places_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_args(folder.path(), &["--set", "limits.tcp_connections=3"]);
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
    for stream in &mut held {
        assert!(ask(stream, "/health").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(rest(connect(&server)), "", "a fourth is closed");
    drop(held);
    let began = Instant::now();
    loop {
        let mut stream = connect(&server);
        let asked = write!(
            stream,
            "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        if asked.is_ok() && rest(stream).starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no place came back");
    }
}

#[test]
fn a_body_that_does_not_come_is_answered_408() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_args(folder.path(), &["--set", "server.timeout=1s"]);
    let mut stream = connect(&server);
    let whole = statement("select 1");
    stream
        .write_all(&whole.as_bytes()[..whole.len() - 3])
        .unwrap();
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("server.timeout"), "{answer}");
}

#[test]
fn the_configured_rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "--set",
        "rate.requests_per_second=1",
        "--set",
        "rate.burst=2",
    ];
    let server = Server::start_args(folder.path(), &set);
    let answers: Vec<String> = (0..20)
        .map(|_| ask(&mut connect(&server), "/v1/sync/public/schema"))
        .collect();
    let of = |status: &str| {
        let start = format!("HTTP/1.1 {status}");
        answers.iter().filter(|a| a.starts_with(&start)).count()
    };
    assert!(of("200") >= 2, "{answers:?}");
    assert!(of("429") >= 1, "{answers:?}");
    let refused = answers.iter().find(|a| a.starts_with("HTTP/1.1 429"));
    assert!(refused.unwrap().contains("retry-after: "), "{refused:?}");
}
