//! The way between a session and the gateway: each step through the wire's encoding, and what may happen to it there.
//!
//! Invariant: a fault is one that a network, a proxy or a busy server can make. It never changes what a message says
//! without breaking its checksum, and the gateway is asked exactly as its HTTP routes ask it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use lakesync_client::{
    CheckpointRequest, GatewayDigest, Pull, Refusal, Reply, Step, Subscribe, TableDigest,
    TransportError,
};
use lakesync_gateway::auth::{Identity, Role, Scope};
use lakesync_gateway::{CheckpointForm, Chunk, Error, Since};
use lakesync_proto::{
    ClaimValue, Claims, ClientId, Cursor, ErrorCode, PullPage, Push, PushAck, Schemas,
    decode_ack_protobuf, decode_chunk, decode_page_protobuf, decode_push_protobuf,
    encode_ack_protobuf, encode_page_protobuf, encode_push_protobuf, page_checksum,
};

use super::world::World;

/// How many deltas a live page holds, as the gateway's own frames.
const LIVE_DELTAS_MAX: usize = 1_000;

/// What happens to one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The request never arrives.
    RequestLost,
    /// The request is carried out, its answer never arrives.
    ReplyLost,
    /// The request is given up by its sender and arrives later all the same.
    Stray,
    /// The request is carried out twice.
    Twice,
    /// The server is busy and has not looked at it.
    Busy,
    /// The token has ended.
    Unauthorised,
    /// A proxy answers in the gateway's place.
    Garbage,
    /// A page loses a delta on its way.
    Torn,
}

/// A push that its sender has given up.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    identity: Identity,
    push: Push,
}

/// The schemas by which answers are read.
type Reading = Arc<dyn Schemas + Send + Sync>;

/// One client's connections to the gateway.
pub(super) struct Link {
    identity: Identity,
    checkpoint: Option<(BoxStream<'static, lakesync_gateway::Result<Chunk>>, Reading)>,
    live: Option<(Option<Cursor>, Reading)>,
}

impl Link {
    pub(super) fn new(client: &ClientId) -> Link {
        let mut claims = Claims::new();
        claims.set("sub", vec![ClaimValue::Text(client.to_string())]);
        let identity = Identity {
            subject: Some(client.clone()),
            role: Role::Client,
            scope: Scope::All,
            claims,
            expires_s: None,
        };
        Link {
            identity,
            checkpoint: None,
            live: None,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Cuts all connections; whether there was a live one.
    pub(super) fn cut(&mut self) -> bool {
        self.checkpoint = None;
        self.live.take().is_some()
    }

    /// Carries out a step that has a reply.
    pub(super) async fn exchange(&mut self, world: &mut World, step: &Step, fault: Fault) -> Reply {
        let reply = self.faulty(world, step, fault).await;
        match (fault, &reply) {
            (Fault::None, _) => {}
            (Fault::Torn, Reply::Pulled(Ok(page))) if is_torn(page) => world.see("Torn"),
            (Fault::Torn, _) => {}
            _ => world.see(&format!("{fault:?}")),
        }
        world.see_reply(&reply);
        reply
    }

    async fn faulty(&mut self, world: &mut World, step: &Step, fault: Fault) -> Reply {
        match fault {
            Fault::None => self.ask(world, step).await,
            Fault::RequestLost => failed(step, unreachable()),
            Fault::ReplyLost => {
                drop(self.ask(world, step).await);
                self.broken(step);
                failed(step, unreachable())
            }
            Fault::Stray => {
                self.stray(world, step);
                failed(step, unreachable())
            }
            Fault::Twice => {
                drop(self.ask(world, step).await);
                self.ask(world, step).await
            }
            Fault::Busy => failed(step, refusal(503, ErrorCode::BackpressureError.as_str())),
            Fault::Unauthorised => failed(step, refusal(401, ErrorCode::AuthError.as_str())),
            Fault::Garbage => failed(step, garbage()),
            Fault::Torn => torn(self.ask(world, step).await),
        }
    }

    /// The sender of a step is gone, or has given up; a push may still arrive.
    pub(super) fn stray(&self, world: &mut World, step: &Step) {
        if let Step::Push(push) = step {
            world.strays.push(Stray {
                identity: self.identity.clone(),
                push: push.clone(),
            });
        }
    }

    pub(super) fn unsubscribe(&mut self) {
        self.live = None;
    }

    /// A stream or connection that was opened by a step whose reply is lost is gone with it.
    fn broken(&mut self, step: &Step) {
        match step {
            Step::Checkpoint(_) | Step::Chunk => self.checkpoint = None,
            Step::Subscribe(_) => self.live = None,
            _ => {}
        }
    }

    async fn ask(&mut self, world: &mut World, step: &Step) -> Reply {
        match step {
            Step::Push(push) => Reply::Pushed(send(world, &self.identity, push).await),
            Step::Pull(pull) => Reply::Pulled(self.pull(world, pull).await),
            Step::Checkpoint(request) => Reply::Chunk(self.open(world, request).await),
            Step::Chunk => Reply::Chunk(self.chunk().await),
            Step::Schemas => Reply::Schemas(Ok(world.schemas())),
            Step::Subscribe(subscribe) => Reply::Subscribed(self.subscribe(subscribe)),
            Step::Digest { .. } => Reply::Digest(self.digest(world).await),
            Step::RefreshToken => Reply::Token(true),
            other => panic!("{other:?} has no reply"),
        }
    }

    async fn pull(&self, world: &World, pull: &Pull) -> Result<PullPage, TransportError> {
        let asked = lakesync_gateway::Pull {
            since: Since::Cursor(place(&pull.cursor)),
            limit: usize::try_from(pull.limit).unwrap(),
            schemas: pull.schemas_hash,
        };
        let gateway = world.gateway();
        let page = gateway.pull_by(&asked, &self.identity, &pull.client_id);
        let page = page.await.map_err(refused)?;
        let bytes = encode_page_protobuf(&page);
        Ok(decode_page_protobuf(&bytes, pull.schemas.as_ref())?)
    }

    async fn open(
        &mut self,
        world: &World,
        request: &CheckpointRequest,
    ) -> Result<Option<PullPage>, TransportError> {
        self.checkpoint = None;
        let gateway = world.gateway();
        let asked = lakesync_gateway::CheckpointRequest {
            tables: Some(request.tables.clone()).filter(|tables| !tables.is_empty()),
            resume: request.resume.clone(),
            form: CheckpointForm::Native,
        };
        let audience = gateway.audience(&self.identity);
        let checkpoint = gateway.checkpoint(asked, &audience).await;
        let checkpoint = checkpoint.map_err(refused)?;
        self.checkpoint = Some((checkpoint.chunks, Arc::clone(&request.schemas)));
        self.chunk().await
    }

    async fn chunk(&mut self) -> Result<Option<PullPage>, TransportError> {
        let Some((chunks, schemas)) = &mut self.checkpoint else {
            return Err(unreachable());
        };
        match chunks.next().await {
            None => Ok(None),
            Some(Err(_)) => Err(unreachable()),
            Some(Ok(chunk)) => {
                let page = decode_chunk(&chunk.bytes[4..], schemas.as_ref())?;
                assert_eq!(page.notes.resume.as_ref(), Some(&chunk.resume));
                if !page.has_more {
                    self.checkpoint = None;
                }
                Ok(Some(page))
            }
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), TransportError> {
        self.live = Some((place(&subscribe.cursor), Arc::clone(&subscribe.schemas)));
        Ok(())
    }

    async fn digest(&self, world: &World) -> Result<GatewayDigest, TransportError> {
        let gateway = world.gateway();
        let audience = gateway.audience(&self.identity);
        let digest = gateway.digest(None, None, &audience).await;
        let digest = digest.map_err(refused)?;
        let tables = digest.tables.into_iter().map(|table| TableDigest {
            table: table.table,
            rows: table.rows,
            cells: table.cells,
            hash: table.hash,
        });
        Ok(GatewayDigest {
            cursor: digest.cursor.to_string(),
            tables: tables.collect(),
        })
    }

    /// What the live connection brings next, if it is open and there is something. Pages without content are not sent.
    pub(super) async fn live(&mut self, world: &World, client: &ClientId) -> Option<Reply> {
        let (since, schemas) = self.live.as_mut()?;
        let pull = lakesync_gateway::Pull {
            since: Since::Cursor(since.clone()),
            limit: LIVE_DELTAS_MAX,
            schemas: None,
        };
        let page = world.gateway().pull_by(&pull, &self.identity, client).await;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                self.live = None;
                return Some(Reply::LiveEnded(refused(error)));
            }
        };
        since.clone_from(&page.notes.next);
        if page.deltas.is_empty() && page.removed.is_empty() {
            return None;
        }
        match decode_page_protobuf(&encode_page_protobuf(&page), schemas.as_ref()) {
            Ok(page) => Some(Reply::Live(page)),
            Err(error) => {
                self.live = None;
                Some(Reply::LiveEnded(error.into()))
            }
        }
    }
}

impl Stray {
    /// It arrives at last.
    pub(super) async fn arrive(self, world: &mut World) {
        drop(send(world, &self.identity, &self.push).await);
    }
}

async fn send(
    world: &mut World,
    identity: &Identity,
    push: &Push,
) -> Result<PushAck, TransportError> {
    let gateway = world.gateway();
    let read = decode_push_protobuf(&encode_push_protobuf(push), gateway.live().as_ref());
    let read = read.map_err(|error| refused(lakesync_gateway::Refusal::from(error).into()))?;
    assert_eq!(read, *push, "the wire keeps a push as it is");
    let ack = gateway.push_by(read, identity).await.map_err(refused)?;
    world.accepted(push, &ack);
    Ok(decode_ack_protobuf(&encode_ack_protobuf(&ack))?)
}

fn place(cursor: &str) -> Option<Cursor> {
    (!cursor.is_empty()).then(|| cursor.parse().expect("the gateway's own cursor"))
}

/// The reply that says that an exchange came to nothing.
pub(super) fn failed(step: &Step, error: TransportError) -> Reply {
    match step {
        Step::Push(_) => Reply::Pushed(Err(error)),
        Step::Pull(_) => Reply::Pulled(Err(error)),
        Step::Checkpoint(_) | Step::Chunk => Reply::Chunk(Err(error)),
        Step::Schemas => Reply::Schemas(Err(error)),
        Step::Subscribe(_) => Reply::Subscribed(Err(error)),
        Step::Digest { .. } => Reply::Digest(Err(error)),
        Step::RefreshToken => Reply::Token(false),
        other => panic!("{other:?} has no reply"),
    }
}

/// A page without its last delta or withdrawal; other replies as they are.
pub(super) fn torn(reply: Reply) -> Reply {
    let tear = |mut page: PullPage| {
        if page.deltas.pop().is_none() {
            page.removed.pop();
        }
        page
    };
    match reply {
        Reply::Pulled(Ok(page)) => Reply::Pulled(Ok(tear(page))),
        Reply::Live(page) => Reply::Live(tear(page)),
        other => other,
    }
}

fn is_torn(page: &PullPage) -> bool {
    page.notes.checksum != Some(page_checksum(page))
}

pub(super) fn unreachable() -> TransportError {
    TransportError::Unreachable {
        url: "gateway".to_owned(),
        source: "the network is down".into(),
    }
}

fn garbage() -> TransportError {
    TransportError::Answer {
        url: "gateway".to_owned(),
        reason: "it is a page for people".to_owned(),
    }
}

fn refusal(status: u16, code: &str) -> TransportError {
    TransportError::Refused(Box::new(Refusal {
        status,
        code: code.to_owned(),
        message: "not now".to_owned(),
        index: None,
        request_id: None,
        retry_after: (status == 503).then_some(Duration::from_secs(1)),
        details: serde_json::Map::new(),
    }))
}

/// The gateway's error as its HTTP routes answer it.
fn refused(error: Error) -> TransportError {
    let message = error.to_string();
    let (code, index, details) = match error {
        Error::Refused(refusal) => (refusal.code, refusal.index, refusal.details),
        Error::Busy { .. } | Error::Storage { .. } => (
            ErrorCode::BackpressureError,
            None,
            serde_json::Map::default(),
        ),
        _ => panic!("the gateway failed: {message}"),
    };
    let status = match code {
        ErrorCode::ValidationError | ErrorCode::DeltaIdMismatch => 400,
        ErrorCode::AuthError => 401,
        ErrorCode::Forbidden => 403,
        ErrorCode::NotFound => 404,
        ErrorCode::ClockDrift | ErrorCode::DeltaIdReused | ErrorCode::SchemaConflict => 409,
        ErrorCode::CursorExpired => 410,
        ErrorCode::SchemaError | ErrorCode::UnknownTable | ErrorCode::LateDelta => 422,
        ErrorCode::RateLimited => 429,
        ErrorCode::BackpressureError => 503,
        ErrorCode::StorageFull => 507,
        _ => panic!("{code} is not met here: {message}"),
    };
    TransportError::Refused(Box::new(Refusal {
        status,
        code: code.as_str().to_owned(),
        message,
        index,
        request_id: None,
        retry_after: None,
        details,
    }))
}
