//! `GET /v1/sync/{g}/live`: live deltas as server-sent events, for clients without WebSocket.
//!
//! ```text
//! id: <cursor>          what `Last-Event-ID` gives back
//! event: page           data is a pull's JSON answer; without deltas it tells of other schemas
//! event: error          data is an error body; the stream ends
//! :                     nothing for a while
//! ```
//! **Invariant:** the stream is contiguous from its cursor; a reader that is slow is not written to, and nothing waits
//! for it in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use lakesync_proto::{ClientId, ErrorCode, Seq};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::answer::ApiError;
use super::connections::{Kind, Ticket};
use super::front::Front;
use super::live::{Form, Hub, Place, encode};
use super::pull::{self, client, native, place};
use super::security::Caller;
use super::sync;
use crate::error::Error;
use crate::pull::Pull;

/// How often a silent stream says that it lives: proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Live deltas as server-sent events.
///
/// Without `since` and `cursor` the stream begins now. `Last-Event-ID` goes before both.
#[utoipa::path(
    get,
    path = "/v1/sync/{g}/live",
    tag = "sync",
    params(
        ("g" = String, Path, description = "The gateway"),
        ("clientId" = String, Query, description = "Who asks: the token's `sub`"),
        ("since" = Option<String>, Query, description = "As of a pull"),
        ("cursor" = Option<String>, Query, description = "As of a pull"),
        ("schemas" = Option<String>, Query, description = "As of a pull: the stream tells when they are others; also without deltas"),
        ("token" = Option<String>, Query, description = "The token, where headers cannot be set")
    ),
    responses(
        (status = 200, description = "`text/event-stream` of events `page`", content_type = "text/event-stream"),
        (status = 503, description = "Too many live connections", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn live(
    State(front): State<Front>,
    caller: Caller,
    Query(params): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let client = client(&caller, &params)?;
    let ticket = caller.connect(&front, Kind::Events, Some(&client))?;
    let hub = front.hub(&caller.gateway);
    hub.look_at_schemas();
    let schemas = hub.schemas();
    let seen = *schemas.borrow();
    let known = pull::schemas(params.get("schemas").map(String::as_str))?;
    let stream = Stream {
        known: known.unwrap_or(seen),
        schemas,
        place: begin(&caller, &params, &headers)?,
        hub,
        visible: caller.gateway.visible(),
        draining: front.draining(),
        front,
        caller,
        client,
        ended: false,
        _ticket: ticket,
    };
    let events = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), stream))
    });
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // Proxies that gather answers would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((StatusCode::OK, head, Body::from_stream(events)).into_response())
}

fn begin(
    caller: &Caller,
    params: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Result<Place, ApiError> {
    let last = headers.get("last-event-id");
    let last = last
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty());
    match last {
        Some(id) => match id.parse().ok().and_then(|seq| Seq::from_u64(seq).ok()) {
            Some(seq) => Ok(Place::Legacy(seq)),
            None => native(caller, id),
        },
        None if params.contains_key("since") || params.contains_key("cursor") => {
            place(caller, params)
        }
        None => Ok(Place::Legacy(*caller.gateway.visible().borrow())),
    }
}

struct Stream {
    front: Front,
    caller: Caller,
    client: ClientId,
    hub: Arc<Hub>,
    place: Place,
    visible: watch::Receiver<Seq>,
    schemas: watch::Receiver<u64>,
    /// The hash over the schemas that the reader knows.
    known: u64,
    draining: watch::Receiver<bool>,
    ended: bool,
    _ticket: Ticket,
}

impl Stream {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended && !*self.draining.borrow() {
            if self.caller.is_expired(self.front.now_ms()) {
                let expired = ApiError::refused(
                    ErrorCode::AuthError,
                    "token expired: connect again with a new one",
                );
                return Some(self.end(&expired));
            }
            if let Some(bytes) = self.news_of_schemas() {
                return Some(bytes);
            }
            self.visible.mark_unchanged();
            let wanted = (self.hub.as_ref(), &self.place, Form::Event);
            let client = Some(&self.client);
            match sync::live(&self.front, &self.caller, wanted, client).await {
                // The rules changed while the page was read: the next one is read by the new ones.
                Err(Error::Refused(refusal)) if refusal.code == ErrorCode::BackpressureError => {}
                Err(error) => {
                    let error = self.explained(error).await;
                    return Some(self.end(&error.into()));
                }
                Ok(Some(frame)) => {
                    self.place = frame.next.clone();
                    if !frame.bytes.is_empty() {
                        return Some(frame.bytes.clone());
                    }
                }
                Ok(None) => {
                    let woken = async {
                        tokio::select! {
                            _ = self.visible.changed() => {}
                            _ = self.schemas.changed() => {}
                            _ = self.draining.changed() => {}
                        }
                    };
                    if timeout(KEEP_ALIVE, woken).await.is_err() {
                        self.hub.look_at_schemas();
                        return Some(Bytes::from_static(b":\n\n"));
                    }
                }
            }
        }
        None
    }

    /// An event that tells of other schemas, when they are others than the reader knows.
    fn news_of_schemas(&mut self) -> Option<Bytes> {
        if *self.schemas.borrow_and_update() == self.known {
            return None;
        }
        let audience = self.caller.gateway.audience(&self.caller.identity);
        let news = self.hub.schemas_page(&self.place, &audience, self.known);
        let (page, hash) = news?;
        self.known = hash;
        Some(encode(page, &self.place, Form::Event))
    }

    /// An expired cursor as a pull of this client says it: with the tables that it has to load again.
    async fn explained(&self, error: Error) -> Error {
        let pull = Pull {
            since: self.place.since(),
            limit: 1,
            schemas: None,
        };
        match sync::read(&self.caller, &pull, &self.client).await {
            Err(explained) => explained,
            Ok(_) => error,
        }
    }

    fn end(&mut self, error: &ApiError) -> Bytes {
        self.ended = true;
        let body = Value::Object(error.body());
        format!("event: error\ndata: {body}\n\n").into()
    }
}
