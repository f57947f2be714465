//! `GET /health` and `GET /ready`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

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
pub(super) async fn ready(State(front): State<Front>) -> (StatusCode, Json<Value>) {
    match (front.is_draining(), front.is_poisoned()) {
        (true, _) => not_ready("draining"),
        (_, true) => not_ready("a gateway takes nothing more; restart the server"),
        _ => (StatusCode::OK, Json(json!({"status": "ready"}))),
    }
}

fn not_ready(reason: &str) -> (StatusCode, Json<Value>) {
    let body = json!({"status": "not_ready", "reason": reason});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}
