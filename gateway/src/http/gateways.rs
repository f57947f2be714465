//! `GET /v1/admin/gateways` and `POST /v1/admin/gateways/{g}`.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use lakesync_proto::GatewayId;
use serde_json::{Value, json};

use super::answer::ApiError;
use super::front::Front;
use crate::auth::Identity;

/// The gateways that the token is for.
#[utoipa::path(operation_id = "list_gateways", get, path = "/v1/admin/gateways", tag = "admin",
    responses((status = 200, description = "`{\"gateways\":[name]}`")), security(("bearer" = [])))]
pub(super) async fn list(
    State(front): State<Front>,
    Extension(identity): Extension<Identity>,
) -> Json<Value> {
    let names = front.gateways().names_for(&identity);
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    Json(json!({"gateways": names}))
}

/// Creates a gateway, or finds it there.
#[utoipa::path(post, path = "/v1/admin/gateways/{g}", tag = "admin", params(("g" = String, Path, description = "Its name")),
    responses((status = 200, description = "`{\"created\":bool,\"gateway\"}`"), (status = 400, description = "No name for a gateway, or too many", body = super::shapes::Error)),
    security(("bearer" = [])))]
pub(super) async fn create(
    State(front): State<Front>,
    Path(g): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = GatewayId::parse(&g).map_err(|error| ApiError::invalid(error.to_string()))?;
    let there = front.gateways().get(&g).is_some();
    let gateway = front.gateways().create(id).await?;
    Ok(Json(json!({
        "created": !there,
        "gateway": gateway.id().to_string(),
        "epoch": gateway.epoch().to_string(),
    })))
}
