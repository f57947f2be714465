//! `GET /v1/sync/{g}/checkpoint` and `GET /v1/sync/{g}/digest`: what a new client starts from, and how it proves that it
//! holds the same.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use lakesync_proto::{ErrorCode, Schemas, Seq, TableName, decode_chunk, encode_page_json};
use serde_json::{Value, json};

use super::answer::{ApiError, error_answer};
use super::delivery::deliver;
use super::front::Front;
use super::negotiate::takes;
use super::pull::client;
use super::security::Caller;
use super::sync;
use crate::checkpoint::{CheckpointForm, CheckpointRequest, Chunk};
use crate::error::{Refusal, Result};

pub(super) const CHECKPOINT_HLC: HeaderName = HeaderName::from_static("x-checkpoint-hlc");
pub(super) const CHECKPOINT_CURSOR: HeaderName = HeaderName::from_static("x-checkpoint-cursor");
/// How many tables may be named: the longest list that a query of some kilobytes holds.
const TABLES_MAX: usize = 1_000;
const STREAM: &str = "application/x-lakesync-checkpoint-stream";
/// The same as JSON, a page a line; who asks for JSON gets it too.
const LINES: &str = "application/x-ndjson";
const JSON: &str = "application/json";
/// The length that stands before each chunk.
const CHUNK_LENGTH_BYTES: usize = 4;

/// The merged state of all rows that the caller sees, at one seq, in chunks.
///
/// The body is a sequence of a 4-byte big-endian length and a protobuf SyncResponse. Each chunk of the native form has a
/// field `resume`: a download that broke off goes on behind its last whole chunk when that is sent as `resume`, with the
/// other parameters as they were. With `accept: application/x-ndjson` each chunk is a line of JSON instead: a page, as a
/// pull answers it, with `resume`.
#[utoipa::path(
    get,
    path = "/v1/sync/{g}/checkpoint",
    tag = "sync",
    params(
        ("g" = String, Path, description = "The gateway"),
        ("clientId" = Option<String>, Query, description = "Who asks: the token's `sub`"),
        ("tables" = Option<String>, Query, description = "Only these, by comma"),
        ("form" = Option<String>, Query, description = "`native`: cells with stamps, and tombstones; without, one INSERT a row"),
        ("resume" = Option<String>, Query, description = "The field `resume` of the last whole chunk that a native download got")
    ),
    responses(
        (status = 200, description = "The chunks; `X-Checkpoint-Hlc` is the cursor of legacy clients, `X-Checkpoint-Cursor` the native one", content_type = "application/x-lakesync-checkpoint-stream"),
        (status = 406, description = "`accept` names other types only", body = super::shapes::Error),
        (status = 410, description = "CURSOR_EXPIRED: this `resume` cannot go on, begin anew", body = super::shapes::Error),
        (status = 503, description = "Too many checkpoints are being read", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn checkpoint(
    State(front): State<Front>,
    caller: Caller,
    Query(params): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(content_type) = [STREAM, LINES, JSON]
        .into_iter()
        .find(|of| takes(&headers, of))
    else {
        let text = format!("accept: a checkpoint is `{STREAM}` or `{LINES}`, and nothing else");
        let status = StatusCode::NOT_ACCEPTABLE;
        return Ok(error_answer(
            status,
            ErrorCode::ValidationError,
            &text,
            None,
        ));
    };
    if params.contains_key("clientId") {
        client(&caller, &params)?;
    }
    let request = CheckpointRequest {
        tables: tables(params.get("tables").map(String::as_str))?,
        resume: params.get("resume").cloned(),
        form: form(params.get("form").map(String::as_str))?,
    };
    let turn = front.reader(&caller)?;
    let audience = caller.gateway.audience(&caller.identity);
    let begun = caller.gateway.checkpoint(request, &audience).await;
    let checkpoint = begun.map_err(|error| sync::with_checkpoint(error, &caller))?;
    let mut head = HeaderMap::new();
    let content_type = if content_type == JSON {
        LINES
    } else {
        content_type
    };
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    head.insert(CHECKPOINT_HLC, checkpoint.seq.as_u64().into());
    let cursor =
        HeaderValue::try_from(checkpoint.cursor.to_string()).expect("a cursor's text is base64");
    head.insert(CHECKPOINT_CURSOR, cursor);
    let gateway = caller.gateway.id().clone();
    let name = format!("a checkpoint of `{gateway}`");
    let stalled = front.config().stalled;
    let live = Arc::clone(caller.gateway.live());
    let chunks = checkpoint.chunks.map(move |chunk| {
        let _held_to_the_end = &turn;
        let bytes = chunk.and_then(|chunk| match content_type {
            STREAM => Ok(chunk.bytes),
            _ => line(&chunk, live.as_ref()),
        });
        // The body breaks off before its last chunk, which every client sees.
        bytes.map_err(|error| {
            tracing::error!(%gateway, %error, "a checkpoint broke off");
            std::io::Error::other(error.to_string())
        })
    });
    let body = deliver(name, chunks.boxed(), stalled, move || {
        caller.is_expired(front.now_ms())
    });
    Ok((StatusCode::OK, head, Body::from_stream(body)).into_response())
}

/// The chunk as a line of JSON: a page, as a pull answers it, and the token that resumes behind it.
fn line(chunk: &Chunk, schemas: &dyn Schemas) -> Result<Bytes> {
    let message = &chunk.bytes[CHUNK_LENGTH_BYTES..];
    let page = decode_chunk(message, schemas).map_err(Refusal::from)?;
    let mut line = encode_page_json(&page);
    let closed = line.pop();
    debug_assert_eq!(closed, Some(b'}'), "a page is an object");
    // A token is base64, so it needs no escapes.
    line.extend_from_slice(format!(",\"resume\":\"{}\"}}\n", chunk.resume).as_bytes());
    Ok(line.into())
}

/// Rows, cells and a hash over the visible state, which a client computes over its own.
#[utoipa::path(
    get,
    path = "/v1/sync/{g}/digest",
    tag = "sync",
    params(
        ("g" = String, Path, description = "The gateway"),
        ("tables" = Option<String>, Query, description = "Only these, by comma"),
        ("at" = Option<String>, Query, description = "The seq to look at; now without")
    ),
    responses((status = 200, description = "`{\"seq\",\"cursor\",\"tables\":[{\"table\",\"rows\",\"cells\",\"hash\"}]}`")),
    security(("bearer" = []))
)]
pub(super) async fn digest(
    State(front): State<Front>,
    caller: Caller,
    Query(params): Query<HashMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
    let at = params.get("at").map(|text| {
        let seq = text.parse().ok().and_then(|seq| Seq::from_u64(seq).ok());
        seq.ok_or_else(|| ApiError::invalid(format!("at: `{text}` is no seq")))
    });
    let tables = tables(params.get("tables").map(String::as_str))?;
    let _turn = front.reader(&caller)?;
    let audience = caller.gateway.audience(&caller.identity);
    let digest = caller
        .gateway
        .digest(tables, at.transpose()?, &audience)
        .await;
    let digest = digest.map_err(|error| sync::with_checkpoint(error, &caller))?;
    let tables = digest.tables.iter().map(|table| {
        json!({
            "table": table.table.to_string(),
            "rows": table.rows,
            "cells": table.cells,
            "hash": table.hash.to_string(),
        })
    });
    Ok(Json(json!({
        "seq": digest.seq.to_string(),
        "cursor": digest.cursor.to_string(),
        "tables": tables.collect::<Vec<_>>(),
    })))
}

fn form(text: Option<&str>) -> Result<CheckpointForm, ApiError> {
    match text {
        None | Some("legacy") => Ok(CheckpointForm::Legacy),
        Some("native") => Ok(CheckpointForm::Native),
        Some(text) => Err(ApiError::invalid(format!(
            "form: `{text}` is none of native, legacy"
        ))),
    }
}

fn tables(text: Option<&str>) -> Result<Option<Vec<TableName>>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    if names.len() > TABLES_MAX {
        return Err(ApiError::invalid(format!(
            "tables: {} names; {TABLES_MAX} are the most",
            names.len()
        )));
    }
    let names = names.into_iter().map(TableName::parse);
    let names: Result<Vec<_>, _> = names.collect();
    names
        .map(Some)
        .map_err(|error| ApiError::invalid(format!("tables: {error}")))
}
