//! Who asks, and whether they may: from the bearer token to the [`Caller`] of a handler.
//!
//! ```text
//!  route (404) → token (401) → scope (403) → gateway (404) → role (403) → rate (429) → handler
//! ```
//! **Invariant:** no handler of a gateway runs before these steps; a token learns nothing of gateways it is not for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::RequestPartsExt as _;
use axum::extract::{ConnectInfo, FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lakesync_proto::{ClientId, ErrorCode, GatewayId, WallClock};
use uuid::Uuid;

use super::answer::ApiError;
use super::connections::{Connection, Kind, Ticket};
use super::front::Front;
use super::observe::Seen;
use super::rate::address_key;
use super::sync::check_writes;
use crate::auth::{Authenticator, Identity, Role};
use crate::error::Refusal;
use crate::gateway::Gateway;

/// How long an open connection outlives its token, in seconds: as long as a new one would be let in with it.
const LEEWAY_S: u64 = 30;

/// How requests are authenticated.
#[derive(Clone, Debug)]
pub(super) struct Security {
    authenticator: Option<Arc<Authenticator>>,
    clock: Arc<dyn WallClock>,
}

/// What a route asks of a caller's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Any role.
    Read,
    /// A role that writes.
    Write,
    /// `admin`.
    Admin,
    /// Any role; `admin` under `/v1/admin/`.
    ByPath,
}

/// Where a token may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenPlace {
    Header,
    /// Or in the query: browsers cannot set headers on WebSockets and event streams.
    HeaderOrQuery,
}

/// What a route's `{g}` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A gateway that is there.
    Gateway,
    /// A gateway that may not be there yet.
    Name,
    /// The route has none.
    Server,
}

/// What stands before a group of routes.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) front: Front,
    pub(super) access: Access,
    pub(super) token: TokenPlace,
    pub(super) target: Target,
}

/// Who asks a handler, and of which gateway.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) identity: Arc<Identity>,
    /// The name under which its requests are counted.
    pub(super) rate_key: Arc<str>,
    pub(super) gateway: Arc<Gateway>,
}

/// Somebody that a token names, at one gateway: what is shared out there goes by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) gateway: GatewayId,
    pub(super) client: ClientId,
}

impl Security {
    pub(super) fn new(
        authenticator: Option<Arc<Authenticator>>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        Self {
            authenticator,
            clock,
        }
    }

    /// Whether a token is needed.
    pub(super) fn is_on(&self) -> bool {
        self.authenticator.is_some()
    }

    pub(super) async fn identify(&self, token: Option<&str>) -> Result<Identity, Refusal> {
        let Some(authenticator) = &self.authenticator else {
            return Ok(Identity::anyone());
        };
        let token = token.ok_or_else(|| {
            Refusal::new(
                ErrorCode::AuthError,
                "Bearer token missing: send the header `Authorization: Bearer <token>`",
            )
        })?;
        let now_s = self.clock.now_ms() / 1_000;
        authenticator.identify(token, now_s).await
    }
}

impl Caller {
    /// Whom the token names; nobody without authentication.
    pub(super) fn subject(&self) -> Option<Subject> {
        let client = self.identity.subject.clone()?;
        Some(Subject {
            gateway: self.gateway.id().clone(),
            client,
        })
    }

    /// Takes a place among the live connections. Who has neither token nor name is nobody else's neighbour.
    ///
    /// # Errors
    /// 503 at a limit.
    pub(super) fn connect(
        &self,
        front: &Front,
        kind: Kind,
        client: Option<&ClientId>,
    ) -> Result<Ticket, ApiError> {
        let client = match self.identity.subject.as_ref().or(client) {
            Some(client) => client.to_string(),
            None => format!("anon-{}", Uuid::new_v4()),
        };
        Ok(front.connections().admit(Connection {
            gateway: self.gateway.id().clone(),
            client,
            kind,
            since_ms: front.now_ms(),
        })?)
    }

    /// When the token is over for a connection that is open, in milliseconds since 1970.
    pub(super) fn expires_ms(&self) -> Option<u64> {
        let expires_s = self.identity.expires_s?;
        Some(expires_s.saturating_add(LEEWAY_S).saturating_mul(1_000))
    }

    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms().is_some_and(|end_ms| now_ms >= end_ms)
    }

    /// The client id that a request names, which must be the token's own.
    pub(super) fn client(&self, text: &str) -> Result<ClientId, ApiError> {
        let client = ClientId::parse(text)
            .map_err(|error| ApiError::invalid(format!("clientId: {error}")))?;
        self.identity.check_client(&client)?;
        Ok(client)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::refused(
                ErrorCode::InternalError,
                "this route stands behind no gate, which is a defect of the server",
            )
        })
    }
}

/// The layer of a group of routes.
pub(super) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let mut seen = Seen::default();
    let (mut parts, body) = request.into_parts();
    let mut response = match admit(&gate, &mut parts, &mut seen).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(seen);
    response
}

async fn admit(gate: &Gate, parts: &mut Parts, seen: &mut Seen) -> Result<(), ApiError> {
    let token = token(parts, gate.token).await?;
    let identity = gate.front.security().identify(token.as_deref()).await?;
    seen.subject = identity.subject.as_ref().map(ToString::to_string);
    let gateway = match gate.target {
        Target::Server => None,
        Target::Gateway | Target::Name => {
            let name = gateway_name(parts).await?;
            seen.gateway = Some(name.clone());
            check_scope(&identity, &name)?;
            match gate.target {
                Target::Gateway => Some(find(gate, &identity, &name)?),
                _ => None,
            }
        }
    };
    check_role(gate.access, &identity, parts.uri.path())?;
    let rate_key = rate_key(&identity, parts);
    gate.front.check_rate(&rate_key)?;
    if let Some(gateway) = gateway {
        parts.extensions.insert(Caller {
            identity: Arc::new(identity.clone()),
            rate_key: rate_key.into(),
            gateway,
        });
    }
    parts.extensions.insert(identity);
    Ok(())
}

async fn token(parts: &mut Parts, place: TokenPlace) -> Result<Option<String>, ApiError> {
    if let Some(token) = bearer(&parts.headers)? {
        return Ok(Some(token));
    }
    if place == TokenPlace::Header {
        return Ok(None);
    }
    let query = parts.extract::<Query<HashMap<String, String>>>().await;
    let token = query.ok().and_then(|mut query| query.0.remove("token"));
    Ok(token.filter(|token| !token.is_empty()))
}

/// The token of the `Authorization` header, when there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let malformed = || {
        ApiError::refused(
            ErrorCode::AuthError,
            "Bearer token malformed: the header is `Authorization: Bearer <token>`, once, with one token",
        )
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let (scheme, token) = text
        .and_then(|text| text.split_once(' '))
        .ok_or_else(malformed)?;
    match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ') {
        true => Ok(Some(token.to_owned())),
        false => Err(malformed()),
    }
}

async fn gateway_name(parts: &mut Parts) -> Result<String, ApiError> {
    let params = parts.extract::<RawPathParams>().await;
    let params =
        params.map_err(|error| ApiError::invalid(format!("the path is no text: {error}")))?;
    let name = params.iter().find(|(name, _)| *name == "g");
    Ok(name.map_or_else(String::new, |(_, value)| value.to_owned()))
}

fn check_scope(identity: &Identity, name: &str) -> Result<(), ApiError> {
    match identity.reaches(name) {
        true => Ok(()),
        false => Err(ApiError::refused(
            ErrorCode::Forbidden,
            "Gateway ID mismatch: the token's `gw` claim does not name the gateway of this path",
        )),
    }
}

/// The gateway, or the names of those that the caller may know.
fn find(gate: &Gate, identity: &Identity, name: &str) -> Result<Arc<Gateway>, ApiError> {
    gate.front.gateways().get(name).ok_or_else(|| {
        let names = gate.front.gateways().names_for(identity);
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let there = match names.is_empty() {
            true => format!("an admin makes it with POST /v1/admin/gateways/{name}"),
            false => format!("there are: {}", names.join(", ")),
        };
        let text = format!("there is no gateway `{name}` here; {there}");
        ApiError::refused(ErrorCode::NotFound, text)
    })
}

fn check_role(access: Access, identity: &Identity, path: &str) -> Result<(), ApiError> {
    let role = identity.role;
    let admin = match access {
        Access::Admin => true,
        Access::ByPath => path.starts_with("/v1/admin/"),
        Access::Read => false,
        Access::Write => return Ok(check_writes(role)?),
    };
    match admin && role != Role::Admin {
        true => Err(ApiError::refused(
            ErrorCode::Forbidden,
            format!("Admin role required: this token's role is `{role}`"),
        )),
        false => Ok(()),
    }
}

fn rate_key(identity: &Identity, parts: &Parts) -> String {
    let address = || {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        address.map_or_else(
            || "nobody".to_owned(),
            |address| address_key(address.0.ip()),
        )
    };
    // A subject and an address cannot be taken for each other.
    match &identity.subject {
        Some(subject) => format!("s:{subject}"),
        None => format!("a:{}", address()),
    }
}
