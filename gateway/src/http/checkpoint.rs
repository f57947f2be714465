//! `GET /v1/sync/{g}/checkpoint` and `GET /v1/sync/{g}/digest`: what a new client starts from, and how it proves that it
//! holds the same.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use lakesync_proto::{ErrorCode, Seq, TableName};
use serde_json::{Value, json};

use super::answer::{ApiError, error_answer};
use super::delivery::deliver;
use super::front::Front;
use super::negotiate::takes;
use super::pull::client;
use super::security::Caller;
use super::sync;
use crate::checkpoint::{CheckpointForm, CheckpointRequest};

pub(super) const CHECKPOINT_HLC: HeaderName = HeaderName::from_static("x-checkpoint-hlc");
pub(super) const CHECKPOINT_CURSOR: HeaderName = HeaderName::from_static("x-checkpoint-cursor");
/// How many tables may be named: the longest list that a query of some kilobytes holds.
const TABLES_MAX: usize = 1_000;
const STREAM: &str = "application/x-lakesync-checkpoint-stream";

/// The merged state of all rows that the caller sees, at one seq, in chunks.
///
/// The body is a sequence of a 4-byte big-endian length and a protobuf SyncResponse. Each chunk of the native form has a
/// field `resume`: a download that broke off goes on behind its last whole chunk when that is sent as `resume`, with the
/// other parameters as they were.
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
    if !takes(&headers, STREAM) {
        let text = format!("accept: a checkpoint is `{STREAM}` and nothing else");
        let status = StatusCode::NOT_ACCEPTABLE;
        return Ok(error_answer(
            status,
            ErrorCode::ValidationError,
            &text,
            None,
        ));
    }
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
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static(STREAM));
    head.insert(CHECKPOINT_HLC, checkpoint.seq.as_u64().into());
    let cursor =
        HeaderValue::try_from(checkpoint.cursor.to_string()).expect("a cursor's text is base64");
    head.insert(CHECKPOINT_CURSOR, cursor);
    let gateway = caller.gateway.id().clone();
    let name = format!("a checkpoint of `{gateway}`");
    let stalled = front.config().stalled;
    let chunks = checkpoint.chunks.map(move |chunk| {
        let _held_to_the_end = &turn;
        // The body breaks off before its last chunk, which every client sees.
        chunk.map(|chunk| chunk.bytes).map_err(|error| {
            tracing::error!(%gateway, %error, "a checkpoint broke off");
            std::io::Error::other(error.to_string())
        })
    });
    let body = deliver(name, chunks.boxed(), stalled, move || {
        caller.is_expired(front.now_ms())
    });
    Ok((StatusCode::OK, head, Body::from_stream(body)).into_response())
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
