//! What reads a live connection.
//!
//! Invariant: whatever the gateway sends, the thread ends, or waits for the next message, or for the driver to take the
//! last; it holds one message at a time.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakesync_proto::{
    ErrorCode, PullPage, Schemas, ServerBody, ServerFrame, decode_page_message,
    decode_server_frame, wire,
};
use tungstenite::{Bytes, Error, Message, WebSocket};

use crate::sync::Reply;
use crate::transport::answer::shown;
use crate::transport::exchange::unreachable;
use crate::transport::socket::{Closer, Socket};
use crate::transport::{LiveEvents, Refusal, TransportError};

/// A connection whose subscription the gateway has taken.
pub(super) struct Reader {
    pub(super) url: String,
    pub(super) socket: WebSocket<Socket>,
    pub(super) closer: Arc<Closer>,
    pub(super) events: LiveEvents,
    pub(super) schemas: Arc<dyn Schemas + Send + Sync>,
    /// How long the gateway may say nothing, not even an answer to a ping; it is asked when half of it has passed.
    pub(super) silence_max: Duration,
}

/// Why the reading ends.
enum End {
    /// The connection is over, which the driver is to know.
    Told(TransportError),
    /// Nobody listens any more.
    Closed,
}

impl From<TransportError> for End {
    fn from(error: TransportError) -> End {
        End::Told(error)
    }
}

impl Reader {
    /// Tells what has come already and everything after it.
    pub(super) fn run(mut self, first: Vec<Reply>) {
        let told = first.into_iter().all(|reply| self.events.tell(reply));
        let end = match told {
            true => self.read_on(),
            false => End::Closed,
        };
        // A goodbye that is not taken is still one.
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
        match end {
            End::Told(error) if !self.closer.is_closing() => {
                self.events.tell(Reply::LiveEnded(error));
            }
            End::Told(_) | End::Closed => {}
        }
    }

    fn read_on(&mut self) -> End {
        let mut heard = Instant::now();
        loop {
            let taken = match self.socket.read() {
                Ok(message) => {
                    heard = Instant::now();
                    self.take(&message)
                }
                Err(Error::Io(error)) if is_timeout(error.kind()) => self.ask_for_life(heard),
                Err(source) => Err(unreachable(&self.url, source).into()),
            };
            if let Err(end) = taken {
                return end;
            }
        }
    }

    fn ask_for_life(&mut self, heard: Instant) -> Result<(), End> {
        if heard.elapsed() >= self.silence_max {
            let text = format!("nothing was heard for {} ms", self.silence_max.as_millis());
            return Err(unreachable(&self.url, text).into());
        }
        self.socket
            .send(Message::Ping(Bytes::new()))
            .map_err(|source| unreachable(&self.url, source).into())
    }

    fn take(&mut self, message: &Message) -> Result<(), End> {
        let told = match body_of(&self.url, message)? {
            Some((_, ServerBody::Live(page))) => {
                let page = page_of(&page, &self.schemas)?;
                self.events.tell(Reply::Live(page))
            }
            Some((_, ServerBody::Expiring { .. })) => self.events.tell(Reply::Expiring),
            Some((_, ServerBody::Error(error))) => return Err(refusal_of(error).into()),
            Some((_, ServerBody::Answer(_) | ServerBody::Pong)) | None => true,
        };
        match told {
            true => Ok(()),
            false => Err(End::Closed),
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What a message says, and which request it answers; none when it is of the protocol below.
pub(super) fn body_of(
    url: &str,
    message: &Message,
) -> Result<Option<(u64, ServerBody)>, TransportError> {
    let foreign = |reason: String| TransportError::Answer {
        url: url.to_owned(),
        reason,
    };
    match message {
        Message::Binary(bytes) => {
            match decode_server_frame(bytes).map_err(|error| foreign(error.to_string()))? {
                ServerFrame::Native { request_id, body } => Ok(Some((request_id, body))),
                ServerFrame::LegacyAnswer(_) | ServerFrame::LegacyBroadcast(_) => {
                    Err(foreign("it is for clients of another kind".to_owned()))
                }
            }
        }
        Message::Close(frame) => {
            let said = match frame {
                Some(frame) => format!("{}: {}", frame.code, shown(&frame.reason)),
                None => "without a reason".to_owned(),
            };
            Err(unreachable(url, format!("the gateway has closed, {said}")))
        }
        Message::Text(_) => Err(foreign("it speaks in text".to_owned())),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
    }
}

pub(super) fn page_of(
    page: &wire::SyncResponse,
    schemas: &Arc<dyn Schemas + Send + Sync>,
) -> Result<PullPage, TransportError> {
    Ok(decode_page_message(page, schemas.as_ref())?)
}

/// An error frame as the refusal that HTTP would have made of it.
pub(super) fn refusal_of(error: wire::ErrorBody) -> TransportError {
    TransportError::Refused(Box::new(Refusal {
        status: status_of(&error.code),
        code: error.code,
        message: error.message,
        index: error.index.and_then(|index| usize::try_from(index).ok()),
        request_id: None,
        retry_after: error.retry_after_ms.map(Duration::from_millis),
        details: serde_json::from_str(&error.details).unwrap_or_default(),
    }))
}

/// The status that the gateway gives a code over HTTP; one that is not known here is the gateway's own failure.
fn status_of(code: &str) -> u16 {
    let statuses = [
        (ErrorCode::ValidationError, 400),
        (ErrorCode::AuthError, 401),
        (ErrorCode::Forbidden, 403),
        (ErrorCode::NotFound, 404),
        (ErrorCode::CursorExpired, 410),
        (ErrorCode::SchemaError, 422),
        (ErrorCode::UnknownTable, 422),
        (ErrorCode::RateLimited, 429),
        (ErrorCode::BackpressureError, 503),
        (ErrorCode::StorageFull, 507),
    ];
    let known = statuses.iter().find(|(known, _)| known.as_str() == code);
    known.map_or(500, |(_, status)| *status)
}
