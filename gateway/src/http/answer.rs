//! Errors as answers: the one place where an error becomes an HTTP status.
//!
//! **Invariant:** every error answer has the body `{"error": text, "code": CODE, …}`; `requestId` is added where the
//! request's id is known (`observe.rs`).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::ErrorCode;
use serde_json::{Map, Value, json};

use crate::error::{Error, Refusal};

/// How soon a request that was refused for load may come again when nothing else is said, in seconds.
pub(super) const RETRY_AFTER_S: u64 = 1;

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError(Error);

/// The body of an error answer, kept beside the answer so that the request's id can be added to it.
#[derive(Clone, Debug)]
pub(super) struct ErrorBody(pub(super) Map<String, Value>);

impl<E: Into<Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl ApiError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::refused(ErrorCode::ValidationError, message)
    }

    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Error::Refused(Refusal::new(code, message)))
    }

    pub(super) fn into_error(self) -> Error {
        self.0
    }

    /// The body of its answer.
    pub(super) fn body(&self) -> Map<String, Value> {
        let (code, text, index) = parts(&self.0);
        let mut body = Map::new();
        body.insert("error".to_owned(), text.into());
        body.insert("code".to_owned(), code.as_str().into());
        if let Some(index) = index {
            body.insert("index".to_owned(), index.into());
        }
        if let Error::Refused(refusal) = &self.0 {
            body.extend(refusal.details.clone());
        }
        body
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = code(&self.0);
        let status = match self.0 {
            Error::Closed { .. } | Error::Poisoned { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => status(code),
        };
        let mut response = with_body(status, self.body());
        let headers = response.headers_mut();
        if let Some(ms) = retry_after_ms(&self.0) {
            headers.insert(header::RETRY_AFTER, ms.div_ceil(1_000).into());
        }
        if code == ErrorCode::AuthError {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
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
    let Value::Object(body) = body else {
        unreachable!("it was written as an object")
    };
    with_body(status, body)
}

fn with_body(status: StatusCode, body: Map<String, Value>) -> Response {
    let mut response = (status, Json(&body)).into_response();
    if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY].contains(&status) {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
    }
    response.extensions_mut().insert(ErrorBody(body));
    response
}

/// The answer to a sound request that cannot be taken now: come back in a second.
#[must_use]
pub fn unavailable_answer(text: &str) -> Response {
    ApiError::refused(ErrorCode::BackpressureError, text).into_response()
}

/// How soon a request that was refused for load may come again, in milliseconds: what the refusal says, or a moment.
pub(super) fn retry_after_ms(error: &Error) -> Option<u64> {
    let busy = [
        ErrorCode::BackpressureError,
        ErrorCode::RateLimited,
        ErrorCode::StorageFull,
    ];
    if !busy.contains(&code(error)) {
        return None;
    }
    let said = |name: &str| match error {
        Error::Refused(refusal) => refusal.details.get(name).and_then(Value::as_u64),
        _ => None,
    };
    let seconds = || said("retryAfter").unwrap_or(RETRY_AFTER_S);
    Some(said("retryAfterMs").unwrap_or_else(|| seconds().saturating_mul(1_000)))
}

/// The stable code, the text and the delta at fault: what a WebSocket says of an error.
pub(super) fn parts(error: &Error) -> (ErrorCode, String, Option<usize>) {
    let index = match error {
        Error::Refused(refusal) => refusal.index,
        _ => None,
    };
    (code(error), error.to_string(), index)
}

fn code(error: &Error) -> ErrorCode {
    match error {
        Error::Refused(refusal) => refusal.code,
        Error::Busy { .. } | Error::Storage { .. } => ErrorCode::BackpressureError,
        _ => ErrorCode::InternalError,
    }
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
        ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::NotSupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::AdapterError => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
