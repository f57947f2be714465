//! `GET /v1/sync/{g}/schema` and `POST /v1/admin/schema/{g}`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use lakesync_proto::{TableDefinition, TableSchema};
use serde_json::{Value, json};

use super::Gateways;
use super::answer::ApiError;
use super::body::read_body;
use crate::error::Refusal;

/// A schema of a thousand columns has about 100 kB.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

pub(super) async fn list(
    State(gateways): State<Gateways>,
    Path(g): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let gateway = gateways.find(&g)?;
    let tables: Vec<Value> = gateway
        .live()
        .schemas()
        .iter()
        .map(|schema| native(schema))
        .collect();
    Ok(Json(
        json!({"tables": tables, "epoch": gateway.epoch().to_string()}),
    ))
}

pub(super) async fn put(
    State(gateways): State<Gateways>,
    Path(g): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let gateway = gateways.find(&g)?;
    let body = match read_body(&headers, body, SCHEMA_BYTES_MAX).await {
        Ok(body) => body,
        Err(answer) => return Ok(*answer),
    };
    let definition = TableDefinition::from_json(&body)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let (schema, changed) = gateway.put_schema(&definition).await?;
    Ok(Json(json!({"saved": true, "changed": changed, "schema": native(&schema)})).into_response())
}

fn native(schema: &TableSchema) -> Value {
    serde_json::from_str(&schema.to_json()).expect("a schema's own form is JSON")
}
