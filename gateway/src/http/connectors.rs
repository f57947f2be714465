//! Connectors, which this server does not have: their routes answer what the contract says and why not.

use axum::Json;
use lakesync_proto::ErrorCode;
use serde_json::{Value, json};

use super::answer::ApiError;

const WHY: &str = "this server runs no connectors: commands go to webhooks, which are configured under `actions`, and \
                   data comes in by pushes of a token whose role is `ingest`";

/// The types of connectors: none.
#[utoipa::path(get, path = "/v1/connectors/types", tag = "process", responses((status = 200, description = "An empty list")))]
pub(super) async fn types() -> Json<Value> {
    Json(json!([]))
}

/// The connectors of a gateway: none.
#[utoipa::path(operation_id = "list_connectors", get, path = "/v1/admin/connectors/{g}", tag = "admin", params(("g" = String, Path, description = "The gateway")),
    responses((status = 200, description = "An empty list")), security(("bearer" = [])))]
pub(super) async fn list() -> Json<Value> {
    Json(json!([]))
}

/// Not supported.
#[utoipa::path(post, path = "/v1/admin/connectors/{g}", tag = "admin", params(("g" = String, Path, description = "The gateway")),
    responses((status = 501, description = "NOT_SUPPORTED, and what there is instead", body = super::shapes::Error)), security(("bearer" = [])))]
pub(super) async fn register() -> ApiError {
    ApiError::refused(ErrorCode::NotSupported, WHY)
}

/// Not supported.
#[utoipa::path(delete, path = "/v1/admin/connectors/{g}/{name}", tag = "admin",
    params(("g" = String, Path, description = "The gateway"), ("name" = String, Path, description = "The connector")),
    responses((status = 501, description = "NOT_SUPPORTED, and what there is instead", body = super::shapes::Error)), security(("bearer" = [])))]
pub(super) async fn unregister() -> ApiError {
    ApiError::refused(ErrorCode::NotSupported, WHY)
}
