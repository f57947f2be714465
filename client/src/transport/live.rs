//! Live pages over a WebSocket.
//!
//! ```text
//! this thread                     gateway                    reader thread
//!   ── TCP, TLS, upgrade ───────►
//!   ── Subscribe { cursor } ────►
//!   ◄────────── Live, or Error ──   the first page            ┌─► LiveEvents
//!   spawn ──────────────────────────────────────────────────► │
//!                                 ── Live, Expiring, Error ──►│
//!                                ◄── Ping, when it is silent ─│
//!   close ─────── the reading half ends ────────────────────► │
//!                                ◄── Close ───────────────────┘
//! ```
//! Invariant: an open connection has taken the subscription. It tells of its end once, unless it was closed from here.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use lakesync_proto::{ClientBody, ServerBody, encode_client_frame};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{AUTHORIZATION, USER_AGENT};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::sync::{Reply, Subscribe};
use crate::transport::answer::{failed, foreign};
use crate::transport::exchange::{Exchanges, unreachable};
use crate::transport::live_reader::{Reader, body_of, page_of, refusal_of};
use crate::transport::socket::{Closer, Socket};
use crate::transport::{LiveConnection, LiveEvents, TransportError};

/// The number of the one request that is ever made: the subscription.
pub(super) const SUBSCRIPTION: u64 = 1;

/// Longest message that is read, in bytes: as long as the longest answer to a pull.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Messages before the subscription's answer: a gateway has nothing else to say then, but may.
const MESSAGES_BEFORE_MAX: usize = 16;

/// An open connection, and the thread that reads it.
struct Live {
    closer: Arc<Closer>,
}

/// Connects, subscribes, and starts to tell.
pub(super) fn open(
    exchanges: &Exchanges,
    path: &str,
    subscribe: &Subscribe,
    events: LiveEvents,
) -> Result<Box<dyn LiveConnection>, TransportError> {
    let url = exchanges.address.socket_url(path);
    let deadline = Instant::now() + exchanges.timeouts.exchange;
    let (socket, closer) = Socket::open(exchanges, &url, deadline)?;
    let mut socket = shake_hands(exchanges, &url, socket)?;
    let cursor = Some(subscribe.cursor.clone());
    let frame = encode_client_frame(SUBSCRIPTION, ClientBody::Subscribe { cursor });
    socket
        .send(Message::binary(frame))
        .map_err(|source| unreachable(&url, source))?;
    let first = answer(&url, &mut socket, subscribe)?;
    let (read, write) = (exchanges.timeouts.silence / 2, exchanges.timeouts.exchange);
    socket
        .get_mut()
        .settle(read, write)
        .map_err(|source| unreachable(&url, source))?;
    let reader = Reader {
        url,
        socket,
        closer: Arc::clone(&closer),
        events,
        schemas: Arc::clone(&subscribe.schemas),
        silence_max: exchanges.timeouts.silence,
    };
    thread::Builder::new()
        .name("lakesync-live".to_owned())
        .spawn(move || reader.run(first))
        .map_err(|source| unreachable(&exchanges.address.url(path), source))?;
    Ok(Box::new(Live { closer }))
}

fn shake_hands(
    exchanges: &Exchanges,
    url: &str,
    socket: Socket,
) -> Result<WebSocket<Socket>, TransportError> {
    let mut request = url
        .into_client_request()
        .map_err(|source| unreachable(url, source))?;
    let agent = HeaderValue::from_static(concat!("lakesync-client/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, agent);
    if let Some(bearer) = exchanges.credentials.header()? {
        let bearer = HeaderValue::try_from(bearer).expect("credentials are graphic characters");
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match tungstenite::client::client_with_config(request, socket, Some(config)) {
        Ok((socket, answer)) => {
            exchanges.hear(Some(answer.headers()));
            Ok(socket)
        }
        Err(HandshakeError::Interrupted(_)) => {
            Err(unreachable(url, "the gateway did not answer in time"))
        }
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            let (head, body) = answer.into_parts();
            let body = body.unwrap_or_default();
            let as_error = match head.status.is_success() {
                true => foreign,
                false => failed,
            };
            Err(as_error(url, head.status, &head.headers, &body))
        }
        Err(HandshakeError::Failure(source)) => Err(unreachable(url, source)),
    }
}

/// The subscription's first page, and behind it what came before it and is to be told.
fn answer(
    url: &str,
    socket: &mut WebSocket<Socket>,
    subscribe: &Subscribe,
) -> Result<Vec<Reply>, TransportError> {
    let mut expiring = None;
    for _ in 0..MESSAGES_BEFORE_MAX {
        let message = socket.read().map_err(|source| unreachable(url, source))?;
        match body_of(url, &message)? {
            Some((SUBSCRIPTION, ServerBody::Live(page))) => {
                let page = page_of(&page, &subscribe.schemas)?;
                return Ok([Reply::Live(page)].into_iter().chain(expiring).collect());
            }
            Some((_, ServerBody::Error(error))) => return Err(refusal_of(error)),
            Some((_, ServerBody::Expiring { .. })) => expiring = Some(Reply::Expiring),
            Some(_) | None => {}
        }
    }
    Err(TransportError::Answer {
        url: url.to_owned(),
        reason: "it says much, and nothing of the subscription".to_owned(),
    })
}

impl LiveConnection for Live {}

impl Drop for Live {
    fn drop(&mut self) {
        self.closer.close();
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}
