//! `GET /v1/sync/{g}/schema` and `POST /v1/admin/schema/{g}`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use lakesync_proto::{TableDefinition, TableSchema, schemas_hash};
use serde_json::{Value, json};

use super::answer::ApiError;
use super::body::read_body;
use super::front::Front;
use super::security::Caller;
use crate::error::Refusal;

/// A schema of a thousand columns has about 100 kB.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// The tables, their columns and versions.
#[utoipa::path(operation_id = "list_schemas", get, path = "/v1/sync/{g}/schema", tag = "sync", params(("g" = String, Path, description = "The gateway")),
    responses((status = 200, description = "`{\"tables\":[…],\"epoch\",\"hash\"}`")), security(("bearer" = [])))]
pub(super) async fn list(caller: Caller) -> Json<Value> {
    let schemas = caller.gateway.live().schemas();
    let tables: Vec<Value> = schemas.iter().map(|schema| native(schema)).collect();
    let hash = schemas_hash(schemas.iter().map(AsRef::as_ref));
    Json(json!({
        "tables": tables,
        "epoch": caller.gateway.epoch().to_string(),
        "hash": hash.to_string(),
    }))
}

/// Creates a table, or evolves it: adds an optional column, widens a type, drops an optional column.
#[utoipa::path(
    operation_id = "put_schema",
    post,
    path = "/v1/admin/schema/{g}",
    tag = "admin",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = super::shapes::TableDefinition),
    responses(
        (status = 200, description = "`{\"saved\":true,\"changed\":bool,\"schema\"}`"),
        (status = 400, description = "No schema", body = super::shapes::Error),
        (status = 409, description = "The table cannot become that; `error` says why", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn put(
    State(front): State<Front>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = match read_body(&headers, body, SCHEMA_BYTES_MAX).await {
        Ok(body) => body,
        Err(answer) => return Ok(*answer),
    };
    let definition = TableDefinition::from_json(&body)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let (schema, changed) = caller.gateway.put_schema(&definition).await?;
    front.hub(&caller.gateway).look_at_schemas();
    Ok(Json(json!({"saved": true, "changed": changed, "schema": native(&schema)})).into_response())
}

fn native(schema: &TableSchema) -> Value {
    serde_json::from_str(&schema.to_json()).expect("a schema's own form is JSON")
}
