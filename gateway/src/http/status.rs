//! `GET /`, a page for people, and `GET /v1/admin/status`, what it shows.
//!
//! **Invariant:** the page loads nothing but this server's status, and its policy says so to the browser.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use lakesync_providers::ReadView;
use serde_json::{Value, json};

use super::front::Front;
use super::maintenance;
use crate::auth::{Identity, Scope};
use crate::gateway::Gateway;

const PAGE: &str = include_str!("status.html");
/// Only the page's own script and style, and requests to where it came from.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How many hot deltas of a table are looked at to count their rows.
const COUNTED_DELTAS_MAX: u64 = 50_000;
/// How many connections of a gateway are listed.
const CONNECTIONS_SHOWN: usize = 50;

/// The status page.
#[utoipa::path(get, path = "/", tag = "process", responses((status = 200, description = "HTML", content_type = "text/html")))]
pub(super) async fn page() -> Response {
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (StatusCode::OK, head, PAGE).into_response()
}

/// Gateways, tables, hot and cold rows, lag, clients and the last errors.
#[utoipa::path(get, path = "/v1/admin/status", tag = "admin",
    responses((status = 200, description = "`{\"version\",\"nowMs\",\"draining\",\"gateways\":[…],\"errors\":[…]}`")),
    security(("bearer" = [])))]
pub(super) async fn status(
    State(front): State<Front>,
    Extension(identity): Extension<Identity>,
) -> Json<Value> {
    let names = front.gateways().names_for(&identity);
    let gateways = names.iter();
    let gateways = gateways.filter_map(|name| front.gateways().get(name.as_ref()));
    let gateways: Vec<Value> = gateways.map(|gateway| of(&front, &gateway)).collect();
    // Errors of the whole process may speak of other tenants.
    let mut errors = front.errors();
    if identity.scope != Scope::All {
        errors.retain(|error| error.is_of(&names));
    }
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "nowMs": front.now_ms(),
        "draining": front.is_draining(),
        "gateways": gateways,
        "errors": errors,
    }))
}

fn of(front: &Front, gateway: &Gateway) -> Value {
    let metrics = gateway.metrics();
    let views = gateway.live().views();
    let tables = metrics.tables.iter().map(|table| {
        let view = views.tables.get(&table.table);
        let cold = view.and_then(|view| cold_rows(view));
        let hot = view.and_then(|view| hot_rows(view, table.hot.deltas));
        json!({
            "table": table.table.to_string(),
            "hotDeltas": table.hot.deltas,
            "hotBytes": table.hot.bytes,
            "hotRows": hot,
            "unflushedDeltas": table.hot.unflushed_deltas,
            "coldRows": cold,
            "flushedSeq": table.flushed.to_string(),
            "baseSeq": table.base.to_string(),
        })
    });
    let connections = front
        .connections()
        .newest(gateway.id(), CONNECTIONS_SHOWN)
        .into_iter()
        .map(|connection| {
            json!({
                "client": connection.client,
                "kind": connection.kind.as_str(),
                "sinceMs": connection.since_ms,
            })
        });
    let counts = front.connections().counts();
    let count: usize = counts
        .iter()
        .filter(|((name, _), _)| name == gateway.id())
        .map(|(_, count)| count)
        .sum();
    json!({
        "gateway": gateway.id().to_string(),
        "epoch": gateway.epoch().to_string(),
        "visibleSeq": metrics.visible.to_string(),
        "unflushedDeltas": metrics.hot.unflushed_deltas,
        "unflushedSinceMs": metrics.hot.unflushed_since_ms,
        "hotDeltas": metrics.hot.deltas,
        "hotBytes": metrics.hot.bytes,
        "pushes": metrics.stats.pushes.ended.iter().map(|(_, count)| count).sum::<u64>(),
        "pulls": metrics.stats.pulls.ended.iter().map(|(_, count)| count).sum::<u64>(),
        "queuePushes": metrics.queue_pushes,
        "flushError": metrics.stats.flush_error.map(|error| json!({"atMs": error.at_ms, "error": error.text})),
        "tables": tables.collect::<Vec<_>>(),
        "maintenance": maintenance::shown(&metrics.maintenance),
        "connections": {"count": count, "newest": connections.collect::<Vec<_>>()},
    })
}

/// How many rows the hot deltas touch, as long as counting them costs no more than a look.
fn hot_rows(view: &ReadView, deltas: u64) -> Option<usize> {
    (deltas <= COUNTED_DELTAS_MAX).then(|| {
        let rows = view.hot_deltas().map(|delta| &delta.delta.row_id);
        rows.collect::<HashSet<_>>().len()
    })
}

/// How many rows the base has, by its snapshot's summary; none when that does not say.
fn cold_rows(view: &ReadView) -> Option<u64> {
    let Some(id) = view.base.snapshot_id else {
        return Some(0);
    };
    let snapshot = view.base.table.metadata().snapshot_by_id(id)?;
    let rows = snapshot
        .summary()
        .additional_properties
        .get("total-records");
    rows?.parse().ok()
}
