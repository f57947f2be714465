//! Checkpoints as streams.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use lakesync_proto::{PullPage, TableName, encode_chunk};

use super::server::{Answer, gzip, read_request, serving};
use super::{brief, client_id, no_schemas, page, schemas, transport};
use crate::sync::CheckpointRequest;
use crate::transport::{Chunks, Transport, TransportError};

fn request() -> CheckpointRequest {
    CheckpointRequest {
        client_id: client_id(),
        tables: Vec::new(),
        resume: None,
        schemas: schemas(),
    }
}

fn stream(pages: &[PullPage]) -> Vec<u8> {
    let chunks = pages.iter().map(|page| encode_chunk(page).unwrap());
    chunks.collect::<Vec<_>>().concat()
}

fn rest(mut chunks: Box<dyn Chunks>) -> (Vec<PullPage>, Option<TransportError>) {
    let mut pages = Vec::new();
    loop {
        match chunks.next() {
            Ok(Some(page)) => pages.push(page),
            Ok(None) => return (pages, None),
            Err(error) => return (pages, Some(error)),
        }
    }
}

#[test]
fn a_checkpoint_is_asked_for_and_read_page_by_page() {
    let pages = [page(1, true), page(2, true), page(3, false)];
    let body = stream(&pages);
    let packed = Answer::new(
        "200 OK",
        &[
            "Content-Type: application/x-lakesync-checkpoint-stream",
            "Content-Encoding: gzip",
        ],
        gzip(&body),
    );
    let (url, server) = serving(vec![Answer::checkpoint(&body), packed]);
    let transport = transport(&url);
    let (read, error) = rest(transport.checkpoint(&request()).unwrap());
    assert!(read == pages && error.is_none(), "{error:?}");
    let request = CheckpointRequest {
        tables: vec![
            TableName::parse("stock").unwrap(),
            TableName::parse("todos").unwrap(),
        ],
        resume: Some("a+b/c=".to_owned()),
        ..request()
    };
    let (read, error) = rest(transport.checkpoint(&request).unwrap());
    assert!(read == pages && error.is_none(), "{error:?}");
    let requests = server.join().unwrap();
    assert_eq!(
        requests[0].line(),
        "GET /v1/sync/public/checkpoint?form=native&clientId=a%20b%2F%C3%BC HTTP/1.1"
    );
    assert!(requests[0].has("accept: application/x-lakesync-checkpoint-stream"));
    assert_eq!(
        requests[1].line(),
        "GET /v1/sync/public/checkpoint?form=native&clientId=a%20b%2F%C3%BC&tables=stock,todos\
         &resume=a%2Bb%2Fc%3D HTTP/1.1"
    );
}

#[test]
fn a_checkpoint_that_breaks_off_anywhere_is_no_whole_one() {
    let pages = [page(1, true), page(2, false)];
    let whole = stream(&pages);
    let first = stream(&pages[..1]).len();
    for cut in 0..whole.len() {
        let (url, _server) = serving(vec![Answer::checkpoint(&whole[..cut])]);
        let (read, error) = rest(transport(&url).checkpoint(&request()).unwrap());
        assert_eq!(read.len(), usize::from(cut >= first), "{cut}");
        assert!(error.is_some_and(|error| error.is_retryable()), "{cut}");
    }
}

#[test]
fn a_stream_that_is_none_of_a_checkpoint_is_refused_at_once() {
    for body in [
        &b"\xff\xff\xff\xff........"[..],
        b"\0\0\0\x02{}",
        b"\0\0\0\0",
    ] {
        let (url, _server) = serving(vec![Answer::checkpoint(body)]);
        let mut chunks = transport(&url).checkpoint(&request()).unwrap();
        let error = chunks.next().unwrap_err();
        assert!(!error.is_retryable(), "{error:?}");
        assert!(chunks.next().unwrap().is_none(), "it is over");
    }
    let (url, _server) = serving(vec![Answer::checkpoint(stream(&[page(1, false)]))]);
    let unknown = CheckpointRequest {
        schemas: no_schemas(),
        ..request()
    };
    let mut chunks = transport(&url).checkpoint(&unknown).unwrap();
    let error = chunks.next().unwrap_err();
    assert!(matches!(error, TransportError::Decode(_)), "{error:?}");
}

#[test]
fn an_expired_resume_token_is_a_refusal() {
    let body = r#"{"error":"begin anew","code":"CURSOR_EXPIRED"}"#;
    let (url, _server) = serving(vec![Answer::json("410 Gone", body)]);
    let Err(TransportError::Refused(refusal)) = transport(&url).checkpoint(&request()) else {
        panic!("it was refused");
    };
    assert_eq!(
        (refusal.status, refusal.code.as_str()),
        (410, "CURSOR_EXPIRED")
    );
}

#[test]
fn a_checkpoint_may_take_long_but_not_be_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (taken, next) = channel::<()>();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream, 0).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-lakesync-checkpoint-stream\r\n\
            Connection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut sent = 0;
        // A page whenever the last was taken, as long as the client likes; then nothing, and the line stays open.
        for () in &next {
            sent += 1;
            stream
                .write_all(&self::stream(&[page(sent, true)]))
                .unwrap();
        }
        drop(stream);
        sent
    });
    let transport = transport(&url).with_timeouts(brief());
    let mut chunks = transport.checkpoint(&request()).unwrap();
    let begun = std::time::Instant::now();
    let mut pages = 0;
    while begun.elapsed() < brief().exchange * 2 {
        taken.send(()).unwrap();
        assert!(chunks.next().unwrap().is_some());
        pages += 1;
    }
    let error = chunks.next().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(taken);
    assert_eq!(server.join().unwrap(), pages);
}
