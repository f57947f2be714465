//! A server that answers requests by a list, and keeps what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What came in one request.
#[derive(Debug)]
pub(super) struct Request {
    /// In lower case but for its first line.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// On which of the connections it came, from 0.
    pub(super) connection: usize,
}

impl Request {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(super) fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

/// An answer's bytes. Behind one that says `Connection: close` the connection ends.
#[derive(Clone, Debug)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Answer {
        Answer(bytes.into())
    }

    /// A whole answer with its length.
    pub(super) fn new(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        Answer([head.as_bytes(), b"\r\n", body].concat())
    }

    pub(super) fn protobuf(body: impl AsRef<[u8]>) -> Answer {
        Answer::new("200 OK", &["Content-Type: application/x-protobuf"], body)
    }

    pub(super) fn json(status: &str, body: &str) -> Answer {
        Answer::new(status, &["Content-Type: application/json"], body)
    }

    pub(super) fn checkpoint(body: impl AsRef<[u8]>) -> Answer {
        let of = "Content-Type: application/x-lakesync-checkpoint-stream";
        Answer::new("200 OK", &[of], body)
    }

    fn ends_connection(&self) -> bool {
        let text = String::from_utf8_lossy(&self.0).to_ascii_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        head.contains("connection: close") || !head.contains("content-length")
    }
}

/// Gives these answers to as many requests, in order; the thread's result is what they asked.
pub(super) fn serving(answers: Vec<Answer>) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut requests = Vec::new();
        let mut connections = 0;
        let mut open: Option<TcpStream> = None;
        for answer in answers {
            let request = loop {
                let stream = open.get_or_insert_with(|| {
                    connections += 1;
                    listener.accept().unwrap().0
                });
                match read_request(stream, connections - 1) {
                    Some(request) => break request,
                    None => open = None,
                }
            };
            requests.push(request);
            let stream = open.as_mut().unwrap();
            // A client that has heard enough goes before the end.
            let gone = stream.write_all(&answer.0).is_err();
            if gone || answer.ends_connection() {
                open = None;
            }
        }
        requests
    });
    (url, server)
}

/// The next request; none at the connection's end.
pub(super) fn read_request(stream: &mut impl Read, connection: usize) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    let head = format!("{line}\r\n{}", rest.to_ascii_lowercase());
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    Some(Request {
        head,
        body,
        connection,
    })
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
