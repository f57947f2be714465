//! The HTTP transport against a server that says what the test tells it to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lakesync_proto::{ClientId, GatewayId, Push, Schemas, Seq, TableName, TableSchema};

use super::{STOCK, schema};
use crate::transport::{Pull, Transport, TransportError};
use crate::{HttpTransport, Timeouts};

struct NoSchemas;

impl Schemas for NoSchemas {
    fn schema(&self, _: &TableName) -> Option<std::sync::Arc<TableSchema>> {
        None
    }
}

/// Answers one request with these bytes, and returns the request's head and body.
fn answering(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        request
    });
    (url, server)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nRetry-After: 7\r\nConnection: close\r\n\r\n{body}"
    )
}

fn transport(url: &str) -> HttpTransport {
    HttpTransport::new(url, GatewayId::parse("public").unwrap()).unwrap()
}

fn pull() -> Pull {
    Pull {
        client_id: ClientId::parse("a b/ü").unwrap(),
        since: Seq::ZERO,
        limit: 10,
    }
}

fn empty_push() -> Push {
    Push {
        client_id: ClientId::parse("a").unwrap(),
        deltas: Vec::new(),
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

const EPOCH: &str = "00000000-0000-4000-8000-000000000000";

#[test]
fn a_pull_asks_by_path_and_query_and_reads_the_page() {
    let page = format!(r#"{{"deltas":[],"serverHlc":"12","hasMore":false,"epoch":"{EPOCH}"}}"#);
    let (url, server) = answering(response("200 OK", &page));
    let page = transport(&url)
        .with_token("secret")
        .pull(&pull(), &NoSchemas)
        .unwrap();
    assert_eq!(
        (page.cursor.as_u64(), page.has_more, page.epoch.as_str()),
        (12, false, EPOCH)
    );
    let request = server.join().unwrap();
    assert!(
        request.starts_with(
            "GET /v1/sync/public/pull?since=0&clientId=a%20b%2F%C3%BC&limit=10 HTTP/1.1\r\n"
        ),
        "{request}"
    );
    assert!(
        request
            .to_ascii_lowercase()
            .contains("\r\nauthorization: bearer secret\r\n"),
        "{request}"
    );
}

#[test]
fn a_push_posts_json_and_reads_the_ack() {
    let ack =
        format!(r#"{{"serverHlc":"3","accepted":0,"deltas":[],"outcomes":[],"epoch":"{EPOCH}"}}"#);
    let (url, server) = answering(response("200 OK", &ack));
    let ack = transport(&format!("{url}/")).push(&empty_push()).unwrap();
    assert_eq!((ack.accepted, ack.cursor.as_u64()), (0, 3));
    let request = server.join().unwrap();
    assert!(
        request.starts_with("POST /v1/sync/public/push HTTP/1.1\r\n"),
        "{request}"
    );
    let body: serde_json::Value =
        serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        (&body["clientId"], &body["lastSeenHlc"]),
        (&"a".into(), &"0".into())
    );
}

#[test]
fn schemas_travel_both_ways() {
    let stock = schema(STOCK);
    let (url, server) = answering(response(
        "200 OK",
        &format!(r#"{{"tables":[{}],"epoch":"{EPOCH}"}}"#, stock.to_json()),
    ));
    assert_eq!(transport(&url).schemas().unwrap(), [stock]);
    assert!(
        server
            .join()
            .unwrap()
            .starts_with("GET /v1/sync/public/schema HTTP/1.1\r\n")
    );
    let (url, server) = answering(response("200 OK", r#"{"saved":true}"#));
    transport(&url)
        .put_schema(&serde_json::from_str(STOCK).unwrap())
        .unwrap();
    let request = server.join().unwrap();
    assert!(
        request.starts_with("POST /v1/admin/schema/public HTTP/1.1\r\n"),
        "{request}"
    );
    let body = request.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(schema(body), schema(STOCK));
}

#[test]
fn a_refusal_carries_the_servers_code_text_and_index() {
    let body = r#"{"error":"delta 4 is late","code":"LATE_DELTA","requestId":"r-1","index":4}"#;
    let (url, _server) = answering(response("422 Unprocessable Entity", body));
    let Err(TransportError::Refused(refusal)) = transport(&url).push(&empty_push()) else {
        panic!("no refusal");
    };
    assert_eq!(
        (
            refusal.status,
            refusal.code.as_str(),
            refusal.message.as_str()
        ),
        (422, "LATE_DELTA", "delta 4 is late")
    );
    assert_eq!(
        (refusal.index, refusal.request_id.as_deref()),
        (Some(4), Some("r-1"))
    );
    assert_eq!(
        (refusal.retry_after, refusal.is_retryable()),
        (Some(Duration::from_secs(7)), false)
    );
}

#[test]
fn an_error_page_of_something_else_is_shown_shortened() {
    let (url, _server) = answering(response("502 Bad Gateway", &"<html>".repeat(1_000)));
    let error = transport(&url).push(&empty_push()).unwrap_err();
    assert!(error.is_retryable());
    assert!(
        error.to_string().starts_with("<html>") && error.to_string().len() < 300,
        "{error}"
    );
}

#[test]
fn an_answer_without_sense_is_an_error() {
    for body in ["", "{}", "[]", "<html>", r#"{"deltas":7}"#] {
        let (url, _server) = answering(response("200 OK", body));
        let error = transport(&url).pull(&pull(), &NoSchemas).unwrap_err();
        assert!(
            matches!(error, TransportError::Decode(_)),
            "{body}: {error}"
        );
        let (url, _server) = answering(response("200 OK", body));
        let error = transport(&url).schemas().unwrap_err();
        assert!(
            matches!(error, TransportError::Answer { .. }),
            "{body}: {error}"
        );
    }
}

#[test]
fn nobody_there_and_nobody_answering_are_errors_to_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let brief = Timeouts {
        connect: Duration::from_millis(200),
        exchange: Duration::from_millis(200),
    };
    // The listener accepts in its backlog and never answers.
    let error = transport(&url)
        .with_timeouts(brief)
        .push(&empty_push())
        .unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(listener);
    let error = transport(&url)
        .with_timeouts(brief)
        .push(&empty_push())
        .unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("127.0.0.1"),
        "{error:?}"
    );
}

#[test]
fn an_endless_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .unwrap();
        let chunk = vec![b' '; 1 << 20];
        let mut written = 0_u64;
        while stream.write_all(&chunk).is_ok() {
            written += 1 << 20;
        }
        written
    });
    let error = transport(&url).pull(&pull(), &NoSchemas).unwrap_err();
    assert!(matches!(error, TransportError::TooLong { .. }), "{error:?}");
    assert!(server.join().unwrap() < 256 << 20);
}

#[test]
fn only_plain_http_addresses_are_taken() {
    for url in [
        "https://example.org",
        "example.org",
        "http://",
        "http://host?x=1",
    ] {
        let gateway = GatewayId::parse("public").unwrap();
        assert!(
            matches!(
                HttpTransport::new(url, gateway),
                Err(TransportError::Address { .. })
            ),
            "{url}"
        );
    }
}
