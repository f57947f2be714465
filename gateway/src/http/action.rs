//! Actions: `POST /v1/sync/{g}/action`, `GET /v1/sync/{g}/actions`, and the dead letters for admins.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use lakesync_proto::{
    ActionAnswer, ErrorCode, Seq, decode_actions_json, decode_actions_protobuf,
    encode_action_answer_json, encode_action_answer_protobuf, limits,
};
use serde_json::{Value, json};

use super::answer::ApiError;
use super::body::{PROTOBUF, is_protobuf};
use super::front::Front;
use super::security::Caller;
use crate::error::Refusal;

/// Carries out commands, once each: what came before is answered as before.
#[utoipa::path(
    post,
    path = "/v1/sync/{g}/action",
    tag = "sync",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = serde_json::Value, description = "`{\"clientId\",\"actions\":[{\"actionId\",\"clientId\",\"hlc\",\"connector\",\"actionType\",\"params\",\"idempotencyKey\"?}]}`, or the protobuf message ActionPush"),
    responses(
        (status = 200, description = "`{\"results\":[{\"actionId\",\"data\"} or {\"actionId\",\"code\",\"message\",\"retryable\"}],\"serverHlc\"}`"),
        (status = 400, description = "An action is wrong; nothing was done", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn submit(
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
    let protobuf = is_protobuf(&headers, header::CONTENT_TYPE);
    let push = match protobuf {
        true => decode_actions_protobuf(&body),
        false => decode_actions_json(&body),
    };
    let push = push.map_err(Refusal::from)?;
    caller.identity.check_client(&push.client_id)?;
    let actions = front.actions(&caller.gateway)?;
    let outcomes = actions.submit(&push, &caller.identity).await?;
    let ids = push.actions.iter().map(|action| action.action_id);
    let gateway = &caller.gateway;
    let visible = *gateway.visible().borrow();
    let answer = ActionAnswer {
        results: ids.zip(outcomes).collect(),
        // A client may adopt it, so it is where the client stands.
        cursor: front
            .standing()
            .last_seen(gateway.id(), &push.client_id, Seq::MAX, visible),
    };
    let (content_type, answer) = match protobuf {
        true => (PROTOBUF, encode_action_answer_protobuf(&answer)),
        false => ("application/json", encode_action_answer_json(&answer)),
    };
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, content_type)],
        answer,
    )
        .into_response())
}

/// What commands there are.
#[utoipa::path(get, path = "/v1/sync/{g}/actions", tag = "sync", params(("g" = String, Path, description = "The gateway")),
    responses((status = 200, description = "`{\"connectors\":{name:[{\"actionType\",\"description\",\"paramsSchema\"?}]}}`")),
    security(("bearer" = [])))]
pub(super) async fn describe(
    State(front): State<Front>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(front.actions(&caller.gateway)?.describe()))
}

/// Commands whose attempts are used up, oldest first, a hundred at a time.
#[utoipa::path(get, path = "/v1/admin/actions/{g}/dead", tag = "admin",
    params(("g" = String, Path, description = "The gateway"), ("after" = Option<i64>, Query, description = "The last one's `number`")),
    responses((status = 200, description = "`{\"dead\":[…]}`")), security(("bearer" = [])))]
pub(super) async fn dead(
    State(front): State<Front>,
    caller: Caller,
    Query(params): Query<HashMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
    let after = params.get("after").map_or(Ok(0), |text| text.parse());
    let after = after.map_err(|_| ApiError::invalid("after: it is no number of a dead letter"))?;
    let letters = front.actions(&caller.gateway)?.list_dead(after).await?;
    let letters = letters.iter().map(|letter| {
        json!({
            "number": letter.number,
            "actionId": letter.action_id,
            "clientId": letter.client_id.to_string(),
            "connector": letter.connector,
            "actionType": letter.action_type,
            "params": serde_json::from_str::<Value>(letter.params.as_str()).unwrap_or_default(),
            "attempts": letter.attempts,
            "lastError": letter.last_error,
            "receivedMs": letter.received_ms,
            "deadMs": letter.dead_ms,
        })
    });
    Ok(Json(json!({"dead": letters.collect::<Vec<_>>()})))
}

/// Delivers a dead letter again.
#[utoipa::path(post, path = "/v1/admin/actions/{g}/dead/{id}/retry", tag = "admin",
    params(("g" = String, Path, description = "The gateway"), ("id" = String, Path, description = "The action id")),
    responses((status = 200, description = "`{\"retried\":true}`"), (status = 404, description = "There is no such dead letter", body = super::shapes::Error)),
    security(("bearer" = [])))]
pub(super) async fn retry(
    State(front): State<Front>,
    caller: Caller,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    match front.actions(&caller.gateway)?.retry(&id).await? {
        true => Ok(Json(json!({"retried": true}))),
        false => Err(none(&id)),
    }
}

/// Gives a dead letter up.
#[utoipa::path(delete, path = "/v1/admin/actions/{g}/dead/{id}", tag = "admin",
    params(("g" = String, Path, description = "The gateway"), ("id" = String, Path, description = "The action id")),
    responses((status = 200, description = "`{\"discarded\":true}`"), (status = 404, description = "There is no such dead letter", body = super::shapes::Error)),
    security(("bearer" = [])))]
pub(super) async fn discard(
    State(front): State<Front>,
    caller: Caller,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    match front.actions(&caller.gateway)?.discard(&id).await? {
        true => Ok(Json(json!({"discarded": true}))),
        false => Err(none(&id)),
    }
}

fn none(id: &str) -> ApiError {
    let text = format!("there is no dead letter `{id}` here; list them first");
    ApiError::refused(ErrorCode::NotFound, text)
}
