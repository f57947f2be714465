//! The gateway over HTTP: decode, call one method, encode. Start at [`Front`].
//!
//! | route | does | role |
//! |---|---|---|
//! | `POST /v1/sync/{g}/push` | accepts deltas; JSON, or protobuf by `content-type` | client |
//! | `GET /v1/sync/{g}/pull` | deltas above a cursor; JSON, or protobuf by `accept`; `wait=20s` waits for some | reader |
//! | `GET /v1/sync/{g}/ws`, `/sync/{g}/ws` | push, pull and live deltas over a WebSocket | reader |
//! | `GET /v1/sync/{g}/live` | live deltas as server-sent events | reader |
//! | `GET /v1/sync/{g}/checkpoint` | the merged state, for a new client | reader |
//! | `GET /v1/sync/{g}/digest` | a hash of the visible state | reader |
//! | `GET /v1/sync/{g}/schema` | the tables and their columns | reader |
//! | `POST /v1/sync/{g}/action`, `GET …/actions` | commands to connectors, and what there are | client |
//! | `POST /v1/admin/schema/{g}` | creates or evolves a table | admin |
//! | `GET, POST /v1/admin/sync-rules/{g}`, `POST /v1/admin/rules/explain/{g}` | the sync rules | admin |
//! | `POST /v1/admin/flush/{g}[?table=]` | [`crate::Gateway::flush`] | admin |
//! | `GET /v1/admin/metrics/{g}`, `GET /v1/admin/status` | what is going on | admin |
//! | `GET /v1/admin/gateways`, `POST /v1/admin/gateways/{g}` | the gateways; a new one | admin |
//! | `GET, POST, DELETE /v1/admin/connectors/{g}` | there are none to manage; it says so | admin |
//! | `GET /health`, `/ready`, `/metrics`, `/v1/openapi.json`, `/docs`, `/` | for operators | anyone |
//!
//! ```text
//!  request ─► compression ─► observe (id, headers, log) ─► CORS ─► other sites ─► drain ─► bound ─► panics ─► inflate
//!             ─► route ─► gate (token, scope, role, rate) ─► timeout ─► handler
//! ```
//! **Invariant:** no request body is read beyond its limit, and nothing a request holds ends the process.

mod action;
mod answer;
mod body;
mod checkpoint;
mod config;
mod connections;
mod connectors;
mod delivery;
mod flush;
mod front;
mod gateways;
mod health;
mod live;
mod maintenance;
mod metrics;
mod negotiate;
mod observe;
mod openapi;
mod patient;
mod process;
mod pull;
mod push;
mod rate;
mod routes;
mod rules;
mod schema;
mod security;
mod series;
mod shapes;
mod shares;
mod sites;
mod sse;
mod standing;
mod status;
mod sync;
#[cfg(test)]
mod tests;
mod traffic;
#[cfg(test)]
mod world;
mod ws;

pub use answer::{ApiError, error_answer, unavailable_answer};
pub use body::{PROTOBUF, read_body};
pub use config::{ConnectionLimits, Cors, HttpConfig, Rate};
pub use front::Front;
pub use patient::Patient;

pub use crate::registry::Gateways;
