//! `POST /v1/sync/{g}/push`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::{
    decode_push_json, decode_push_protobuf, encode_ack_json, encode_ack_protobuf, limits,
};

use super::answer::ApiError;
use super::body::{PROTOBUF, is_protobuf};
use super::front::Front;
use super::security::Caller;
use super::sync;
use crate::error::Refusal;

/// Accepts a batch of deltas whole, or refuses it whole.
///
/// Acknowledged means fsynced and readable. Duplicates are acknowledged like the first time.
#[utoipa::path(
    post,
    path = "/v1/sync/{g}/push",
    tag = "sync",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = serde_json::Value, description = "`{\"clientId\",\"deltas\":[…],\"lastSeenHlc\"}`, or the protobuf message SyncPush as application/x-protobuf"),
    responses(
        (status = 200, description = "`{\"serverHlc\",\"accepted\",\"deltas\":[],…}`, or the protobuf message SyncResponse"),
        (status = 400, description = "VALIDATION_ERROR, DELTA_ID_MISMATCH: `index` names the delta"),
        (status = 403, description = "FORBIDDEN: another client's id, or a row that the rules do not let it write"),
        (status = 409, description = "CLOCK_DRIFT, DELTA_ID_REUSED"),
        (status = 413, description = "More bytes than a body may have"),
        (status = 422, description = "SCHEMA_ERROR, UNKNOWN_TABLE, LATE_DELTA"),
        (status = 503, description = "BACKPRESSURE_ERROR: send again after `Retry-After` seconds"),
        (status = 507, description = "STORAGE_FULL")
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
        .read(&headers, body, limits::PUSH_BODY_BYTES_MAX);
    let (body, _share) = match read.await {
        Ok(read) => read,
        Err(answer) => return Ok(*answer),
    };
    let protobuf = is_protobuf(&headers, header::CONTENT_TYPE);
    let schemas = caller.gateway.live();
    let push = match protobuf {
        true => decode_push_protobuf(&body, schemas.as_ref()),
        false => decode_push_json(&body, schemas.as_ref()),
    };
    let push = push.map_err(Refusal::from)?;
    drop(body);
    let ack = sync::push(&front, &caller, push, None).await?;
    let (content_type, answer) = match protobuf {
        true => (PROTOBUF, encode_ack_protobuf(&ack)),
        false => ("application/json", encode_ack_json(&ack)),
    };
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, content_type)],
        answer,
    )
        .into_response())
}
