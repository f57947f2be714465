//! The gateway over HTTP: decode, call one method, encode.
//!
//! | route | does |
//! |---|---|
//! | `POST /v1/sync/{g}/push` | [`Gateway::push`]; JSON, or protobuf by `content-type` |
//! | `GET /v1/sync/{g}/pull?since=&clientId=&limit=` | [`Gateway::pull`]; JSON, or protobuf by `accept` |
//! | `GET /v1/sync/{g}/schema` | the tables and their columns |
//! | `POST /v1/admin/schema/{g}` | creates or evolves a table |
//! | `POST /v1/admin/flush/{g}[?table=]` | [`Gateway::flush`] |
//! | `GET /health`, `GET /ready` | whether the process lives, and serves |
//!
//! **Invariant:** no request body is read beyond its limit, and nothing a request holds ends the process.

mod answer;
mod body;
mod flush;
mod health;
mod pull;
mod push;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use lakesync_proto::{ErrorCode, GatewayId};
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::{Error, Refusal, Result};
use crate::gateway::Gateway;

pub use answer::{ApiError, error_answer, unavailable_answer};
pub use body::{PROTOBUF, read_body};

/// The gateways that one process serves, by name.
#[derive(Clone, Debug, Default)]
pub struct Gateways(Arc<BTreeMap<GatewayId, Arc<Gateway>>>);

impl Gateways {
    /// A set of open gateways.
    #[must_use]
    pub fn new(gateways: impl IntoIterator<Item = Arc<Gateway>>) -> Self {
        let by_name = gateways
            .into_iter()
            .map(|gateway| (gateway.id().clone(), gateway));
        Self(Arc::new(by_name.collect()))
    }

    /// The gateway with this name.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none.
    pub fn find(&self, name: &str) -> Result<&Arc<Gateway>> {
        self.0.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(AsRef::as_ref).collect();
            let text = format!(
                "there is no gateway `{name}` here; this server has: {}",
                names.join(", ")
            );
            Error::Refused(Refusal::new(ErrorCode::NotFound, text))
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.0.values()
    }
}

/// Every route of the table above.
pub fn router(gateways: Gateways) -> Router {
    Router::new()
        .route("/v1/sync/{g}/push", post(push::push))
        .route("/v1/sync/{g}/pull", get(pull::pull))
        .route("/v1/sync/{g}/schema", get(schema::list))
        .route("/v1/admin/schema/{g}", post(schema::put))
        .route("/v1/admin/flush/{g}", post(flush::flush))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .with_state(gateways)
        .layer(CatchPanicLayer::new())
}
