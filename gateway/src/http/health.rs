//! `GET /health` and `GET /ready`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::answer::RETRY_AFTER_S;
use super::front::Front;

/// Whether the process lives.
#[utoipa::path(get, path = "/health", tag = "process", responses((status = 200, description = "`{\"status\":\"ok\"}`")))]
pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether it takes requests: all gateways of a router have recovered, so it does until it drains or one is poisoned.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "process",
    responses(
        (status = 200, description = "`{\"status\":\"ready\"}`"),
        (status = 503, description = "`{\"status\":\"not_ready\",\"reason\"}`: it is draining, or a gateway takes nothing more")
    )
)]
pub(super) async fn ready(State(front): State<Front>) -> Response {
    match (front.is_draining(), front.is_poisoned()) {
        (true, _) => not_ready("draining"),
        (_, true) => not_ready("a gateway takes nothing more; restart the server"),
        _ => (StatusCode::OK, Json(json!({"status": "ready"}))).into_response(),
    }
}

fn not_ready(reason: &str) -> Response {
    let body = json!({"status": "not_ready", "reason": reason});
    let head = [(header::RETRY_AFTER, RETRY_AFTER_S.to_string())];
    (StatusCode::SERVICE_UNAVAILABLE, head, Json(body)).into_response()
}
