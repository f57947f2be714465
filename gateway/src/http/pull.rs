//! `GET /v1/sync/{g}/pull`: a page of deltas, now or as soon as there are some.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::{
    ClientId, Cursor, ErrorCode, PullPage, Seq, encode_page_json, encode_page_protobuf, limits,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::ApiError;
use super::connections::Kind;
use super::front::Front;
use super::live::Place;
use super::negotiate::Encoding;
use super::security::Caller;
use super::sync;
use crate::pull::Pull;

/// How long a pull may wait for deltas: proxies give up on silent requests after a minute.
const WAIT_MAX: Duration = Duration::from_secs(60);

type Params = HashMap<String, String>;

/// A page of deltas above a cursor, in arrival order.
///
/// A client that adopts the answer's cursor misses nothing. `wait` holds the answer back until there is something.
#[utoipa::path(
    get,
    path = "/v1/sync/{g}/pull",
    tag = "sync",
    params(
        ("g" = String, Path, description = "The gateway"),
        ("clientId" = String, Query, description = "Who asks: the token's `sub`"),
        ("since" = Option<String>, Query, description = "The last answer's `serverHlc`, or 0; either this or `cursor`"),
        ("cursor" = Option<String>, Query, description = "The last answer's `cursor`; empty is the beginning"),
        ("limit" = Option<u32>, Query, description = "Deltas of a page, 100 without, 10,000 at most"),
        ("schemas" = Option<String>, Query, description = "The client's hash over all schemas, decimal"),
        ("wait" = Option<String>, Query, description = "How long to wait for something, such as `20s`; at most 60s")
    ),
    responses(
        (status = 200, description = "JSON, or the protobuf message SyncResponse", body = super::shapes::Page),
        (status = 400, description = "A parameter is wrong", body = super::shapes::Error),
        (status = 410, description = "CURSOR_EXPIRED: load `checkpoint`; `tables` names those concerned", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn pull(
    State(front): State<Front>,
    caller: Caller,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let client = client(&caller, &params)?;
    refuse_source(&params)?;
    let place = place(&caller, &params)?;
    // Who waits has a place among the live connections.
    let _ticket = match params.contains_key("wait") {
        true => Some(caller.connect(&front, Kind::LongPoll, Some(&client))?),
        false => None,
    };
    let wish = Wish {
        client,
        limit: limit(params.get("limit").map(String::as_str))?,
        schemas: schemas(params.get("schemas").map(String::as_str))?,
        wait: wait(params.get("wait").map(String::as_str))?,
    };
    let page = answer(&front, &caller, place, &wish).await?;
    let asked = Encoding::asked(&headers, Encoding::Json);
    let body = match asked {
        Encoding::Protobuf => encode_page_protobuf(&page),
        Encoding::Json => encode_page_json(&page),
    };
    let head = [(header::CONTENT_TYPE, asked.content_type())];
    Ok((StatusCode::OK, head, body).into_response())
}

struct Wish {
    client: ClientId,
    limit: usize,
    schemas: Option<u64>,
    wait: Duration,
}

async fn answer(
    front: &Front,
    caller: &Caller,
    mut place: Place,
    wish: &Wish,
) -> Result<PullPage, ApiError> {
    let deadline = Instant::now() + wish.wait;
    let mut visible = caller.gateway.visible();
    let mut draining = front.draining();
    loop {
        visible.mark_unchanged();
        let pull = Pull {
            since: place.since(),
            limit: wish.limit,
            schemas: wish.schemas,
        };
        let pulled = timeout(
            front.config().timeout,
            sync::pull(front, caller, &pull, &wish.client),
        );
        let page = pulled.await.map_err(|_| too_slow())??;
        let news = page.notes.schemas.as_ref().is_some_and(|note| note.changed);
        let empty = page.deltas.is_empty() && page.removed.is_empty() && !news;
        if !empty || Instant::now() >= deadline || *draining.borrow() {
            return Ok(page);
        }
        place = place.after(&page);
        if !page.has_more {
            let woken = async {
                tokio::select! {
                    _ = visible.changed() => {}
                    _ = draining.changed() => {}
                }
            };
            // Whether it was woken or the time is over, the next look tells what there is.
            drop(timeout_at(deadline, woken).await);
        }
    }
}

fn too_slow() -> ApiError {
    ApiError::refused(
        ErrorCode::InternalError,
        "the page could not be read in time; ask for a smaller one",
    )
}

/// The client that asks.
pub(super) fn client(caller: &Caller, params: &Params) -> Result<ClientId, ApiError> {
    let client = params.get("clientId").map(String::as_str);
    caller.client(client.unwrap_or_default())
}

/// Where the client stands: `cursor`, or `since` of a legacy one.
pub(super) fn place(caller: &Caller, params: &Params) -> Result<Place, ApiError> {
    match params.get("cursor").map(String::as_str) {
        None => since(params.get("since").map(String::as_str)).map(Place::Legacy),
        Some(text) => native(caller, text),
    }
}

/// The place that a native cursor names; empty is the beginning.
pub(super) fn native(caller: &Caller, text: &str) -> Result<Place, ApiError> {
    if text.is_empty() {
        return Ok(Place::Native(None));
    }
    let cursor: Cursor = text.parse().map_err(|error| {
        let refusal =
            crate::error::Refusal::new(ErrorCode::CursorExpired, format!("cursor: {error}"));
        sync::with_checkpoint(refusal.into(), caller)
    })?;
    Ok(Place::Native(Some(cursor)))
}

/// Database adapters of older gateways could be read by name; there are none here.
fn refuse_source(params: &Params) -> Result<(), ApiError> {
    match params.get("source") {
        None => Ok(()),
        Some(source) => Err(ApiError::refused(
            ErrorCode::NotFound,
            format!(
                "source: there is no adapter `{source}`; leave it away, all deltas come from the gateway"
            ),
        )),
    }
}

/// The cursor: a decimal number, or `0x…` as legacy clients may send.
fn since(text: Option<&str>) -> Result<Seq, ApiError> {
    let Some(text) = text else {
        return Err(ApiError::invalid(
            "Missing required fields: since (0 for everything)",
        ));
    };
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    number
        .and_then(|number| Seq::from_u64(number).ok())
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "since: `{text}` is not a cursor; send the last answer's serverHlc, or 0"
            ))
        })
}

/// The page size, read as legacy gateways do: leading digits count, and it is capped without a word.
fn limit(text: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = text else {
        return Ok(limits::PULL_DEFAULT);
    };
    let digits: String = text
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    match digits.parse::<usize>() {
        Ok(limit) if limit > 0 => Ok(limit.min(limits::PULL_MAX)),
        Err(_) if digits.len() > 19 => Ok(limits::PULL_MAX),
        _ => Err(ApiError::invalid(format!(
            "limit: `{text}` is not a page size from 1 to {}",
            limits::PULL_MAX
        ))),
    }
}

pub(super) fn schemas(text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let hash = text.parse().map_err(|_| {
        ApiError::invalid(format!(
            "schemas: `{text}` is no hash; send the last answer's schemas.hash"
        ))
    });
    hash.map(Some)
}

/// How long to wait: seconds, or with `ms` milliseconds; more than the most is the most.
fn wait(text: Option<&str>) -> Result<Duration, ApiError> {
    let Some(text) = text else {
        return Ok(Duration::ZERO);
    };
    let parsed = match text.strip_suffix("ms") {
        Some(number) => number.parse().ok().map(Duration::from_millis),
        None => {
            let number = text.strip_suffix('s').unwrap_or(text);
            number.parse().ok().map(Duration::from_secs)
        }
    };
    let parsed = parsed.ok_or_else(|| {
        ApiError::invalid(format!(
            "wait: `{text}` is no time; write it as 20s or 500ms"
        ))
    });
    Ok(parsed?.min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{limit, since, wait};

    #[test]
    fn cursors_and_page_sizes_are_read_as_legacy_clients_write_them() {
        assert_eq!(since(Some("0x10")).unwrap().as_u64(), 16);
        assert_eq!(since(Some("7")).unwrap().as_u64(), 7);
        for bad in [
            None,
            Some(""),
            Some("-1"),
            Some("x"),
            Some("18446744073709551615"),
        ] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
        assert_eq!(limit(None).unwrap(), 100);
        assert_eq!(limit(Some("12abc")).unwrap(), 12);
        assert_eq!(limit(Some("99999999999999999999999")).unwrap(), 10_000);
        assert!(limit(Some("0")).is_err() && limit(Some("-3")).is_err());
    }

    #[test]
    fn waits_are_times_and_have_an_end() {
        assert_eq!(wait(None).unwrap(), Duration::ZERO);
        assert_eq!(wait(Some("20s")).unwrap(), Duration::from_secs(20));
        assert_eq!(wait(Some("5")).unwrap(), Duration::from_secs(5));
        assert_eq!(wait(Some("250ms")).unwrap(), Duration::from_millis(250));
        assert_eq!(
            wait(Some("18446744073709551615")).unwrap(),
            Duration::from_secs(60)
        );
        for bad in ["", "s", "-1s", "1h", "1.5s"] {
            assert!(wait(Some(bad)).is_err(), "{bad}");
        }
    }
}
