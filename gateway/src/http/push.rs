//! `POST /v1/sync/{g}/push`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::{
    decode_push_json, decode_push_protobuf, encode_ack_json, encode_ack_protobuf, limits,
};

use super::answer::ApiError;
use super::front::Front;
use super::negotiate::Encoding;
use super::security::Caller;
use super::sync;
use crate::error::Refusal;

/// Accepts a batch of deltas whole, or refuses it whole.
///
/// Acknowledged means fsynced and readable. Duplicates are acknowledged like the first time. The answer is of the type
/// that `accept` asks for, else of the body's.
#[utoipa::path(
    post,
    path = "/v1/sync/{g}/push",
    tag = "sync",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = super::shapes::Push, description = "`{\"clientId\",\"deltas\":[…],\"lastSeenHlc\"}`, or the protobuf message SyncPush as application/x-protobuf"),
    responses(
        (status = 200, description = "JSON, or the protobuf message SyncResponse", body = super::shapes::Ack),
        (status = 400, description = "VALIDATION_ERROR, DELTA_ID_MISMATCH: `index` names the delta", body = super::shapes::Error),
        (status = 403, description = "FORBIDDEN: another client's id, or a row that the rules do not let it write", body = super::shapes::Error),
        (status = 409, description = "CLOCK_DRIFT, DELTA_ID_REUSED", body = super::shapes::Error),
        (status = 413, description = "More bytes than a body may have", body = super::shapes::Error),
        (status = 422, description = "SCHEMA_ERROR, UNKNOWN_TABLE, LATE_DELTA", body = super::shapes::Error),
        (status = 503, description = "BACKPRESSURE_ERROR: send again after `Retry-After` seconds", body = super::shapes::Error),
        (status = 507, description = "STORAGE_FULL", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn push(
    State(front): State<Front>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let read = front
        .bodies()
        .read(&caller, &headers, body, limits::PUSH_BODY_BYTES_MAX);
    let (body, _share) = match read.await {
        Ok(read) => read,
        Err(answer) => return Ok(*answer),
    };
    let sent = Encoding::sent(&headers);
    let schemas = caller.gateway.live();
    let push = match sent {
        Encoding::Protobuf => decode_push_protobuf(&body, schemas.as_ref()),
        Encoding::Json => decode_push_json(&body, schemas.as_ref()),
    };
    let push = push.map_err(Refusal::from)?;
    drop(body);
    let ack = sync::push(&front, &caller, push, None).await?;
    let asked = Encoding::asked(&headers, sent);
    let answer = match asked {
        Encoding::Protobuf => encode_ack_protobuf(&ack),
        Encoding::Json => encode_ack_json(&ack),
    };
    let head = [(header::CONTENT_TYPE, asked.content_type())];
    Ok((StatusCode::OK, head, answer).into_response())
}
