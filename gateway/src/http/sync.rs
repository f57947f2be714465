//! Push and pull as every transport does them: who may, where a legacy client stands, what is counted.
//!
//! **Invariant:** HTTP, WebSocket and event streams let in and give out the same.

use std::sync::Arc;
use std::time::Instant;

use lakesync_proto::{ClientId, ErrorCode, PullPage, Push, PushAck, Seq};

use super::front::Front;
use super::live::{FRAME_DELTAS_MAX, Form, Frame, Hub, Place, next_cursor};
use super::security::Caller;
use crate::auth::Role;
use crate::error::{Error, Refusal, Result};
use crate::gateway::Gateway;
use crate::pull::{Pull, Since, Told};
use crate::stats::Ended;

/// Accepts a push of `caller`. `given` is where a legacy client stands by the connection that it pushes over: what it
/// was sent there has come before the answer, though nothing says so to any other connection.
pub(super) async fn push(
    front: &Front,
    caller: &Caller,
    mut push: Push,
    given: Option<Seq>,
) -> Result<PushAck> {
    let (gateway, standing) = (&caller.gateway, front.standing());
    let began = Instant::now();
    check_writes(caller.identity.role)?;
    let visible = *gateway.visible().borrow();
    let given = given.filter(|_| push.last_seen > visible);
    push.last_seen = match given {
        Some(given) => given.min(visible),
        None => standing.last_seen(gateway.id(), &push.client_id, push.last_seen, visible),
    };
    let (client, deltas) = (push.client_id.clone(), push.deltas.len());
    let mut pushing = standing.push(gateway.id(), &client);
    let pushed = gateway.push_by(push, &caller.identity).await;
    let stats = gateway.stats();
    stats.push(Ended::of(&pushed), began.elapsed(), deltas);
    if let Err(Error::Poisoned { .. }) = &pushed {
        front.record_poisoned(gateway.id());
    }
    let ack = pushed?;
    let last = ack.outcomes.iter().map(|outcome| outcome.seq()).max();
    pushing.accepted(last.unwrap_or(Seq::ZERO));
    if given.is_none() {
        // Even if the answer is lost: there is nothing to hear up to its cursor.
        standing.set(gateway.id(), &client, ack.cursor);
    }
    Ok(ack)
}

/// The next page for `caller`, who is `client`.
pub(super) async fn pull(
    front: &Front,
    caller: &Caller,
    pull: &Pull,
    client: &ClientId,
) -> Result<PullPage> {
    let page = read(caller, pull, client).await?;
    if let Since::Seq(since) = pull.since {
        // The page may be lost on its way: what proves that it came is that the client goes on from it.
        front.standing().set(caller.gateway.id(), client, since);
    }
    Ok(page)
}

/// The next page for `client`, counted.
pub(super) async fn read(caller: &Caller, pull: &Pull, client: &ClientId) -> Result<PullPage> {
    let told = told(caller, pull, client).await?;
    Ok(told.page)
}

async fn told(caller: &Caller, pull: &Pull, client: &ClientId) -> Result<Told> {
    let began = Instant::now();
    let audience = caller.gateway.audience(&caller.identity);
    let pulled = caller.gateway.told_by(pull, &caller.identity, client).await;
    let deltas = pulled.as_ref().map_or(0, |told| told.page.deltas.len());
    let stats = caller.gateway.stats();
    stats.pull(Ended::of(&pulled), began.elapsed(), deltas);
    let mut told = pulled.map_err(|error| with_checkpoint(error, caller))?;
    told.page.notes.next = Some(next_cursor(&told.page, &audience));
    Ok(told)
}

/// What `client` is sent live from `place`: shared with everybody who sees the same, unless deltas of its own may be
/// among it that it may not see, which only it hears, or that it is not sent.
pub(super) async fn live(
    front: &Front,
    caller: &Caller,
    (hub, place, form): (&Hub, &Place, Form),
    client: Option<&ClientId>,
) -> Result<Option<Arc<Frame>>> {
    let audience = caller.gateway.audience(&caller.identity);
    let alone = client.filter(|client| {
        !audience.is_everything() && may_have_pushed(front, &caller.gateway, client, place.seq())
    });
    let client = match (alone, client) {
        (Some(client), _) => client,
        (None, client) => {
            let frame = hub.frame(place, &audience, form).await?;
            let client = client.filter(|_| place.is_sent_without_own(form));
            let (Some(frame), Some(client)) = (&frame, client) else {
                return Ok(frame);
            };
            match frame.authors.include(client) {
                (false, _) => return Ok(Some(Arc::clone(frame))),
                (true, false) => return Ok(Some(frame.silent())),
                (true, true) => client,
            }
        }
    };
    let pull = Pull {
        since: place.since(),
        limit: FRAME_DELTAS_MAX,
        schemas: None,
    };
    let told = told(caller, &pull, client).await?;
    Ok(Frame::for_client(told, (place, form), client))
}

/// Whether deltas of `client` may be above `seq`: of those that came before this process nobody has kept who sent them.
fn may_have_pushed(front: &Front, gateway: &Gateway, client: &ClientId, seq: Seq) -> bool {
    seq < gateway.opened_at || front.standing().has_pushed(gateway.id(), client, seq)
}

/// Refuses a role that only reads, by whatever transport it comes.
pub(super) fn check_writes(role: Role) -> Result<(), Refusal> {
    match role {
        Role::Reader => Err(Refusal::new(
            ErrorCode::Forbidden,
            "Role `reader` writes nothing: this needs a token whose role is client, ingest or admin",
        )),
        Role::Client | Role::Ingest | Role::Admin => Ok(()),
    }
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
