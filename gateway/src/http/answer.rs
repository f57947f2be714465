//! Errors as answers: the one place where an error becomes an HTTP status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::ErrorCode;
use serde_json::json;

use crate::error::{Error, Refusal};

/// An error on its way to the client: `{"error": text, "code": CODE, "index"?: delta}`.
#[derive(Debug)]
pub struct ApiError(Error);

impl<E: Into<Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl ApiError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self(Error::Refused(Refusal::new(
            ErrorCode::ValidationError,
            message,
        )))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let text = self.0.to_string();
        match self.0 {
            Error::Refused(refusal) => {
                error_answer(status(refusal.code), refusal.code, &text, refusal.index)
            }
            Error::Busy { .. } | Error::Storage { .. } => unavailable_answer(&text),
            Error::Closed { .. } | Error::Poisoned { .. } => error_answer(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::InternalError,
                &text,
                None,
            ),
            _ => error_answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::InternalError,
                &text,
                None,
            ),
        }
    }
}

/// The body that every error of this server has.
#[must_use]
pub fn error_answer(
    status: StatusCode,
    code: ErrorCode,
    text: &str,
    index: Option<usize>,
) -> Response {
    let mut body = json!({"error": text, "code": code.as_str()});
    if let Some(index) = index {
        body["index"] = index.into();
    }
    (status, Json(body)).into_response()
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::ValidationError | ErrorCode::DeltaIdMismatch => StatusCode::BAD_REQUEST,
        ErrorCode::AuthError => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::ClockDrift | ErrorCode::DeltaIdReused | ErrorCode::SchemaConflict => {
            StatusCode::CONFLICT
        }
        ErrorCode::CursorExpired => StatusCode::GONE,
        ErrorCode::SchemaError | ErrorCode::UnknownTable | ErrorCode::LateDelta => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::BackpressureError => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a sound request that cannot be taken now: come back in a second.
#[must_use]
pub fn unavailable_answer(text: &str) -> Response {
    let (status, code) = (
        StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::BackpressureError,
    );
    let mut response = error_answer(status, code, text, None);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
