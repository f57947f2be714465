//! Request bodies, read up to a limit whatever the headers say.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use lakesync_proto::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{error_answer, unavailable_answer};

/// The content type of protobuf bodies.
pub const PROTOBUF: &str = "application/x-protobuf";

/// Whether a header names protobuf.
pub(crate) fn is_protobuf(headers: &HeaderMap, name: header::HeaderName) -> bool {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.trim_start().starts_with(PROTOBUF))
}

/// The bytes of all bodies and WebSocket messages that a process reads at once: more are told to come back before memory
/// runs out.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// 256 MiB: sixteen pushes of the largest size, or some thousands of ordinary ones.
    const KIB_MAX: usize = 256 << 10;
    /// What is said when nothing of it is left.
    pub(super) const FULL: &str =
        "this server reads as many bodies as its memory allows; send again in a second";

    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(Self::KIB_MAX)))
    }

    /// As [`read_body`], and the budget's share, which is to be held as long as the body.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Box<Response>> {
        check_declared(headers, bytes_max)?;
        let mut share = self.take(0)?;
        let mut shared_bytes = 0;
        let mut read = BytesMut::new();
        let mut body = std::pin::pin!(body);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken_off(&error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if read.len() + data.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            read.extend_from_slice(&data);
            let needed = read.len().saturating_sub(shared_bytes).div_ceil(1 << 10);
            share.merge(self.take(needed)?);
            shared_bytes += needed << 10;
        }
        Ok((read.freeze(), share))
    }

    /// All that is left of it.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> OwnedSemaphorePermit {
        self.take(self.0.available_permits()).unwrap()
    }

    fn take(&self, kib: usize) -> Result<OwnedSemaphorePermit, Box<Response>> {
        self.share(kib)
            .ok_or_else(|| Box::new(unavailable_answer(Self::FULL)))
    }

    /// A share for `kib` KiB, to be held as long as they are; none when there is not that much left.
    pub(super) fn share(&self, kib: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(kib).ok()
    }
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
    check_declared(headers, bytes_max)?;
    axum::body::to_bytes(body, bytes_max)
        .await
        .map_err(|error| {
            let limit = std::error::Error::source(&error)
                .is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
            match limit {
                true => too_large(bytes_max),
                false => broken_off(&error),
            }
        })
}

fn check_declared(headers: &HeaderMap, bytes_max: usize) -> Result<(), Box<Response>> {
    let declared = headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match declared.is_some_and(|bytes| bytes > bytes_max) {
        true => Err(too_large(bytes_max)),
        false => Ok(()),
    }
}

fn broken_off(error: &axum::Error) -> Box<Response> {
    Box::new(error_answer(
        StatusCode::BAD_REQUEST,
        ErrorCode::ValidationError,
        &format!("the request body could not be read: {error}"),
        None,
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new();
        let read = async |bytes: usize, bytes_max| {
            let body = Body::from(vec![b' '; bytes]);
            budget.read(&HeaderMap::new(), body, bytes_max).await
        };
        let (held, share) = read(BodyBudget::KIB_MAX << 10, usize::MAX).await.unwrap();
        assert_eq!(held.len(), 256 << 20);
        let refused = read(1, 10).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(share);
        assert!(read(10, 10).await.is_ok());
        let refused = read(11, 10).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(budget.0.available_permits(), BodyBudget::KIB_MAX);
    }
}
