//! `POST /v1/admin/maintenance/{g}/pause` and `…/resume`: as `CALL system.pause_maintenance` and `resume_maintenance`, for
//! whoever has no SQL at hand. What runs and what is paused is in `GET /v1/admin/status`.
//!
//! **Invariant:** an admin of one gateway changes nothing of another, and hears of none that it does not reach.

use std::collections::BTreeSet;

use axum::Extension;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use lakesync_gateway::auth::{Identity, Role};
use lakesync_gateway::http::{error_answer, read_body};
use lakesync_proto::{ErrorCode, TableName};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::sql::{Sql, error_response, too_slow};
use crate::error::{Error, Result};
use crate::maintenance::{Pausing, change_paused};

/// The longest body, in bytes: names of some thousand tables.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    /// All tables when it is absent.
    tables: Option<BTreeSet<String>>,
}

/// Lets the scheduler leave tables alone until they are resumed.
#[utoipa::path(
    operation_id = "pause_maintenance",
    post,
    path = "/v1/admin/maintenance/{g}/pause",
    tag = "admin",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = serde_json::Value, description = "`{\"tables\"?: [\"t\"]}`; all without it"),
    responses((status = 200, description = "`{\"paused\":[…]}`: those that are paused now")),
    security(("bearer" = []))
)]
pub(super) async fn pause(
    State(sql): State<Sql>,
    Extension(identity): Extension<Identity>,
    Path(gateway): Path<String>,
    request: Request,
) -> Response {
    change(&sql, &identity, (&gateway, Pausing::Pause), request).await
}

/// Lets the scheduler look after tables again.
#[utoipa::path(
    operation_id = "resume_maintenance",
    post,
    path = "/v1/admin/maintenance/{g}/resume",
    tag = "admin",
    params(("g" = String, Path, description = "The gateway")),
    request_body(content = serde_json::Value, description = "`{\"tables\"?: [\"t\"]}`; all without it"),
    responses((status = 200, description = "`{\"paused\":[…]}`: those that are paused still")),
    security(("bearer" = []))
)]
pub(super) async fn resume(
    State(sql): State<Sql>,
    Extension(identity): Extension<Identity>,
    Path(gateway): Path<String>,
    request: Request,
) -> Response {
    change(&sql, &identity, (&gateway, Pausing::Resume), request).await
}

async fn change(
    sql: &Sql,
    identity: &Identity,
    (gateway, pausing): (&str, Pausing),
    request: Request,
) -> Response {
    if identity.role != Role::Admin {
        let text = format!(
            "Admin role required: this token's role is `{}`",
            identity.role
        );
        return error_answer(StatusCode::FORBIDDEN, ErrorCode::Forbidden, &text, None);
    }
    let (parts, body) = request.into_parts();
    let body = match timeout(
        sql.body_timeout,
        read_body(&parts.headers, body, BODY_BYTES_MAX),
    )
    .await
    {
        Ok(Ok(body)) => body,
        Ok(Err(answer)) => return *answer,
        Err(_) => return too_slow(sql.body_timeout),
    };
    match changed(sql, identity, (gateway, pausing), &body).await {
        Ok(paused) => {
            let paused: Vec<&str> = paused.iter().map(AsRef::as_ref).collect();
            (StatusCode::OK, Json(json!({"paused": paused}))).into_response()
        }
        Err(error) => error_response(&error),
    }
}

async fn changed(
    sql: &Sql,
    identity: &Identity,
    (gateway, pausing): (&str, Pausing),
    body: &[u8],
) -> Result<BTreeSet<TableName>> {
    let gateway = sql.lake.gateway_for(gateway, identity)?;
    let asked: Tables = match body.is_empty() {
        true => Tables::default(),
        false => serde_json::from_slice(body).map_err(|error| {
            Error::Invalid(format!("the body is not {{\"tables\"?: [\"t\"]}}: {error}"))
        })?,
    };
    let known = || gateway.live().tables().into_iter().map(|size| size.table);
    let tables: Vec<TableName> = match &asked.tables {
        None => known().collect(),
        Some(names) => {
            let found: Vec<TableName> = known()
                .filter(|table| names.contains(table.as_ref()))
                .collect();
            if let Some(unknown) = names
                .iter()
                .find(|name| !found.iter().any(|table| table.as_ref() == name.as_str()))
            {
                return Err(Error::Invalid(format!(
                    "table `{unknown}` does not exist in `{}`; nothing was changed",
                    gateway.id()
                )));
            }
            found
        }
    };
    change_paused(&gateway, &tables, pausing).await
}
