//! Request bodies, read up to a limit whatever the headers say.
//!
//! **Invariant:** the bodies that are held at once have a bounded number of bytes: of one subject, of one gateway, and of
//! the process.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use lakesync_proto::{ErrorCode, GatewayId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{error_answer, unavailable_answer};
use super::security::{Caller, Subject};
use super::shares::{Share, Shares};

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
pub(super) struct BodyBudget {
    process: Arc<Semaphore>,
    gateways: Shares<GatewayId>,
    subjects: Shares<Subject>,
}

/// What a body has of the budget; it is to be held as long as the body.
#[derive(Debug)]
pub(super) struct BodyShare {
    process: OwnedSemaphorePermit,
    gateway: Share<GatewayId>,
    /// None without authentication: then all writers are one.
    subject: Option<Share<Subject>>,
}

impl BodyBudget {
    /// 256 MiB: sixteen pushes of the largest size, or some thousands of ordinary ones.
    const KIB_MAX: usize = 256 << 10;
    /// What is said when nothing of it is left.
    pub(super) const FULL: &str =
        "this server reads as many bodies as its memory allows; send again in a second";
    /// Of one gateway, half of it: what one tenant sends leaves room for the others.
    const GATEWAY_KIB_MAX: usize = Self::KIB_MAX / 2;
    /// Of one subject of a gateway, 32 MiB: two pushes of the largest size.
    const SUBJECT_KIB_MAX: usize = 32 << 10;

    pub(super) fn new() -> Self {
        Self {
            process: Arc::new(Semaphore::new(Self::KIB_MAX)),
            gateways: Shares::new(Self::GATEWAY_KIB_MAX),
            subjects: Shares::new(Self::SUBJECT_KIB_MAX),
        }
    }

    /// As [`read_body`], for `caller`, and the body's share.
    pub(super) async fn read(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
    ) -> Result<(Bytes, BodyShare), Box<Response>> {
        check_declared(headers, bytes_max)?;
        let share = self.share(caller.gateway.id(), caller.subject().as_ref())?;
        read_shared(share, body, bytes_max).await
    }

    /// The share of a message of `caller`, to be held as long as the message; none when there is not that much left.
    pub(super) fn message(&self, caller: &Caller, bytes: usize) -> Option<BodyShare> {
        let share = self.share(caller.gateway.id(), caller.subject().as_ref());
        let mut share = share.ok()?;
        share.take(bytes.div_ceil(1 << 10)).ok()?;
        Some(share)
    }

    /// All that is left of it.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> OwnedSemaphorePermit {
        take_of_process(&self.process, self.process.available_permits()).unwrap()
    }

    /// A share with nothing in it yet.
    fn share(
        &self,
        gateway: &GatewayId,
        subject: Option<&Subject>,
    ) -> Result<BodyShare, Box<Response>> {
        Ok(BodyShare {
            process: take_of_process(&self.process, 0)?,
            gateway: self.gateways.of(gateway),
            subject: subject.map(|subject| self.subjects.of(subject)),
        })
    }
}

impl BodyShare {
    fn take(&mut self, kib: usize) -> Result<(), Box<Response>> {
        let own = self.subject.as_mut().is_none_or(|share| share.take(kib));
        if !own {
            return Err(Box::new(unavailable_answer(
                "this token's holder has as many bodies under way as one may; send them one after another",
            )));
        }
        if !self.gateway.take(kib) {
            return Err(Box::new(unavailable_answer(
                "this gateway reads as many bodies as one may; send again in a second",
            )));
        }
        let more = take_of_process(self.process.semaphore(), kib)?;
        self.process.merge(more);
        Ok(())
    }
}

fn take_of_process(
    process: &Arc<Semaphore>,
    kib: usize,
) -> Result<OwnedSemaphorePermit, Box<Response>> {
    let kib = u32::try_from(kib).unwrap_or(u32::MAX);
    let taken = Arc::clone(process).try_acquire_many_owned(kib);
    taken.map_err(|_| Box::new(unavailable_answer(BodyBudget::FULL)))
}

async fn read_shared(
    mut share: BodyShare,
    body: Body,
    bytes_max: usize,
) -> Result<(Bytes, BodyShare), Box<Response>> {
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
        // Before it is copied: what is refused takes no memory.
        let needed = (read.len() + data.len())
            .saturating_sub(shared_bytes)
            .div_ceil(1 << 10);
        share.take(needed)?;
        shared_bytes += needed << 10;
        read.extend_from_slice(&data);
    }
    Ok((read.freeze(), share))
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
    use lakesync_proto::ClientId;

    use super::*;

    const MIB: usize = 1 << 20;

    async fn read(
        budget: &BodyBudget,
        (gateway, client): (&str, Option<&str>),
        bytes: usize,
        bytes_max: usize,
    ) -> Result<BodyShare, StatusCode> {
        let gateway = GatewayId::parse(gateway).unwrap();
        let subject = client.map(|client| Subject {
            gateway: gateway.clone(),
            client: ClientId::parse(client).unwrap(),
        });
        let share = budget.share(&gateway, subject.as_ref()).unwrap();
        let body = Body::from(vec![b' '; bytes]);
        match read_shared(share, body, bytes_max).await {
            Ok((held, share)) => {
                assert_eq!(held.len(), bytes);
                Ok(share)
            }
            Err(answer) => Err(answer.status()),
        }
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new();
        let mut held = Vec::new();
        for gateway in ["a", "b"] {
            let half = BodyBudget::GATEWAY_KIB_MAX << 10;
            held.push(read(&budget, (gateway, None), half, half).await.unwrap());
        }
        let c = ("c", None);
        let refused = read(&budget, c, 1, 10).await.unwrap_err();
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        assert!(read(&budget, c, 10, 10).await.is_ok());
        let refused = read(&budget, c, 11, 10).await.unwrap_err();
        assert_eq!(refused, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(budget.process.available_permits(), BodyBudget::KIB_MAX);
    }

    #[tokio::test]
    async fn one_writer_blocks_neither_its_neighbours_nor_one_tenant_the_others() {
        let budget = BodyBudget::new();
        let busy = Err(StatusCode::SERVICE_UNAVAILABLE);
        let mut held = Vec::new();
        for client in ["ada", "ben", "cleo", "dan"] {
            let own = ("shop", Some(client));
            held.push(read(&budget, own, 32 * MIB, usize::MAX).await.unwrap());
            assert_eq!(read(&budget, own, 1, 1).await.map(drop), busy, "{client}");
        }
        let shop = read(&budget, ("shop", Some("eve")), 1, 1).await;
        assert_eq!(shop.map(drop), busy, "the gateway's share is taken");
        let farm = read(&budget, ("farm", Some("ada")), MIB, MIB).await;
        assert!(farm.is_ok(), "ada of another tenant is somebody else");
        drop(held);
        assert!(read(&budget, ("shop", Some("ada")), 1, 1).await.is_ok());
    }
}
