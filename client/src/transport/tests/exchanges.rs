//! What goes over the wire, and what comes back.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use lakesync_proto::{
    Notes, Outcome, PushAck, Seq, TableDefinition, TableSchema, decode_push_protobuf,
    encode_ack_protobuf, encode_page_protobuf,
};

use super::server::{Answer, gzip, read_request, serving};
use super::{
    EPOCH, STOCK, brief, client_id, no_schemas, page, pull, push, schemas, stock, transport,
};
use crate::sync::Pull;
use crate::transport::{Transport, TransportError};

fn ack(accepted: u32) -> Vec<u8> {
    let seqs = 1..=u64::from(accepted);
    encode_ack_protobuf(&PushAck {
        accepted,
        cursor: Seq::from_u64(u64::from(accepted)).unwrap(),
        outcomes: seqs
            .map(|seq| Outcome::Accepted(Seq::from_u64(seq).unwrap()))
            .collect(),
        ignored: Default::default(),
        epoch: EPOCH.parse().unwrap(),
        notes: Notes::default(),
    })
}

#[test]
fn a_pull_asks_by_path_and_query_and_reads_the_page() {
    let sent = page(12, true);
    let (url, server) = serving(vec![Answer::protobuf(encode_page_protobuf(&sent))]);
    let page = transport(&url).with_token("secret").pull(&pull()).unwrap();
    assert_eq!(page, sent);
    let requests = server.join().unwrap();
    assert_eq!(
        requests[0].line(),
        "GET /v1/sync/public/pull?cursor=AbC_-1&clientId=a%20b%2F%C3%BC&limit=10&schemas=77 HTTP/1.1"
    );
    assert!(requests[0].has("authorization: bearer secret"));
    assert!(requests[0].has("accept: application/x-protobuf"));
    assert!(requests[0].has("accept-encoding: gzip"));
}

#[test]
fn a_small_push_goes_as_it_is_and_a_large_one_is_packed() {
    let (url, server) = serving(vec![Answer::protobuf(ack(1)), Answer::protobuf(ack(200))]);
    let transport = transport(&format!("{url}/"));
    assert_eq!(transport.push(&push(1)).unwrap().accepted, 1);
    assert_eq!(transport.push(&push(200)).unwrap().outcomes.len(), 200);
    let requests = server.join().unwrap();
    assert_eq!(requests[0].line(), "POST /v1/sync/public/push HTTP/1.1");
    assert!(requests[0].has("content-type: application/x-protobuf"));
    assert!(!requests[0].has("content-encoding: gzip"));
    let plain = decode_push_protobuf(&requests[0].body, schemas().as_ref()).unwrap();
    assert_eq!(plain, push(1));
    assert!(requests[1].has("content-encoding: gzip"));
    let mut body = Vec::new();
    let mut packed = flate2::read::GzDecoder::new(&requests[1].body[..]);
    std::io::Read::read_to_end(&mut packed, &mut body).unwrap();
    assert_eq!(
        decode_push_protobuf(&body, schemas().as_ref()).unwrap(),
        push(200)
    );
    // Half of a delta is its id, which nothing packs well; how well depends on the library behind it.
    assert!(requests[1].body.len() < body.len() / 4 * 3);
    assert_eq!(
        requests[1].connection, requests[0].connection,
        "the connection is kept"
    );
}

#[test]
fn a_packed_answer_is_unpacked() {
    let sent = page(3, false);
    let packed = gzip(&encode_page_protobuf(&sent));
    let headers = [
        "Content-Type: application/x-protobuf",
        "Content-Encoding: gzip",
    ];
    let unasked = [
        "Content-Type: application/x-protobuf",
        "Content-Encoding: br",
    ];
    let (url, _server) = serving(vec![
        Answer::new("200 OK", &headers, &packed),
        Answer::new("200 OK", &headers, &packed[..packed.len() / 2]),
        Answer::new("200 OK", &unasked, &packed),
    ]);
    let transport = transport(&url);
    assert_eq!(transport.pull(&pull()).unwrap(), sent);
    let cut = transport.pull(&pull()).unwrap_err();
    assert!(matches!(cut, TransportError::Unreachable { .. }), "{cut:?}");
    let other = transport.pull(&pull()).unwrap_err();
    assert!(other.to_string().contains("packed as br"), "{other}");
}

#[test]
fn a_small_answer_that_inflates_without_end_is_cut_off() {
    let bomb = gzip(&vec![0; 65 << 20]);
    assert!(bomb.len() < 1 << 20);
    let headers = [
        "Content-Type: application/x-protobuf",
        "Content-Encoding: gzip",
    ];
    let (url, _server) = serving(vec![Answer::new("200 OK", &headers, bomb)]);
    let error = transport(&url).pull(&pull()).unwrap_err();
    assert!(matches!(error, TransportError::TooLong { .. }), "{error:?}");
}

#[test]
fn an_endless_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream, 0).unwrap();
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = vec![b' '; 1 << 20];
        let mut written = 0_u64;
        while stream.write_all(&chunk).is_ok() {
            written += 1 << 20;
        }
        written
    });
    let error = transport(&url).pull(&pull()).unwrap_err();
    assert!(matches!(error, TransportError::TooLong { .. }), "{error:?}");
    assert!(server.join().unwrap() < 256 << 20);
}

#[test]
fn schemas_and_digests_come_as_json() {
    let schemas = format!(
        r#"{{"tables":[{}],"epoch":"{EPOCH}","hash":"7"}}"#,
        stock().to_json()
    );
    let digest = r#"{"seq":"9","cursor":"AQ","tables":[
        {"table":"stock","rows":2,"cells":5,"hash":"18446744073709551615"}]}"#;
    let (url, server) = serving(vec![
        Answer::json("200 OK", &schemas),
        Answer::json("200 OK", digest),
        Answer::json("200 OK", r#"{"saved":true}"#),
    ]);
    let transport = transport(&url);
    assert_eq!(transport.schemas().unwrap(), [stock()]);
    let digest = transport.digest(&client_id()).unwrap();
    assert_eq!(digest.cursor, "AQ");
    let stock = &digest.tables[0];
    assert_eq!((stock.rows, stock.cells, stock.hash), (2, 5, u64::MAX));
    let definition: TableDefinition = serde_json::from_str(STOCK).unwrap();
    transport.put_schema(&definition).unwrap();
    let requests = server.join().unwrap();
    assert_eq!(requests[0].line(), "GET /v1/sync/public/schema HTTP/1.1");
    assert_eq!(
        requests[1].line(),
        "GET /v1/sync/public/digest?clientId=a%20b%2F%C3%BC HTTP/1.1"
    );
    assert_eq!(requests[2].line(), "POST /v1/admin/schema/public HTTP/1.1");
    let sent: TableDefinition = serde_json::from_slice(&requests[2].body).unwrap();
    assert_eq!(TableSchema::from_definition(&sent).unwrap(), super::stock());
}

#[test]
fn an_answer_without_sense_is_an_error() {
    for body in [
        "{}",
        "[]",
        "<html>",
        r#"{"tables":7}"#,
        r#"{"tables":[{}]}"#,
        "\0\0",
    ] {
        let (url, _server) = serving(vec![
            Answer::protobuf(body),
            Answer::json("200 OK", body),
            Answer::json("200 OK", body),
        ]);
        let transport = transport(&url);
        let error = transport.pull(&pull()).unwrap_err();
        assert!(
            matches!(error, TransportError::Decode(_)),
            "{body}: {error}"
        );
        for error in [
            transport.schemas().unwrap_err(),
            transport.digest(&client_id()).unwrap_err(),
        ] {
            assert!(
                matches!(error, TransportError::Answer { .. }),
                "{body}: {error}"
            );
        }
    }
}

#[test]
fn a_page_of_tables_that_are_not_known_is_told_from_a_broken_one() {
    let (url, _server) = serving(vec![Answer::protobuf(encode_page_protobuf(&page(
        1, false,
    )))]);
    let pull = Pull {
        schemas: no_schemas(),
        ..pull()
    };
    let Err(TransportError::Decode(error)) = transport(&url).pull(&pull) else {
        panic!("the table is not known");
    };
    assert_eq!(error.code(), lakesync_proto::ErrorCode::UnknownTable);
}

#[test]
fn a_refusal_carries_all_that_the_gateway_said() {
    let body = r#"{"error":"delta 4 is ahead","code":"CLOCK_DRIFT","requestId":"r-1","index":4,
        "skewMs":3600000,"tables":["stock"]}"#;
    let headers = ["Content-Type: application/json", "Retry-After: 7"];
    let (url, _server) = serving(vec![Answer::new("409 Conflict", &headers, body)]);
    let Err(TransportError::Refused(refusal)) = transport(&url).push(&push(1)) else {
        panic!("no refusal");
    };
    assert_eq!(
        (
            refusal.status,
            refusal.code.as_str(),
            refusal.message.as_str()
        ),
        (409, "CLOCK_DRIFT", "delta 4 is ahead")
    );
    assert_eq!(
        (refusal.index, refusal.request_id.as_deref()),
        (Some(4), Some("r-1"))
    );
    assert_eq!(
        (refusal.retry_after, refusal.is_retryable()),
        (Some(Duration::from_secs(7)), false)
    );
    let details = serde_json::Value::Object(refusal.details);
    assert_eq!(
        details,
        serde_json::json!({"skewMs": 3_600_000, "tables": ["stock"]})
    );
}

#[test]
fn nobody_there_and_nobody_answering_are_errors_to_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let transport = transport(&url).with_timeouts(brief());
    // The listener accepts in its backlog and never answers.
    let error = transport.push(&push(1)).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(listener);
    let error = transport.push(&push(1)).unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("127.0.0.1"),
        "{error:?}"
    );
}

#[test]
fn a_connection_that_the_server_has_closed_is_no_lost_request() {
    let answer = Answer::protobuf(ack(1));
    let (url, server) = serving(vec![answer.clone()]);
    let transport = transport(&url);
    transport.push(&push(1)).unwrap();
    server.join().unwrap();
    // The pool's connection is dead by now. Either it is noticed, or the exchange is one that can be repeated.
    let error = transport.push(&push(1)).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[test]
fn the_gateways_clock_is_that_of_the_last_answer() {
    let json = "Content-Type: application/json";
    let date = "Date: Tue, 24 Nov 2026 12:00:00 GMT";
    let tables = r#"{"tables":[]}"#;
    let refused = r#"{"error":"no","code":"FORBIDDEN"}"#;
    let (url, server) = serving(vec![
        Answer::new("200 OK", &[json, date], tables),
        Answer::new("200 OK", &[json], tables),
        Answer::new("403 Forbidden", &[json, date], refused),
        Answer::new("200 OK", &[json, date, "Age: 10"], tables),
        Answer::new("502 Bad Gateway", &[date], "<html>"),
        Answer::new("200 OK", &[json, date], tables),
    ]);
    let transport = transport(&url);
    assert_eq!(transport.gateway_ms(), None, "nothing was asked yet");
    let clock = || {
        let _ = transport.schemas();
        transport.gateway_ms()
    };
    let told = |clock: Option<u64>| {
        let second = 1_795_521_600_000;
        clock.is_some_and(|ms| (second..second + 15_000).contains(&ms))
    };
    assert!(told(clock()));
    assert_eq!(clock(), None, "it said no time");
    assert!(told(clock()), "a refusal is an answer");
    assert_eq!(clock(), None, "it comes out of a cache");
    assert_eq!(clock(), None, "it is a proxy's");
    assert!(told(clock()));
    server.join().unwrap();
    assert_eq!(clock(), None, "there was no answer");
}

#[test]
fn a_slow_line_is_waited_for_as_long_as_something_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (_open, never) = std::sync::mpsc::channel::<()>();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream, 0).unwrap();
        let body = encode_page_protobuf(&page(1, false));
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        for piece in body.chunks(body.len() / 8) {
            let _ = never.recv_timeout(brief().silence / 3);
            stream.write_all(piece).unwrap();
        }
    });
    let begun = std::time::Instant::now();
    let page = transport(&url).with_timeouts(brief()).pull(&pull());
    assert_eq!(page.unwrap(), super::page(1, false));
    assert!(begun.elapsed() > brief().exchange);
    server.join().unwrap();
}

#[test]
fn an_answer_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (open, closed) = std::sync::mpsc::channel::<()>();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream, 0).unwrap();
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 9\r\n\r\nx";
        stream.write_all(head.as_bytes()).unwrap();
        let _ = closed.recv();
    });
    let transport = transport(&url).with_timeouts(brief());
    let error = transport.pull(&pull()).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(open);
    server.join().unwrap();
}
