//! `GET /metrics` in Prometheus' text, and `GET /v1/admin/metrics/{g}`.
//!
//! **Invariant:** the only label from outside is a gateway's name, of which there are at most
//! [`GATEWAYS_MAX`](crate::GATEWAYS_MAX); with authentication a caller sees its own.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use lakesync_proto::{GatewayId, Seq};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};
use serde_json::{Value, json};

use super::answer::ApiError;
use super::connections::Kind;
use super::front::Front;
use super::maintenance;
use super::process::process;
use super::security::{Caller, bearer};
use super::series::{counter, family, gauge, histogram};
use crate::stats::{HistogramSnapshot, RequestsSnapshot};
use crate::upkeep::Metrics;

/// Counts and sizes in Prometheus' text format.
///
/// With authentication the series of gateways are shown to tokens that are for them; without a token there are those of
/// the process.
#[utoipa::path(get, path = "/metrics", tag = "process",
    responses((status = 200, description = "Prometheus text 0.0.4", content_type = "text/plain")))]
pub(super) async fn metrics(
    State(front): State<Front>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let token = bearer(&headers)?;
    let names = match (front.security().is_on(), token) {
        (true, None) => Vec::new(),
        (_, token) => {
            let identity = front.security().identify(token.as_deref()).await?;
            front.gateways().names_for(&identity)
        }
    };
    let gateways = names.iter();
    let gateways = gateways.filter_map(|name| front.gateways().get(name.as_ref()));
    let gateways: Vec<Metrics> = gateways.map(|gateway| gateway.metrics()).collect();
    let mut families = front.traffic().gather();
    families.extend(process());
    families.extend(ends(&gateways));
    families.extend(deltas(&gateways));
    families.extend(sizes(&gateways));
    families.extend(times(&gateways));
    families.extend(maintenance::families(&gateways));
    families.push(connections(&front, &names));
    families.retain(|family| !family.get_metric().is_empty());
    let text = TextEncoder::new().encode_to_string(&families);
    let text = text.map_err(|error| {
        let text = format!("the metrics could not be written: {error}");
        ApiError::refused(lakesync_proto::ErrorCode::InternalError, text)
    })?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// The sizes of one gateway, in the form of older gateways.
#[utoipa::path(get, path = "/v1/admin/metrics/{g}", tag = "admin", params(("g" = String, Path, description = "The gateway")),
    responses((status = 200, description = "`{\"logSize\",\"indexSize\",\"byteSize\",…}`")), security(("bearer" = [])))]
pub(super) async fn of_gateway(caller: Caller) -> Json<Value> {
    let metrics = caller.gateway.metrics();
    Json(json!({
        "logSize": metrics.hot.deltas,
        "indexSize": metrics.hot.deltas,
        "byteSize": metrics.hot.bytes,
        "unflushedDeltas": metrics.hot.unflushed_deltas,
        "unflushedBytes": metrics.hot.unflushed_bytes,
        "visibleSeq": metrics.visible.to_string(),
        "queuePushes": metrics.queue_pushes,
        "queueBytes": metrics.queue_bytes,
    }))
}

/// Requests and flushes by how they ended.
fn ends(gateways: &[Metrics]) -> Vec<MetricFamily> {
    let by_end = |pick: fn(&Metrics) -> &RequestsSnapshot| {
        gateways.iter().flat_map(move |metrics| {
            let ended = pick(metrics).ended.into_iter();
            ended.map(move |(way, count)| {
                counter(
                    &[
                        ("gateway", metrics.gateway.as_ref()),
                        ("status", way.as_str()),
                    ],
                    count,
                )
            })
        })
    };
    let flushes = gateways.iter().flat_map(|metrics| {
        let gateway = metrics.gateway.as_ref();
        [
            counter(
                &[("gateway", gateway), ("status", "ok")],
                metrics.stats.flush_ms.count(),
            ),
            counter(
                &[("gateway", gateway), ("status", "failed")],
                metrics.stats.flush_failures,
            ),
        ]
    });
    vec![
        family(
            ("lakesync_push_total", "Pushes by how they ended."),
            MetricType::COUNTER,
            by_end(|metrics| &metrics.stats.pushes).collect(),
        ),
        family(
            (
                "lakesync_pull_total",
                "Pulls and live pages by how they ended.",
            ),
            MetricType::COUNTER,
            by_end(|metrics| &metrics.stats.pulls).collect(),
        ),
        family(
            ("lakesync_flush_total", "Flushes by how they ended."),
            MetricType::COUNTER,
            flushes.collect(),
        ),
    ]
}

/// Deltas by what was done with them.
fn deltas(gateways: &[Metrics]) -> Vec<MetricFamily> {
    vec![
        each(
            gateways,
            (
                "lakesync_pushed_deltas_total",
                "Deltas of accepted pushes, duplicates counted.",
            ),
            |metrics| metrics.stats.pushes.deltas,
        ),
        each(
            gateways,
            (
                "lakesync_ignored_cells_total",
                "Cells of accepted deltas whose column had been dropped: kept in the log, shown nowhere.",
            ),
            |metrics| metrics.stats.ignored_cells,
        ),
        each(
            gateways,
            ("lakesync_pulled_deltas_total", "Deltas given out."),
            |metrics| metrics.stats.pulls.deltas,
        ),
        each(
            gateways,
            (
                "lakesync_flushed_deltas_total",
                "Deltas written into the lake.",
            ),
            |metrics| metrics.stats.flushed_deltas,
        ),
        each(
            gateways,
            (
                "lakesync_flushed_bytes_total",
                "Bytes of the files they became.",
            ),
            |metrics| metrics.stats.flushed_bytes,
        ),
    ]
}

/// A gauge's name, its help and its value.
type GaugeOf = ((&'static str, &'static str), fn(&Metrics) -> u64);

const GAUGES: [GaugeOf; 11] = [
    (
        (
            "lakesync_buffer_bytes",
            "Bytes of deltas that are not in a base yet.",
        ),
        |metrics| metrics.hot.bytes,
    ),
    (
        (
            "lakesync_buffer_deltas",
            "Deltas that are not in a base yet.",
        ),
        |metrics| metrics.hot.deltas,
    ),
    (
        (
            "lakesync_unflushed_bytes",
            "Bytes of deltas that are not in the lake yet.",
        ),
        |metrics| metrics.hot.unflushed_bytes,
    ),
    (
        (
            "lakesync_unflushed_deltas",
            "Deltas that are not in the lake yet.",
        ),
        |metrics| metrics.hot.unflushed_deltas,
    ),
    (
        (
            "lakesync_feed_bytes",
            "Bytes of recent deltas kept for pulls.",
        ),
        |metrics| metrics.stats.feed_bytes,
    ),
    (
        ("lakesync_queue_pushes", "Pushes that wait for the writer."),
        |metrics| metrics.queue_pushes as u64,
    ),
    (
        (
            "lakesync_queue_bytes",
            "Bytes of values that wait for the writer.",
        ),
        |metrics| metrics.queue_bytes as u64,
    ),
    (
        (
            "lakesync_visible_seq",
            "The newest delta that everybody sees.",
        ),
        |metrics| metrics.visible.as_u64(),
    ),
    (
        (
            "lakesync_flushed_seq",
            "Every delta up to this one is in the lake.",
        ),
        |metrics| written(metrics, |table| table.flushed),
    ),
    (
        (
            "lakesync_base_seq",
            "Every delta up to this one is in the bases.",
        ),
        |metrics| written(metrics, |table| table.base),
    ),
    (
        (
            "lakesync_flush_lag_deltas",
            "Deltas between the newest visible one and the oldest table's flush.",
        ),
        lag,
    ),
];

fn sizes(gateways: &[Metrics]) -> Vec<MetricFamily> {
    let gauges = GAUGES.into_iter();
    gauges
        .map(|(name, pick)| {
            let metrics = gateways
                .iter()
                .map(|metrics| gauge(&[("gateway", metrics.gateway.as_ref())], pick(metrics)));
            family(name, MetricType::GAUGE, metrics.collect())
        })
        .collect()
}

fn times(gateways: &[Metrics]) -> Vec<MetricFamily> {
    type Pick = fn(&Metrics) -> &HistogramSnapshot;
    // The unit of a snapshot and that of its metric: microseconds become milliseconds.
    let histograms: [((&str, &str), Pick, f64); 5] = [
        (
            (
                "lakesync_push_latency_ms",
                "Milliseconds from a decoded push to its answer.",
            ),
            |metrics| &metrics.stats.pushes.took_us,
            1_000.0,
        ),
        (
            ("lakesync_pull_latency_ms", "Milliseconds of a pull."),
            |metrics| &metrics.stats.pulls.took_us,
            1_000.0,
        ),
        (
            (
                "lakesync_fsync_duration_ms",
                "Milliseconds of a commit of the durable log, its fsync included.",
            ),
            |metrics| &metrics.stats.commit_us,
            1_000.0,
        ),
        (
            ("lakesync_commit_deltas", "Deltas of one commit."),
            |metrics| &metrics.stats.group_deltas,
            1.0,
        ),
        (
            ("lakesync_flush_duration_ms", "Milliseconds of a flush."),
            |metrics| &metrics.stats.flush_ms,
            1.0,
        ),
    ];
    let histograms = histograms.into_iter();
    histograms
        .map(|(name, pick, unit)| {
            let metrics = gateways.iter().map(|metrics| {
                histogram(
                    &[("gateway", metrics.gateway.as_ref())],
                    pick(metrics),
                    unit,
                )
            });
            family(name, MetricType::HISTOGRAM, metrics.collect())
        })
        .collect()
}

fn connections(front: &Front, names: &[GatewayId]) -> MetricFamily {
    let counts: BTreeMap<(GatewayId, &str), usize> = front.connections().counts();
    let kinds = [Kind::WebSocket, Kind::Events, Kind::LongPoll];
    let metrics = names.iter().flat_map(|name| {
        let counts = &counts;
        kinds.into_iter().map(move |kind| {
            let count = counts.get(&(name.clone(), kind.as_str()));
            let labels = [("gateway", name.as_ref()), ("kind", kind.as_str())];
            gauge(&labels, count.copied().unwrap_or(0) as u64)
        })
    });
    family(
        ("lakesync_ws_connections", "Live connections by kind."),
        MetricType::GAUGE,
        metrics.collect(),
    )
}

/// How far every table with something hot has been written: all of it when none has.
fn written(metrics: &Metrics, pick: fn(&lakesync_providers::TableSize) -> Seq) -> u64 {
    let behind = metrics.tables.iter().filter(|table| table.hot.deltas > 0);
    let least = behind.map(pick).min();
    least.unwrap_or(metrics.visible).as_u64()
}

fn lag(metrics: &Metrics) -> u64 {
    let behind = metrics
        .tables
        .iter()
        .filter(|table| table.hot.unflushed_deltas > 0);
    let flushed = behind.map(|table| table.flushed).min();
    flushed.map_or(0, |flushed| metrics.visible.as_u64() - flushed.as_u64())
}

fn each(gateways: &[Metrics], name: (&str, &str), pick: impl Fn(&Metrics) -> u64) -> MetricFamily {
    let metrics = gateways
        .iter()
        .map(|metrics| counter(&[("gateway", metrics.gateway.as_ref())], pick(metrics)));
    family(name, MetricType::COUNTER, metrics.collect())
}
