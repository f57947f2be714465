//! What all routes share: the gateways, who may ask, the limits, and whether the process is on its way out.
//!
//! **Invariant:** cloning is cheap and gives the same front; draining never ends again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use lakesync_proto::{ErrorCode, GatewayId, WallClock};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use utoipa_axum::router::OpenApiRouter;

use super::body::BodyBudget;
use super::config::HttpConfig;
use super::connections::Connections;
use super::live::Hub;
use super::patient::Patient;
use super::rate::Limiter;
use super::security::{Caller, Security, Subject};
use super::shares::{Share, Shares};
use super::standing::Standing;
use super::traffic::Traffic;
use super::{Gateways, routes};
use crate::actions::{Actions, Webhooks};
use crate::auth::Authenticator;
use crate::error::{Refusal, Result};
use crate::gateway::Gateway;

/// Checkpoints and digests of one gateway that one subject reads at once: half of what the gateway serves, so that one
/// who does not read on leaves room.
const READERS_PER_SUBJECT_MAX: usize = 2;
/// How many of the last server errors the status page shows.
const ERRORS_MAX: usize = 100;
/// How many requests are under way at once, live connections and long polls aside, which have limits of their own: some
/// hundred for each core of a large machine. More would wait for the same cores and hold memory.
const REQUESTS_MAX: usize = 1_024;
/// How much of an error's text is kept, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// The server's face: makes the routes and ends them.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    gateways: Gateways,
    config: HttpConfig,
    clock: Arc<dyn WallClock>,
    security: Security,
    limiter: Option<Limiter>,
    connections: Connections,
    hubs: Mutex<BTreeMap<GatewayId, Arc<Hub>>>,
    actions: Mutex<BTreeMap<GatewayId, Arc<Actions>>>,
    standing: Standing,
    bodies: BodyBudget,
    requests: Arc<Semaphore>,
    readers: Shares<Subject>,
    traffic: Traffic,
    errors: Mutex<VecDeque<Failure>>,
    poisoned: Mutex<BTreeSet<GatewayId>>,
    draining: watch::Sender<bool>,
}

/// A request that the server failed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    gateway: Option<String>,
    route: String,
    status: u16,
    error: String,
}

impl Failure {
    /// Whether it was met by a request to one of `gateways`.
    pub(super) fn is_of(&self, gateways: &[GatewayId]) -> bool {
        let gateway = self.gateway.as_deref();
        gateways.iter().any(|name| Some(name.as_str()) == gateway)
    }
}

impl Front {
    /// The face of `gateways`: open to everybody when there is no `authenticator`.
    #[must_use]
    pub fn new(
        gateways: Gateways,
        config: HttpConfig,
        authenticator: Option<Arc<Authenticator>>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        Self(Arc::new(Inner {
            gateways,
            limiter: config.rate.map(Limiter::new),
            connections: Connections::new(config.connections),
            security: Security::new(authenticator, Arc::clone(&clock)),
            config,
            clock,
            hubs: Mutex::default(),
            actions: Mutex::default(),
            standing: Standing::default(),
            bodies: BodyBudget::new(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            readers: Shares::new(READERS_PER_SUBJECT_MAX),
            traffic: Traffic::new(),
            errors: Mutex::default(),
            poisoned: Mutex::default(),
            draining: watch::Sender::new(false),
        }))
    }

    /// Every route of [`crate::http`], and the embedder's `own`, behind all layers. Requests to `own` are
    /// authenticated: their handlers find an [`Identity`](crate::auth::Identity) among the request's extensions, and
    /// those under `/v1/admin/` an admin. A plain `Router` will do; an `OpenApiRouter` is in the documentation too.
    pub fn router(&self, own: impl Into<OpenApiRouter>) -> Router {
        routes::router(self, own.into())
    }

    /// Begins the end: new requests are refused with 503 (except `/health`, `/ready` and `/metrics`), live connections
    /// and long polls end, what is under way is finished.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// `io`, which fails when its peer takes nothing for as long as [`HttpConfig::stalled`], and soon after
    /// [`Front::drain`]: a server hands its connections through here, beneath TLS.
    pub fn patient<Io>(&self, io: Io) -> Patient<Io> {
        Patient::new(io, self.0.config.stalled, self.draining())
    }

    pub(super) fn gateways(&self) -> &Gateways {
        &self.0.gateways
    }

    pub(super) fn config(&self) -> &HttpConfig {
        &self.0.config
    }

    pub(super) fn security(&self) -> &Security {
        &self.0.security
    }

    /// Lets one request or message pass that is counted under `key`.
    ///
    /// # Errors
    /// 429 with the seconds to wait.
    pub(super) fn check_rate(&self, key: &str) -> Result<(), Refusal> {
        match &self.0.limiter {
            Some(limiter) => limiter.check(key),
            None => Ok(()),
        }
    }

    pub(super) fn connections(&self) -> &Connections {
        &self.0.connections
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.0.standing
    }

    pub(super) fn bodies(&self) -> &BodyBudget {
        &self.0.bodies
    }

    /// A permit for each request that may begin.
    pub(super) fn requests(&self) -> &Arc<Semaphore> {
        &self.0.requests
    }

    /// A turn of `caller` at reading whole tables, held until it is dropped. Callers without a name share the gateway's.
    ///
    /// # Errors
    /// 503 when it reads as many as one may.
    pub(super) fn reader(&self, caller: &Caller) -> Result<Option<Share<Subject>>> {
        let Some(subject) = caller.subject() else {
            return Ok(None);
        };
        let mut turn = self.0.readers.of(&subject);
        match turn.take(1) {
            true => Ok(Some(turn)),
            false => {
                let text = format!(
                    "`{}` reads {READERS_PER_SUBJECT_MAX} checkpoints or digests of gateway `{}` already; ask again \
                     when one has ended",
                    subject.client, subject.gateway
                );
                let refusal = Refusal::new(ErrorCode::BackpressureError, text);
                Err(refusal.with("retryAfterMs", 1_000).into())
            }
        }
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    /// Turns true when the process is on its way out.
    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.0.draining.subscribe()
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Commands to `gateway` are carried out by `actions` from now on.
    pub fn put_actions(&self, gateway: GatewayId, actions: Arc<Actions>) {
        let mut held = self
            .0
            .actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.insert(gateway, actions);
    }

    /// What carries out commands to `gateway`: without connectors, each is answered that it is not supported.
    ///
    /// # Errors
    /// When SQLite has no memory.
    pub(super) fn actions(&self, gateway: &Gateway) -> Result<Arc<Actions>> {
        let mut held = self
            .0
            .actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(actions) = held.get(gateway.id()) {
            return Ok(Arc::clone(actions));
        }
        let id = gateway.id().clone();
        let webhooks = Webhooks::new(Vec::new()).expect("no connector is no wrong one");
        let actions = Actions::in_memory(id.clone(), webhooks, Arc::clone(&self.0.clock))?;
        held.insert(id, Arc::clone(&actions));
        Ok(actions)
    }

    /// The live frames of `gateway`.
    pub(super) fn hub(&self, gateway: &Arc<Gateway>) -> Arc<Hub> {
        let mut hubs = self.0.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = hubs.entry(gateway.id().clone()).or_insert_with(|| {
            Arc::new(Hub::new(
                Arc::clone(gateway),
                self.0.config.frames_bytes_max,
            ))
        });
        Arc::clone(hub)
    }

    /// Puts a failure of work that no request asked for among the errors that the status page shows.
    pub fn note_error(&self, gateway: &GatewayId, work: &str, error: &str) {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        self.record_error(Some(gateway.as_ref()), work, status, error);
    }

    pub(super) fn record_error(
        &self,
        gateway: Option<&str>,
        route: &str,
        status: StatusCode,
        error: &str,
    ) {
        let end = error.floor_char_boundary(ERROR_BYTES_MAX.min(error.len()));
        let failure = Failure {
            at_ms: self.now_ms(),
            gateway: gateway.map(str::to_owned),
            route: route.to_owned(),
            status: status.as_u16(),
            error: error[..end].to_owned(),
        };
        let mut errors = self.0.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == ERRORS_MAX {
            errors.pop_front();
        }
        errors.push_back(failure);
    }

    /// A push has met a log that takes nothing more.
    pub(super) fn record_poisoned(&self, gateway: &GatewayId) {
        let mut poisoned = self
            .0
            .poisoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        poisoned.insert(gateway.clone());
    }

    /// Whether a gateway takes nothing more until the process is started again.
    pub(super) fn is_poisoned(&self) -> bool {
        let poisoned = self
            .0
            .poisoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        !poisoned.is_empty()
    }

    /// The last server errors, the newest first.
    pub(super) fn errors(&self) -> Vec<Failure> {
        let errors = self.0.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().rev().cloned().collect()
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("gateways", &self.0.gateways)
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}
