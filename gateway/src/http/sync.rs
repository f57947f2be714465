//! Push and pull as every transport does them: who may, where a legacy client stands, what is counted.
//!
//! **Invariant:** HTTP, WebSocket and event streams let in and give out the same.

use std::time::Instant;

use lakesync_proto::{ClientId, ErrorCode, PullPage, Push, PushAck};

use super::front::Front;
use super::live::next_cursor;
use super::security::Caller;
use crate::error::{Error, Refusal, Result};
use crate::pull::{Pull, Since};
use crate::rules::Audience;
use crate::stats::Ended;

/// Accepts a push of `caller`.
pub(super) async fn push(front: &Front, caller: &Caller, mut push: Push) -> Result<PushAck> {
    let (gateway, identity) = (&caller.gateway, &caller.identity);
    let began = Instant::now();
    identity.check_client(&push.client_id)?;
    let visible = *gateway.visible().borrow();
    let standing = front.standing();
    push.last_seen = standing.last_seen(gateway.id(), &push.client_id, push.last_seen, visible);
    let (client, deltas) = (push.client_id.clone(), push.deltas.len());
    let pushed = match identity.is_ruled() && identity.subject.is_some() {
        true => check_authors(&push),
        false => Ok(()),
    };
    let pushed = match pushed {
        Ok(()) => {
            let audience = gateway.audience(identity);
            gateway.push_as(push, &audience).await
        }
        Err(refusal) => Err(refusal.into()),
    };
    gateway
        .stats()
        .push(Ended::of(&pushed), began.elapsed(), deltas);
    let ack = pushed?;
    standing.set(gateway.id(), &client, ack.cursor);
    Ok(ack)
}

/// The next page for `caller`, who is `client`.
pub(super) async fn pull(
    front: &Front,
    caller: &Caller,
    pull: &Pull,
    client: &ClientId,
) -> Result<PullPage> {
    let audience = caller.gateway.audience(&caller.identity);
    let page = read(caller, pull, &audience).await?;
    if matches!(pull.since, Since::Seq(_)) {
        let gateway = caller.gateway.id();
        front.standing().set(gateway, client, page.cursor);
    }
    Ok(page)
}

/// The next page for `audience`, counted.
pub(super) async fn read(caller: &Caller, pull: &Pull, audience: &Audience) -> Result<PullPage> {
    let began = Instant::now();
    let pulled = caller.gateway.pull_as(pull, audience).await;
    let deltas = pulled.as_ref().map_or(0, |page| page.deltas.len());
    let stats = caller.gateway.stats();
    stats.pull(Ended::of(&pulled), began.elapsed(), deltas);
    let mut page = pulled.map_err(|error| with_checkpoint(error, caller))?;
    page.notes.next = Some(next_cursor(&page, audience));
    Ok(page)
}

/// An expired cursor with the address of what the client loads instead.
pub(super) fn with_checkpoint(error: Error, caller: &Caller) -> Error {
    match error {
        Error::Refused(refusal) if refusal.code == ErrorCode::CursorExpired => {
            match refusal.details.contains_key("checkpoint") {
                true => Error::Refused(refusal),
                false => {
                    let address = format!("/v1/sync/{}/checkpoint", caller.gateway.id());
                    Error::Refused(refusal.with("checkpoint", address))
                }
            }
        }
        error => error,
    }
}

/// A client writes as itself: the client id of every delta is the push's.
fn check_authors(push: &Push) -> Result<(), Refusal> {
    let forged = push
        .deltas
        .iter()
        .position(|delta| delta.client_id != push.client_id);
    match forged {
        None => Ok(()),
        Some(index) => {
            let text = format!(
                "Client ID mismatch: delta {index} is of `{}`, the token is for `{}`; only the roles ingest and admin \
                 push deltas of others",
                push.deltas[index].client_id, push.client_id
            );
            Err(Refusal::new(ErrorCode::Forbidden, text).at(index))
        }
    }
}
