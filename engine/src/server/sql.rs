//! `POST /v1/sql` and `POST /v1/admin/sql`: a statement in, rows out.
//!
//! SQL is not bound by sync rules, so `client` and `ingest` tokens have none of it; `reader` reads, `admin` also writes.
//!
//! **Invariant:** a statement sees the gateways that its caller's token names, and nothing of others.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use datafusion::prelude::DataFrame;
use lakesync_gateway::auth::{Identity, Role, Scope};
use lakesync_gateway::http::{error_answer, read_body, unavailable_answer};
use lakesync_proto::{ErrorCode, GatewayId};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::maintenance;
use super::rows::{RowFormat, rows};
use super::statements::{Lasting, Statements};
use crate::error::{Error, Result};
use crate::lake::{Lake, default_gateway};
use crate::statement::{Access, Grant};
use crate::syntax::{LakeStatement, SQL_BYTES_MAX, parse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    sql: String,
    /// The gateway whose tables need no schema before their name.
    gateway: Option<GatewayId>,
}

/// What the routes of SQL work with.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    pub(super) lake: Lake,
    pub(super) statements: Statements,
    /// How long a body may take to arrive.
    pub(super) body_timeout: Duration,
}

/// The routes of SQL.
pub(super) fn routes(sql: Sql) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(read))
        .routes(routes!(write))
        .routes(routes!(maintenance::pause))
        .routes(routes!(maintenance::resume))
        .with_state(sql)
}

/// Runs one statement that reads.
#[utoipa::path(
    operation_id = "sql",
    post,
    path = "/v1/sql",
    tag = "sql",
    request_body(content = String, content_type = "application/json", description = "`{\"sql\": \"select …\", \"gateway\"?: \"public\"}`"),
    responses((status = 200, description = "The rows: JSON, NDJSON or an Arrow stream, by `accept`")),
    security(("bearer" = []))
)]
async fn read(
    State(sql): State<Sql>,
    Extension(identity): Extension<Identity>,
    request: HttpRequest,
) -> Response {
    match identity.role {
        Role::Reader | Role::Admin => answer(sql, identity, request, Access::Read).await,
        role @ (Role::Client | Role::Ingest) => forbidden(&format!(
            "Role `{role}` has no SQL, which sync rules do not bind: this needs a token whose role is reader or admin"
        )),
    }
}

/// Runs one statement that may also be `INSERT`, `UPDATE`, `DELETE`, `MERGE` or `CALL`.
#[utoipa::path(
    operation_id = "sql_write",
    post,
    path = "/v1/admin/sql",
    tag = "sql",
    request_body(content = String, content_type = "application/json", description = "`{\"sql\": \"insert …\", \"gateway\"?: \"public\"}`"),
    responses((status = 200, description = "The rows: JSON, NDJSON or an Arrow stream, by `accept`")),
    security(("bearer" = []))
)]
async fn write(
    State(sql): State<Sql>,
    Extension(identity): Extension<Identity>,
    request: HttpRequest,
) -> Response {
    match identity.role {
        Role::Admin => answer(sql, identity, request, Access::Write).await,
        role => forbidden(&format!(
            "Admin role required: this token's role is `{role}`"
        )),
    }
}

fn forbidden(text: &str) -> Response {
    error_answer(StatusCode::FORBIDDEN, ErrorCode::Forbidden, text, None)
}

async fn answer(sql: Sql, identity: Identity, request: HttpRequest, access: Access) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    // JSON escapes may double the text.
    let read = read_body(&headers, body, 2 * SQL_BYTES_MAX + 1024);
    let body = match timeout(sql.body_timeout, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(answer)) => return *answer,
        Err(_) => return too_slow(sql.body_timeout),
    };
    let subject = identity.subject.as_ref();
    let subject = subject.map_or_else(String::new, ToString::to_string);
    let place = match sql.statements.admit(&subject) {
        Ok(place) => place,
        Err(answer) => return *answer,
    };
    let lake = sql.lake;
    let lasting = Lasting::default();
    let lasts = lasting.clone();
    let work = async move {
        let request: Request = serde_json::from_slice(&body).map_err(|error| {
            Error::Invalid(format!(
                "the body is not {{\"sql\": \"…\", \"gateway\"?: \"…\"}}: {error}"
            ))
        })?;
        let format = RowFormat::wanted(&headers)?;
        let grant = Grant {
            access,
            identity: &identity,
        };
        let frame = plan(&lake, &request, grant, &lasts).await?;
        rows(frame, format).await
    };
    sql.statements
        .run((place, lasting), work, error_response)
        .await
}

pub(super) fn too_slow(limit: Duration) -> Response {
    let text = format!(
        "the request body was not there after {} (server.timeout); send it again over a faster connection",
        humantime::format_duration(limit)
    );
    error_answer(
        StatusCode::REQUEST_TIMEOUT,
        ErrorCode::ValidationError,
        &text,
        None,
    )
}

async fn plan(
    lake: &Lake,
    request: &Request,
    grant: Grant<'_>,
    lasts: &Lasting,
) -> Result<DataFrame> {
    let mut statements = parse(&request.sql)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Error::Invalid("send exactly one statement".to_owned()));
    };
    if matches!(statement, LakeStatement::Call(_)) {
        lasts.begin();
    }
    let gateway = request.gateway.clone();
    let gateway = gateway.unwrap_or_else(|| home(grant.identity));
    lake.run_as(statement, grant, &gateway).await
}

/// The gateway of a statement that names none: `public`, or the only one that the token is for.
fn home(identity: &Identity) -> GatewayId {
    match &identity.scope {
        Scope::Only(names) if names.len() == 1 => names.first().cloned(),
        _ => None,
    }
    .unwrap_or_else(default_gateway)
}

pub(super) fn error_response(error: &Error) -> Response {
    if error.is_unavailable() {
        return unavailable_answer(&error.to_string());
    }
    let (status, code) = match (error.is_callers(), error.is_storage_full()) {
        (true, _) => (StatusCode::BAD_REQUEST, ErrorCode::ValidationError),
        (_, true) => (StatusCode::INSUFFICIENT_STORAGE, ErrorCode::StorageFull),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::InternalError),
    };
    error_answer(status, code, &error.to_string(), None)
}
