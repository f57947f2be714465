//! `GET, POST /v1/admin/sync-rules/{g}` and `POST /v1/admin/rules/explain/{g}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use lakesync_proto::{ClaimValue, Claims, ErrorCode, RowId, TableName};
use lakesync_providers::row_states_of;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::ApiError;
use super::body::read_body;
use super::security::Caller;
use crate::error::{Error, Result};
use crate::rules::{RuleSet, explain};
use crate::sight::row_values;

/// Rules have at most 64 KiB, which their reader says; what is larger is not even read.
const RULES_BYTES_MAX: usize = 128 << 10;
/// A question has a table, a row and a token's claims.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// How many values a claim of a question may have, as many as a token's.
const CLAIM_VALUES_MAX: usize = 1_000;

/// The sync rules in force.
#[utoipa::path(get, path = "/v1/admin/sync-rules/{g}", tag = "admin", params(("g" = String, Path, description = "The gateway")),
    responses((status = 200, description = "`{\"version\",\"buckets\":[…],\"faults\":[…]}`; version 0 without rules")),
    security(("bearer" = [])))]
pub(super) async fn show(caller: Caller) -> Json<Value> {
    let rules = caller.gateway.rules();
    let mut body = match rules.definition() {
        Some(set) => serde_json::from_str(&set.to_json()).expect("a rule set's own form is JSON"),
        None => json!({"buckets": []}),
    };
    body["version"] = rules.version().into();
    body["faults"] = rules.faults().into();
    Json(body)
}

/// Puts other sync rules in force; answers when they are.
#[utoipa::path(
    operation_id = "put_rules",
    post,
    path = "/v1/admin/sync-rules/{g}",
    tag = "admin",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = super::shapes::RuleSet),
    responses(
        (status = 200, description = "`{\"saved\":true,\"version\"}`"),
        (status = 400, description = "The rules are wrong; `error` names the bucket", body = super::shapes::Error)
    ),
    security(("bearer" = []))
)]
pub(super) async fn put(
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> std::result::Result<Response, ApiError> {
    let body = match read_body(&headers, body, RULES_BYTES_MAX).await {
        Ok(body) => body,
        Err(answer) => return Ok(*answer),
    };
    let rules = caller.gateway.set_rules(RuleSet::from_json(&body)?).await?;
    Ok(Json(json!({"saved": true, "version": rules.version()})).into_response())
}

/// A row and the claims of whoever does not see it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Question {
    table: TableName,
    row_id: RowId,
    #[serde(default)]
    claims: BTreeMap<String, Value>,
}

/// Whether the holder of these claims would see a row, and why.
#[utoipa::path(
    post,
    path = "/v1/admin/rules/explain/{g}",
    tag = "admin",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = serde_json::Value, description = "`{\"table\",\"rowId\",\"claims\":{\"sub\":…}}`"),
    responses((status = 200, description = "`{\"visible\",\"writable\",\"row\",\"buckets\":[…]}`")),
    security(("bearer" = []))
)]
pub(super) async fn why(
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> std::result::Result<Response, ApiError> {
    let body = match read_body(&headers, body, QUESTION_BYTES_MAX).await {
        Ok(body) => body,
        Err(answer) => return Ok(*answer),
    };
    let question: Question = serde_json::from_slice(&body).map_err(|error| {
        ApiError::invalid(format!(
            "the body is not {{\"table\", \"rowId\", \"claims\"}}: {error}"
        ))
    })?;
    let claims = claims(&question.claims)?;
    let explained = answer(&caller, question, &claims).await?;
    Ok(Json(explained).into_response())
}

async fn answer(caller: &Caller, question: Question, claims: &Claims) -> Result<Value> {
    let Question { table, row_id, .. } = question;
    let Some(view) = caller.gateway.live().view(table.as_ref()) else {
        let text = format!(
            "table `{table}` does not exist in `{}`",
            caller.gateway.id()
        );
        return Err(crate::Refusal::new(ErrorCode::UnknownTable, text).into());
    };
    let rules = caller.gateway.rules();
    let mut states = row_states_of(&view, std::slice::from_ref(&row_id))
        .await
        .map_err(Error::Read)?;
    let state = states.remove(&row_id).filter(|state| state.exists());
    let mut values = state
        .map(|state| row_values(&view.schema, &row_id, &state))
        .transpose()?;
    let columns = rules.columns(&table);
    if let Some(values) = &mut values {
        values.retain(|column, _| columns.contains(column));
    }
    Ok(explain(&rules, &table, &(row_id, values), claims))
}

/// Claims as a token has them: texts, numbers, booleans, and lists of those.
fn claims(question: &BTreeMap<String, Value>) -> std::result::Result<Claims, ApiError> {
    let mut claims = Claims::new();
    for (name, value) in question {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        if values.len() > CLAIM_VALUES_MAX {
            return Err(ApiError::invalid(format!(
                "claims: `{name}` has {} values, {CLAIM_VALUES_MAX} are the most",
                values.len()
            )));
        }
        let values: Option<Vec<ClaimValue>> = values.iter().map(claim_value).collect();
        let values = values.ok_or_else(|| {
            ApiError::invalid(format!(
                "claims: `{name}` is no text, number, boolean or list of them"
            ))
        })?;
        claims.set(name.clone(), values);
    }
    Ok(claims)
}

fn claim_value(value: &Value) -> Option<ClaimValue> {
    match value {
        Value::String(text) => Some(ClaimValue::Text(text.clone())),
        Value::Number(number) => number.as_f64().map(ClaimValue::Number),
        Value::Bool(yes) => Some(ClaimValue::Boolean(*yes)),
        _ => None,
    }
}
