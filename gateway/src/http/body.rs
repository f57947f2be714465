//! Request bodies, read up to a limit whatever the headers say.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use lakesync_proto::ErrorCode;

use super::answer::error_answer;

/// The content type of protobuf bodies.
pub const PROTOBUF: &str = "application/x-protobuf";

/// Whether a header names protobuf.
pub(crate) fn is_protobuf(headers: &HeaderMap, name: header::HeaderName) -> bool {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.trim_start().starts_with(PROTOBUF))
}

/// The whole body, at most `bytes_max` bytes of it.
///
/// # Errors
/// The answer to send: 413 beyond the limit, at once when `content-length` says so; 400 when the body ends early.
pub async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Bytes, Box<Response>> {
    let declared = headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    axum::body::to_bytes(body, bytes_max)
        .await
        .map_err(|error| {
            let limit = std::error::Error::source(&error)
                .is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
            match limit {
                true => too_large(bytes_max),
                false => Box::new(error_answer(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::ValidationError,
                    &format!("the request body could not be read: {error}"),
                    None,
                )),
            }
        })
}

fn too_large(bytes_max: usize) -> Box<Response> {
    Box::new(error_answer(
        StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::ValidationError,
        &format!(
            "Payload too large: a body may have {bytes_max} bytes; send the deltas in several pushes"
        ),
        None,
    ))
}
