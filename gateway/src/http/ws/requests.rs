//! What a client says over a WebSocket, and what it is answered.

use axum::extract::ws::Message;
use bytes::Bytes;
use lakesync_proto::{
    ClientBody, ClientFrame, ClientId, ErrorCode, PullPage, Push, Seq, ServerBody, ack_message,
    decode_client_frame, decode_push_message, decode_push_protobuf, encode_ack_protobuf,
    encode_page_protobuf, encode_server_frame, limits, page_message, wire,
};
use tokio::time::Instant;

use super::{End, Mode, Session, code, failed};
use crate::error::{Error, Refusal, Result};
use crate::http::answer::{ApiError, retry_after_ms};
use crate::http::body::BodyBudget;
use crate::http::live::{Place, next_cursor};
use crate::http::pull::native as native_place;
use crate::http::sync;
use crate::pull::Pull;

impl Session {
    /// A message of the peer, or its end.
    pub(super) async fn receive(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        let now = Instant::now();
        self.heard = now;
        let message = match message {
            None => return Err(End::Gone),
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(unreadable(&error)),
        };
        if !self.budget.take(now) {
            let limit = self.front.config().messages_per_second;
            return Err(End::policy(format!(
                "more than {limit} messages in one second"
            )));
        }
        match message {
            Message::Binary(bytes) => {
                let share = self.front.bodies().message(&self.caller, bytes.len());
                let Some(_share) = share else {
                    return Err(End::Close(code::AGAIN, BodyBudget::FULL.to_owned()));
                };
                self.request(&bytes).await
            }
            Message::Text(_) => Err(End::Close(
                code::UNSUPPORTED,
                "messages are binary, not text".to_owned(),
            )),
            Message::Close(_) => Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        }
    }

    async fn request(&mut self, message: &Bytes) -> Result<(), End> {
        let frame = decode_client_frame(message)
            .map_err(|error| End::Close(error.close_code(), error.to_string()))?;
        let passed = self.front.check_rate(&self.caller.rate_key);
        match frame {
            ClientFrame::LegacyPush(bytes) => {
                passed.map_err(|refusal| refused(refusal.into()))?;
                let schemas = self.caller.gateway.live();
                let push = decode_push_protobuf(bytes, schemas.as_ref());
                let push = push.map_err(|error| End::policy(error.to_string()))?;
                self.legacy_push(push).await
            }
            ClientFrame::LegacyPull(pull) => {
                passed.map_err(|refusal| refused(refusal.into()))?;
                self.legacy_pull(&pull).await
            }
            ClientFrame::Native { request_id, body } => {
                if matches!(self.mode, Mode::Legacy { .. }) {
                    self.mode = Mode::Native(None);
                }
                let answer = match passed {
                    Ok(()) => self.answer(request_id, body).await,
                    Err(refusal) => Err(refusal.into()),
                };
                let answer = answer.unwrap_or_else(|error| ServerBody::Error(error_body(&error)));
                self.say(request_id, answer).await
            }
        }
    }

    async fn legacy_push(&mut self, push: Push) -> Result<(), End> {
        self.named(&push.client_id);
        let ack = sync::push(&self.front, &self.caller, push, self.mode.given())
            .await
            .map_err(refused)?;
        self.given_to(ack.cursor);
        self.send(Message::Binary(encode_ack_protobuf(&ack).into()))
            .await
    }

    async fn legacy_pull(&mut self, wish: &wire::SyncPull) -> Result<(), End> {
        let pulled = self.pull(wish, Place::Legacy(seq_of(wish.since_hlc)));
        let page = pulled.await.map_err(refused)?;
        self.given_to(page.cursor);
        self.send(Message::Binary(encode_page_protobuf(&page).into()))
            .await
    }

    /// A legacy client adopts `cursor`: broadcasts go on from there, once it is not behind them.
    fn given_to(&mut self, cursor: Seq) {
        if let Mode::Legacy { at, given } = &mut self.mode {
            *given = Some(cursor);
            *at = cursor.max(*at);
        }
    }

    async fn answer(&mut self, request_id: u64, body: ClientBody) -> Result<ServerBody> {
        match body {
            ClientBody::Ping => Ok(ServerBody::Pong),
            ClientBody::Push(message) => {
                let schemas = self.caller.gateway.live();
                let push =
                    decode_push_message(&message, schemas.as_ref()).map_err(Refusal::from)?;
                self.named(&push.client_id);
                let ack = sync::push(&self.front, &self.caller, push, None).await?;
                Ok(ServerBody::Answer(ack_message(&ack)))
            }
            ClientBody::Pull(wish) => {
                let place = match wish.native {
                    true => self.native_place(&wish.cursor)?,
                    false => Place::Legacy(seq_of(wish.since_hlc)),
                };
                let page = self.pull(&wish, place).await?;
                Ok(ServerBody::Answer(page_message(&page)))
            }
            ClientBody::Subscribe { cursor } => {
                let page = self.subscribe(cursor.as_deref()).await?;
                tracing::debug!(request_id, cursor = %page.cursor, "subscribed");
                Ok(ServerBody::Live(page_message(&page)))
            }
        }
    }

    /// The first page of a subscription: it may be empty, then it tells the cursor that the subscription begins at.
    async fn subscribe(&mut self, cursor: Option<&str>) -> Result<PullPage> {
        self.hub.look_at_schemas();
        let known = *self.schemas.borrow_and_update();
        let audience = self.caller.gateway.audience(&self.caller.identity);
        let place = match cursor {
            Some(text) => self.native_place(text)?,
            None => Place::Native(Some(lakesync_proto::Cursor {
                epoch: self.caller.gateway.epoch().clone(),
                seq: *self.caller.gateway.visible().borrow(),
                rules: audience.rules(),
                claims: audience.claims(),
            })),
        };
        let pull = Pull {
            since: place.since(),
            limit: limits::PULL_DEFAULT,
            schemas: None,
        };
        let page = match &self.client {
            Some(client) => sync::read(&self.caller, &pull, client).await?,
            None => {
                let page = self.caller.gateway.pull_as(&pull, &audience).await;
                let mut page = page.map_err(|error| sync::with_checkpoint(error, &self.caller))?;
                page.notes.next = Some(next_cursor(&page, &audience));
                page
            }
        };
        self.mode = Mode::Native(Some(place.after(&page)));
        self.known = known;
        self.current = false;
        self.was_current = false;
        Ok(page)
    }

    async fn pull(&mut self, wish: &wire::SyncPull, place: Place) -> Result<PullPage> {
        let client = ClientId::parse(&wish.client_id).map_err(|error| {
            Refusal::new(ErrorCode::ValidationError, format!("clientId: {error}"))
        })?;
        self.caller.identity.check_client(&client)?;
        self.named(&client);
        let limit = match wish.max_deltas {
            0 => limits::PULL_DEFAULT,
            limit => usize::try_from(limit).unwrap_or(limits::PULL_MAX),
        };
        let pull = Pull {
            since: place.since(),
            limit: limit.min(limits::PULL_MAX),
            schemas: wish.schemas,
        };
        sync::pull(&self.front, &self.caller, &pull, &client).await
    }

    fn native_place(&self, text: &str) -> Result<Place> {
        native_place(&self.caller, text).map_err(ApiError::into_error)
    }

    /// The client has said who it is.
    fn named(&mut self, client: &ClientId) {
        if self.client.is_none() {
            self.client = Some(client.clone());
        }
    }

    /// The token ends soon.
    pub(super) async fn notice(&mut self, left_ms: u64) -> Result<(), End> {
        let seconds = u32::try_from(left_ms / 1_000).unwrap_or(u32::MAX);
        self.say(0, ServerBody::Expiring { seconds }).await
    }

    /// A subscription that cannot go on: a native client is told and may begin again, a legacy one is closed.
    pub(super) async fn unsubscribe(&mut self, error: Error) -> Result<(), End> {
        match self.mode {
            Mode::Legacy { .. } => Err(match error {
                Error::Refused(refusal) => End::policy(refusal.message),
                error => failed(&error),
            }),
            Mode::Native(_) => {
                self.mode = Mode::Native(None);
                self.say(0, ServerBody::Error(error_body(&error))).await
            }
        }
    }

    async fn say(&mut self, request_id: u64, body: ServerBody) -> Result<(), End> {
        let bytes = encode_server_frame(request_id, body);
        self.send(Message::Binary(bytes.into())).await
    }
}

/// A message that could not be read: too large, or no WebSocket message at all.
fn unreadable(error: &axum::Error) -> End {
    use tokio_tungstenite::tungstenite::Error as Wire;
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<Wire>()) {
        Some(Wire::Capacity(error)) => End::Close(code::TOO_LARGE, error.to_string()),
        Some(Wire::Protocol(_) | Wire::Utf8(_)) => End::Close(1002, error.to_string()),
        _ => End::Gone,
    }
}

/// A legacy request has no error answer: the connection is closed with the reason.
fn refused(error: Error) -> End {
    match error {
        Error::Refused(refusal)
            if [ErrorCode::BackpressureError, ErrorCode::RateLimited].contains(&refusal.code) =>
        {
            End::Close(code::AGAIN, refusal.message)
        }
        Error::Refused(refusal) => End::policy(refusal.message),
        error @ (Error::Busy { .. } | Error::Storage { .. }) => {
            End::Close(code::AGAIN, error.to_string())
        }
        error => failed(&error),
    }
}

fn error_body(error: &Error) -> wire::ErrorBody {
    let (code, message, index) = crate::http::answer::parts(error);
    let details = match error {
        Error::Refused(refusal) if !refusal.details.is_empty() => {
            serde_json::Value::Object(refusal.details.clone()).to_string()
        }
        _ => String::new(),
    };
    wire::ErrorBody {
        code: code.as_str().to_owned(),
        message,
        index: index.and_then(|index| u32::try_from(index).ok()),
        retry_after_ms: retry_after_ms(error),
        details,
    }
}

/// A legacy cursor; one that cannot be a seq is beyond every log, which the pull says.
fn seq_of(cursor: u64) -> Seq {
    Seq::from_u64(cursor).unwrap_or(Seq::MAX)
}
