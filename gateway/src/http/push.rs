//! `POST /v1/sync/{g}/push`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::{decode_push_json, decode_push_protobuf, encode_ack_json, limits, wire};

use prost::Message as _;

use super::Gateways;
use super::answer::ApiError;
use super::body::{PROTOBUF, is_protobuf, read_body};
use crate::error::Refusal;

pub(super) async fn push(
    State(gateways): State<Gateways>,
    Path(g): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let gateway = gateways.find(&g)?;
    let body = match read_body(&headers, body, limits::PUSH_BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(answer) => return Ok(*answer),
    };
    let protobuf = is_protobuf(&headers, header::CONTENT_TYPE);
    let push = match protobuf {
        true => decode_push_protobuf(&body, gateway.live().as_ref()),
        false => decode_push_json(&body, gateway.live().as_ref()),
    };
    let ack = gateway.push(push.map_err(Refusal::from)?).await?;
    // Legacy clients read a push's protobuf answer as a page without deltas.
    let answer = wire::SyncResponse {
        server_hlc: ack.cursor.as_u64(),
        epoch: ack.epoch.to_string(),
        ..wire::SyncResponse::default()
    };
    Ok(match protobuf {
        true => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, PROTOBUF)],
            answer.encode_to_vec(),
        )
            .into_response(),
        false => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/json")],
            encode_ack_json(&ack),
        )
            .into_response(),
    })
}
