//! Live connections against a WebSocket server that says what the test tells it to.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lakesync_proto::{
    ClientBody, ClientFrame, PageFrame, ServerBody, decode_client_frame, encode_page_frame,
    encode_server_frame, wire,
};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Error, Message, WebSocket};

use super::server::{Answer, serving};
use super::{brief, client_id, no_schemas, page, schemas, transport};
use crate::sync::{Reply, Subscribe};
use crate::transport::{
    LiveConnection, LiveEvents, LiveReplies, Timeouts, Transport, TransportError,
};

type ServerSocket = WebSocket<TcpStream>;

fn subscribe() -> Subscribe {
    Subscribe {
        client_id: client_id(),
        cursor: "AQx".to_owned(),
        schemas: schemas(),
    }
}

/// Accepts one WebSocket and has `talk` go on; its result is what the client asked for and what `talk` gave.
fn talking<T: Send + 'static>(
    talk: impl FnOnce(ServerSocket) -> T + Send + 'static,
) -> (String, JoinHandle<(String, T)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        #[expect(
            clippy::result_large_err,
            reason = "the callback's type is the WebSocket library's"
        )]
        let look = |request: &Request, response: Response| {
            let token = request.headers().get("authorization");
            asked = format!("{} {:?}", request.uri(), token);
            Ok(response)
        };
        let socket = tungstenite::accept_hdr(stream, look).unwrap();
        (asked, talk(socket))
    });
    (url, server)
}

fn say(socket: &mut ServerSocket, bytes: Vec<u8>) {
    socket.send(Message::binary(bytes)).unwrap();
}

fn live(request_id: u64, number: u32) -> Vec<u8> {
    encode_page_frame(request_id, PageFrame::Live, &page(number, false))
}

/// Reads the subscription and answers it with page 1.
fn begin(socket: &mut ServerSocket) -> String {
    let message = socket.read().unwrap();
    let Ok(ClientFrame::Native { request_id, body }) = decode_client_frame(&message.into_data())
    else {
        panic!("it is no native request");
    };
    let ClientBody::Subscribe { cursor } = body else {
        panic!("it is no subscription: {body:?}");
    };
    say(socket, live(request_id, 1));
    cursor.unwrap()
}

/// What is told, as it comes.
struct Listener {
    _connection: Box<dyn LiveConnection>,
    replies: LiveReplies,
    woken: Receiver<()>,
}

impl Listener {
    fn next(&self) -> Reply {
        loop {
            if let Some(reply) = self.replies.take() {
                return reply;
            }
            self.woken.recv_timeout(Duration::from_secs(20)).unwrap();
        }
    }

    fn page(&self) -> u64 {
        match self.next() {
            Reply::Live(page) => page.cursor.as_u64(),
            other => panic!("no page: {other:?}"),
        }
    }

    fn end(&self) -> TransportError {
        match self.next() {
            Reply::LiveEnded(error) => error,
            other => panic!("no end: {other:?}"),
        }
    }
}

fn listen(url: &str, timeouts: Timeouts) -> Result<Listener, TransportError> {
    let (wake, woken) = channel();
    let (events, replies) = LiveEvents::channel(move || {
        let _ = wake.send(());
    });
    let transport = transport(url).with_timeouts(timeouts).with_token("secret");
    Ok(Listener {
        _connection: transport.live(&subscribe(), events)?,
        replies,
        woken,
    })
}

fn patient() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        exchange: Duration::from_secs(20),
        silence: Duration::from_secs(20),
    }
}

#[test]
fn pages_are_told_as_they_come_and_the_goodbye_is_said() {
    let (url, server) = talking(|mut socket| {
        let cursor = begin(&mut socket);
        say(&mut socket, live(0, 2));
        say(
            &mut socket,
            encode_server_frame(0, ServerBody::Expiring { seconds: 60 }),
        );
        say(&mut socket, live(0, 3));
        let goodbye = socket.read().unwrap();
        (cursor, goodbye)
    });
    let listener = listen(&url, patient()).unwrap();
    assert_eq!(listener.page(), 1);
    assert_eq!(listener.page(), 2);
    assert!(matches!(listener.next(), Reply::Expiring));
    assert_eq!(listener.page(), 3);
    let woken = {
        let Listener {
            _connection,
            replies: _replies,
            woken,
        } = listener;
        drop(_connection);
        woken
    };
    let (asked, (cursor, goodbye)) = server.join().unwrap();
    assert_eq!(
        asked,
        r#"/v1/sync/public/ws?native=true Some("Bearer secret")"#
    );
    assert_eq!(cursor, "AQx");
    assert!(goodbye.is_close(), "{goodbye:?}");
    // The thread lets go of the queue: it has ended.
    while woken.recv_timeout(Duration::from_secs(20)).is_ok() {}
}

#[test]
fn a_subscription_that_is_refused_is_no_connection() {
    let (url, _server) = talking(|mut socket| {
        socket.read().unwrap();
        let error = wire::ErrorBody {
            code: "CURSOR_EXPIRED".to_owned(),
            message: "load the checkpoint".to_owned(),
            details: r#"{"tables":["stock"],"cursor":"AQz"}"#.to_owned(),
            ..wire::ErrorBody::default()
        };
        say(
            &mut socket,
            encode_server_frame(1, ServerBody::Error(error)),
        );
        socket.read().map(drop)
    });
    let Err(TransportError::Refused(refusal)) = listen(&url, patient()).map(drop) else {
        panic!("it was refused");
    };
    assert_eq!(
        (refusal.status, refusal.code.as_str()),
        (410, "CURSOR_EXPIRED")
    );
    assert_eq!(refusal.details["cursor"], "AQz");
}

#[test]
fn a_handshake_that_is_refused_says_why() {
    let busy = r#"{"error":"too many","code":"BACKPRESSURE_ERROR"}"#;
    let headers = ["Content-Type: application/json", "Retry-After: 3"];
    let page = Answer::new("200 OK", &["Content-Type: text/html"], "<html>");
    let cases = [
        (
            Answer::new("503 Service Unavailable", &headers, busy),
            "too many",
        ),
        (
            Answer::json(
                "401 Unauthorized",
                r#"{"error":"expired","code":"AUTH_ERROR"}"#,
            ),
            "expired",
        ),
        (
            Answer::json(
                "426 Upgrade Required",
                r#"{"error":"no","code":"VALIDATION_ERROR"}"#,
            ),
            "status 426",
        ),
        (page, "no LakeSync gateway"),
        (Answer::raw("nonsense\r\n\r\n"), "no answer"),
        (Answer::raw(""), "no answer"),
    ];
    for (answer, text) in cases {
        let (url, _server) = serving(vec![answer]);
        let error = listen(&url, patient()).map(drop).unwrap_err();
        assert!(error.to_string().contains(text), "{text}: {error:?}");
    }
}

#[test]
fn a_server_that_hangs_while_it_connects_is_an_error_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let error = listen(&url, brief()).map(drop).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(listener);
    let error = listen(&url, brief()).map(drop).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    // It shakes hands, and then does not answer.
    let (url, _server) = talking(|mut socket| {
        socket.read().unwrap();
        socket.read().map(drop)
    });
    let error = listen(&url, brief()).map(drop).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[test]
fn whatever_the_gateway_says_the_connection_ends_or_goes_on() {
    let ends: [(Message, &str); 5] = [
        (Message::text("hello"), "text"),
        (Message::binary(vec![0x10, 0xff, 0xff]), "cannot be read"),
        (Message::binary(vec![1]), "cannot be read"),
        (
            Message::binary(vec![3, 0x11, 2, 0, 0, 0, 0, 0, 0, 0]),
            "another kind",
        ),
        (Message::Close(None), "closed"),
    ];
    for (message, text) in ends {
        let (url, _server) = talking(move |mut socket| {
            begin(&mut socket);
            socket.send(Message::Ping(vec![1].into())).unwrap();
            socket.send(message).unwrap();
            while socket.read().is_ok() {}
        });
        let listener = listen(&url, patient()).unwrap();
        assert_eq!(listener.page(), 1);
        let error = listener.end();
        let told = format!("{error} {error:?}");
        assert!(told.contains(text), "{text}: {told}");
    }
}

#[test]
fn a_connection_that_breaks_is_told_once() {
    let (url, server) = talking(|mut socket| {
        begin(&mut socket);
    });
    let listener = listen(&url, patient()).unwrap();
    assert_eq!(listener.page(), 1);
    let error = listener.end();
    assert!(error.is_retryable(), "{error:?}");
    server.join().unwrap();
    while listener.woken.recv_timeout(Duration::from_secs(20)).is_ok() {}
    assert!(listener.replies.take().is_none());
}

#[test]
fn a_silent_gateway_is_asked_for_life_and_then_given_up() {
    let (url, server) = talking(|mut socket| {
        begin(&mut socket);
        // Without reading there is no answer to a ping.
        let mut seen = Vec::new();
        loop {
            match socket.read() {
                Ok(message) => seen.push(message.is_ping()),
                Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_)) => return seen,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let listener = listen(&url, brief()).unwrap();
    assert_eq!(listener.page(), 1);
    // The server answers pings while it reads, so the connection lives past its silence.
    let silence = brief().silence;
    // The page may have woken twice.
    while listener.woken.recv_timeout(silence * 3).is_ok() {
        assert!(listener.replies.take().is_none());
    }
    drop(listener);
    let (_, seen) = server.join().unwrap();
    assert!(seen.iter().filter(|ping| **ping).count() >= 2, "{seen:?}");

    let (quit, quitting) = channel::<()>();
    let (url, server) = talking(move |mut socket| {
        begin(&mut socket);
        let _ = quitting.recv();
    });
    let listener = listen(&url, brief()).unwrap();
    assert_eq!(listener.page(), 1);
    let error = listener.end();
    assert!(
        format!("{error:?}").contains("nothing was heard"),
        "{error:?}"
    );
    drop(quit);
    server.join().unwrap();
}

#[test]
fn a_driver_that_takes_nothing_stops_the_reader_and_can_still_leave() {
    let (url, server) = talking(|mut socket| {
        begin(&mut socket);
        for number in 2..=20 {
            say(&mut socket, live(0, number));
        }
        while socket.read().is_ok() {}
    });
    let listener = listen(&url, patient()).unwrap();
    for number in 1..=7 {
        assert_eq!(listener.page(), number);
    }
    // Its fields go in order; the reader may be waiting for room in the queue.
    drop(listener.replies);
    drop(listener._connection);
    server.join().unwrap();
}

#[test]
fn a_page_of_tables_that_are_not_known_ends_the_connection() {
    let (url, _server) = talking(|mut socket| {
        begin(&mut socket);
        while socket.read().is_ok() {}
    });
    let (events, _replies) = LiveEvents::channel(|| {});
    let subscribe = Subscribe {
        schemas: no_schemas(),
        ..subscribe()
    };
    let error = transport(&url)
        .live(&subscribe, events)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, TransportError::Decode(_)), "{error:?}");
}

#[test]
fn a_transport_without_live_connections_says_so() {
    struct Plain;
    impl Transport for Plain {
        fn push(
            &self,
            _: &lakesync_proto::Push,
        ) -> Result<lakesync_proto::PushAck, TransportError> {
            unreachable!()
        }
        fn pull(&self, _: &crate::Pull) -> Result<lakesync_proto::PullPage, TransportError> {
            unreachable!()
        }
        fn checkpoint(
            &self,
            _: &crate::CheckpointRequest,
        ) -> Result<Box<dyn crate::Chunks>, TransportError> {
            unreachable!()
        }
        fn schemas(&self) -> Result<Vec<lakesync_proto::TableSchema>, TransportError> {
            unreachable!()
        }
        fn put_schema(&self, _: &lakesync_proto::TableDefinition) -> Result<(), TransportError> {
            unreachable!()
        }
        fn digest(
            &self,
            _: &lakesync_proto::ClientId,
        ) -> Result<crate::GatewayDigest, TransportError> {
            unreachable!()
        }
    }
    let (events, _replies) = LiveEvents::channel(|| {});
    let error = Plain.live(&subscribe(), events).map(drop).unwrap_err();
    assert!(matches!(error, TransportError::NotLive { .. }), "{error:?}");
    assert!(!Plain.refresh_token() && Plain.gateway_ms().is_none());
}
