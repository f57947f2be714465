//! `GET /health` and `GET /ready`.

use axum::Json;
use serde_json::{Value, json};

pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// A router is made only of open gateways: they have recovered, so they serve.
pub(super) async fn ready() -> Json<Value> {
    Json(json!({"status": "ready"}))
}
