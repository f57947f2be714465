//! `POST /v1/sql` and `POST /v1/admin/sql`: a statement in, rows out.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use lakesync_gateway::http::{error_answer, read_body, unavailable_answer};
use lakesync_proto::{ErrorCode, GatewayId};
use serde::Deserialize;

use super::rows::{RowFormat, stream_answer};
use crate::error::{Error, Result};
use crate::lake::{Lake, default_gateway};
use crate::statement::Access;
use crate::syntax::{SQL_BYTES_MAX, parse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    sql: String,
    /// The gateway whose tables need no schema before their name.
    #[serde(default = "default_gateway")]
    gateway: GatewayId,
}

pub(super) async fn read(State(lake): State<Lake>, headers: HeaderMap, body: Body) -> Response {
    answer(&lake, &headers, body, Access::Read).await
}

pub(super) async fn write(State(lake): State<Lake>, headers: HeaderMap, body: Body) -> Response {
    answer(&lake, &headers, body, Access::Write).await
}

async fn answer(lake: &Lake, headers: &HeaderMap, body: Body, access: Access) -> Response {
    // JSON escapes may double the text.
    let body = match read_body(headers, body, 2 * SQL_BYTES_MAX + 1024).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let ran = async {
        let request: Request = serde_json::from_slice(&body).map_err(|error| {
            Error::Invalid(format!(
                "the body is not {{\"sql\": \"…\", \"gateway\"?: \"…\"}}: {error}"
            ))
        })?;
        run(lake, &request, access, RowFormat::wanted(headers)?).await
    };
    ran.await.unwrap_or_else(|error| error_response(&error))
}

async fn run(
    lake: &Lake,
    request: &Request,
    access: Access,
    format: RowFormat,
) -> Result<Response> {
    let mut statements = parse(&request.sql)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Error::Invalid("send exactly one statement".to_owned()));
    };
    let frame = lake.run(statement, access, &request.gateway).await?;
    stream_answer(frame, format).await
}

fn error_response(error: &Error) -> Response {
    if error.is_unavailable() {
        return unavailable_answer(&error.to_string());
    }
    let (status, code) = match error.is_callers() {
        true => (StatusCode::BAD_REQUEST, ErrorCode::ValidationError),
        false => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::InternalError),
    };
    error_answer(status, code, &error.to_string(), None)
}
