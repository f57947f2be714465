//! The gateway over HTTP: decode, call one method, encode.
//!
//! | route | does |
//! |---|---|
//! | `POST /v1/sync/{g}/push` | [`crate::Gateway::push`]; JSON, or protobuf by `content-type` |
//! | `GET /v1/sync/{g}/pull?since=&clientId=&limit=` | [`crate::Gateway::pull`]; JSON, or protobuf by `accept` |
//! | `GET /v1/sync/{g}/schema` | the tables and their columns |
//! | `POST /v1/admin/schema/{g}` | creates or evolves a table |
//! | `POST /v1/admin/flush/{g}[?table=]` | [`crate::Gateway::flush`] |
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

use axum::Router;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use answer::{ApiError, error_answer, unavailable_answer};
pub use body::{PROTOBUF, read_body};

pub use crate::registry::Gateways;

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
