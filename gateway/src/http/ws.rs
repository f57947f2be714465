//! Push, pull and live deltas over one WebSocket; the messages are in `lakesync_proto`'s frames.
//!
//! A connection begins as a legacy one: it is sent what is new from now on. Its first native message makes it a native
//! one, which is sent nothing until it subscribes.
//!
//! | close code | when |
//! |---|---|
//! | 1001 | the server is on its way out, or nothing was heard for long |
//! | 1002, 1003 | a message that is none, a text |
//! | 1008 | a message that is wrong, a legacy push that was refused, too many messages, the token's end |
//! | 1009 | a message that is too large |
//! | 1011 | the gateway failed |
//! | 1013 | the reader is too slow; a legacy request met a busy gateway or its subject's limit; no memory for a message |
//!
//! A close stands behind what was sent before it: a reader that takes nothing may never see its 1013, only the end.
//!
//! **Invariant:** a subscription is contiguous from its cursor; nothing is queued for a reader that is slow, and a legacy
//! client is given no cursor that skips what it was not given.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use lakesync_proto::{ClientId, ErrorCode, Seq};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{ApiError, error_answer};
use super::connections::{Kind, Ticket};
use super::front::Front;
use super::live::{Form, Frame, Hub, Place, encode};
use super::security::Caller;
use super::sync;
use crate::error::{Error, Result};

mod budget;
mod requests;
#[cfg(test)]
mod tests;

use budget::Budget;

/// How often a silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a client may say nothing, not even an answer to a ping.
const SILENT_MAX: Duration = Duration::from_secs(90);
/// How many deltas a reader that had caught up may fall behind: it would not catch up again.
const LAG_DELTAS_MAX: u64 = 1_000_000;
/// How long before a token's end a native client is told, in milliseconds: time to fetch a new one.
const NOTICE_MS: u64 = 60_000;
/// How long a close may take to be written.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// What a close frame's reason may hold, by the protocol.
const REASON_BYTES_MAX: usize = 123;

/// How many bytes a connection reads at once: each holds a buffer of this size, and there are ten thousand.
const READ_BUFFER_BYTES: usize = 8 << 10;

mod code {
    pub(super) const AWAY: u16 = 1001;
    pub(super) const UNSUPPORTED: u16 = 1003;
    pub(super) const POLICY: u16 = 1008;
    pub(super) const TOO_LARGE: u16 = 1009;
    pub(super) const FAILED: u16 = 1011;
    pub(super) const AGAIN: u16 = 1013;
}

/// Push, pull and live deltas over a WebSocket.
#[utoipa::path(
    get,
    path = "/v1/sync/{g}/ws",
    tag = "sync",
    params(
        ("g" = String, Path, description = "The gateway"),
        ("token" = Option<String>, Query, description = "The token, where headers cannot be set"),
        ("native" = Option<bool>, Query, description = "Sends nothing before the first subscription")
    ),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 426, description = "This was no WebSocket handshake", body = super::shapes::Error),
        (status = 503, description = "Too many live connections", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn connect(
    State(front): State<Front>,
    caller: Caller,
    Query(params): Query<HashMap<String, String>>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> std::result::Result<Response, ApiError> {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let text = format!("this route is a WebSocket: {rejection}");
            let status = StatusCode::UPGRADE_REQUIRED;
            return Ok(error_answer(
                status,
                ErrorCode::ValidationError,
                &text,
                None,
            ));
        }
    };
    let ticket = caller.connect(&front, Kind::WebSocket, None)?;
    let bytes_max = front.config().message_bytes_max;
    let mode = match params.get("native").is_some_and(|native| native == "true") {
        true => Mode::Native(None),
        false => Mode::begin(&caller),
    };
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(bytes_max)
        .max_frame_size(bytes_max);
    Ok(upgrade.on_upgrade(move |socket| async move {
        Session::new(front, caller, socket, mode, ticket)
            .run()
            .await;
    }))
}

/// As `/v1/sync/{g}/ws`: the path of older clients.
#[utoipa::path(
    get,
    path = "/sync/{g}/ws",
    tag = "sync",
    params(("g" = String, Path, description = "The gateway")),
    responses((status = 101, description = "The WebSocket is open")),
    security(("bearer" = []))
)]
pub(super) async fn connect_unversioned(
    front: State<Front>,
    caller: Caller,
    params: Query<HashMap<String, String>>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> std::result::Result<Response, ApiError> {
    connect(front, caller, params, upgrade).await
}

/// What a connection is sent without asking.
#[derive(Clone, Debug)]
enum Mode {
    /// Broadcasts from `at` on. The client was given everything up to `given`, when that is known.
    Legacy { at: Seq, given: Option<Seq> },
    /// Pages from a cursor on, once it has subscribed.
    Native(Option<Place>),
}

impl Mode {
    fn begin(caller: &Caller) -> Self {
        Self::Legacy {
            at: *caller.gateway.visible().borrow(),
            given: None,
        }
    }

    /// Up to where a legacy client was given everything, when that is known: over this connection, so an answer that
    /// it is sent now comes after it.
    fn given(&self) -> Option<Seq> {
        match self {
            Self::Legacy { given, .. } => *given,
            Self::Native(_) => None,
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            Self::Legacy { at, .. } => Some(Place::Legacy(*at)),
            Self::Native(place) => place.clone(),
        }
    }

    /// A broadcast's cursor is adopted by the client, so it is only told when nothing before it is missing.
    fn form(&self) -> Form {
        match self {
            Self::Legacy { at, given } if *given < Some(*at) => Form::Unanchored,
            _ => Form::Message,
        }
    }
}

/// Why a connection ends.
enum End {
    /// The peer has gone, or does not take what it is sent.
    Gone,
    Close(u16, String),
}

impl End {
    fn policy(reason: impl Into<String>) -> Self {
        Self::Close(code::POLICY, reason.into())
    }
}

/// What a connection wakes up for.
enum Event {
    Message(Option<std::result::Result<Message, axum::Error>>),
    Frame(Result<Option<Arc<Frame>>>),
    /// Something is new, or the time has come to look.
    Woken,
}

struct Session {
    front: Front,
    caller: Caller,
    hub: Arc<Hub>,
    socket: WebSocket,
    mode: Mode,
    /// Who it is, once that is known: the token's subject, or the first client id it named.
    client: Option<ClientId>,
    /// Whether it was sent everything visible.
    current: bool,
    was_current: bool,
    visible: watch::Receiver<Seq>,
    draining: watch::Receiver<bool>,
    schemas: watch::Receiver<u64>,
    /// The hash over the schemas that a native client was told.
    known: u64,
    budget: Budget,
    heard: Instant,
    pinged: Instant,
    noticed: bool,
    _ticket: Ticket,
}

impl Session {
    fn new(front: Front, caller: Caller, socket: WebSocket, mode: Mode, ticket: Ticket) -> Self {
        let now = Instant::now();
        let hub = front.hub(&caller.gateway);
        let schemas = hub.schemas();
        let known = *schemas.borrow();
        Self {
            hub,
            schemas,
            known,
            socket,
            mode,
            client: caller.identity.subject.clone(),
            current: false,
            was_current: false,
            visible: caller.gateway.visible(),
            draining: front.draining(),
            budget: Budget::new(front.config().messages_per_second, now),
            heard: now,
            pinged: now,
            noticed: false,
            front,
            caller,
            _ticket: ticket,
        }
    }

    async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
        };
        if let End::Close(code, reason) = end {
            tracing::debug!(gateway = %self.caller.gateway.id(), code, reason, "a WebSocket is closed");
            let end = reason.floor_char_boundary(REASON_BYTES_MAX.min(reason.len()));
            let reason = reason[..end].into();
            let close = Message::Close(Some(CloseFrame { code, reason }));
            // A peer that does not take its close is gone.
            drop(timeout(CLOSE_MAX, self.socket.send(close)).await);
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        self.look_around().await?;
        self.tell_schemas().await?;
        match self.event().await {
            Event::Message(message) => self.receive(message).await,
            Event::Frame(frame) => self.deliver(frame).await,
            Event::Woken => Ok(()),
        }
    }

    /// What time and the process demand.
    async fn look_around(&mut self) -> Result<(), End> {
        if *self.draining.borrow_and_update() {
            return Err(End::Close(
                code::AWAY,
                "Service is shutting down".to_owned(),
            ));
        }
        let now = Instant::now();
        if now.duration_since(self.heard) >= SILENT_MAX {
            return Err(End::Close(
                code::AWAY,
                "nothing was heard for 90 s".to_owned(),
            ));
        }
        if now.duration_since(self.pinged) >= PING_EVERY {
            self.pinged = now;
            // Rules may have changed with nothing new to send.
            self.current = false;
            self.hub.look_at_schemas();
            self.send(Message::Ping(Bytes::new())).await?;
        }
        let Some(left_ms) = self.left_ms() else {
            return Ok(());
        };
        if left_ms == 0 {
            return Err(End::policy("token expired: connect again with a new one"));
        }
        if left_ms <= NOTICE_MS && !self.noticed && matches!(self.mode, Mode::Native(_)) {
            self.noticed = true;
            self.notice(left_ms).await?;
        }
        Ok(())
    }

    /// How long the token lasts, in milliseconds.
    fn left_ms(&self) -> Option<u64> {
        let end_ms = self.caller.expires_ms()?;
        Some(end_ms.saturating_sub(self.front.now_ms()))
    }

    /// When to look around next.
    fn wake_at(&self) -> Instant {
        let pinged = self.pinged + PING_EVERY;
        let Some(left_ms) = self.left_ms() else {
            return pinged;
        };
        let left_ms = match self.noticed {
            false if left_ms > NOTICE_MS => left_ms - NOTICE_MS,
            _ => left_ms,
        };
        pinged.min(Instant::now() + Duration::from_millis(left_ms))
    }

    /// Waits for the peer, for a frame, or for time to pass. Dropping any of these futures loses nothing.
    async fn event(&mut self) -> Event {
        let wake_at = self.wake_at();
        let place = self.mode.place().filter(|_| !self.current);
        let Self {
            socket,
            hub,
            visible,
            draining,
            schemas,
            caller,
            front,
            client,
            mode,
            ..
        } = self;
        let event = async {
            match place {
                Some(place) => {
                    visible.mark_unchanged();
                    let wanted = (hub.as_ref(), &place, mode.form());
                    tokio::select! {
                        message = socket.recv() => Event::Message(message),
                        frame = sync::live(front, caller, wanted, client.as_ref()) => Event::Frame(frame),
                    }
                }
                None => tokio::select! {
                    message = socket.recv() => Event::Message(message),
                    _ = visible.changed() => Event::Woken,
                    _ = schemas.changed() => Event::Woken,
                    _ = draining.changed() => Event::Woken,
                },
            }
        };
        let event = timeout_at(wake_at, event).await.unwrap_or(Event::Woken);
        if matches!(event, Event::Woken) {
            self.current = false;
        }
        event
    }

    /// Sends a frame and moves on.
    async fn deliver(&mut self, frame: Result<Option<Arc<Frame>>>) -> Result<(), End> {
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.current = true;
                self.was_current = true;
                return Ok(());
            }
            // The rules changed while the page was read: the next one is read by the new ones.
            Err(Error::Refused(refusal)) if refusal.code == ErrorCode::BackpressureError => {
                return Ok(());
            }
            Err(error) => return self.unsubscribe(error).await,
        };
        self.check_lag()?;
        // What the frame holds may be of the new schemas.
        self.tell_schemas().await?;
        let anchored = self.mode.form() == Form::Message;
        if !frame.bytes.is_empty() {
            self.send(Message::Binary(frame.bytes.clone())).await?;
        }
        match (&mut self.mode, &frame.next) {
            (Mode::Legacy { at, given }, Place::Legacy(next)) => {
                *at = *next;
                if anchored {
                    *given = Some(*next);
                }
            }
            (Mode::Native(place), next) => *place = Some(next.clone()),
            (Mode::Legacy { .. }, Place::Native(_)) => {
                unreachable!("a frame goes on from where it begins")
            }
        }
        Ok(())
    }

    /// Tells a subscribed native client of other schemas than it was told.
    async fn tell_schemas(&mut self) -> Result<(), End> {
        let Mode::Native(Some(place)) = &self.mode else {
            return Ok(());
        };
        if *self.schemas.borrow_and_update() == self.known {
            return Ok(());
        }
        let audience = self.caller.gateway.audience(&self.caller.identity);
        let Some((page, hash)) = self.hub.schemas_page(place, &audience, self.known) else {
            return Ok(());
        };
        self.known = hash;
        let bytes = encode(page, place, Form::Message);
        self.send(Message::Binary(bytes)).await
    }

    fn check_lag(&self) -> Result<(), End> {
        let at = self.mode.place().map_or(Seq::ZERO, |place| place.seq());
        let lag = self.visible.borrow().as_u64().saturating_sub(at.as_u64());
        match self.was_current && lag > LAG_DELTAS_MAX {
            true => Err(End::Close(
                code::AGAIN,
                format!("this reader fell {lag} deltas behind; pull, then connect again"),
            )),
            false => Ok(()),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let stalled = self.front.config().stalled;
        match timeout(stalled, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(
                code::AGAIN,
                format!("this reader took nothing for {} ms", stalled.as_millis()),
            )),
        }
    }
}

fn failed(error: &Error) -> End {
    End::Close(code::FAILED, error.to_string())
}
