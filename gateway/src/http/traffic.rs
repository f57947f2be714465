//! Requests by route and outcome, for `/metrics`.
//!
//! **Invariant:** labels are routes as they are written in the code, and status classes; nothing that a client sends
//! becomes a label.

use axum::http::StatusCode;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, proto::MetricFamily,
};

/// The counters of one process's requests.
#[derive(Debug)]
pub(super) struct Traffic {
    registry: Registry,
    requests: IntCounterVec,
    duration_ms: HistogramVec,
    active: IntGauge,
}

impl Traffic {
    pub(super) fn new() -> Self {
        let traffic = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new(
                    "lakesync_http_requests_total",
                    "Requests by route and status class.",
                ),
                &["route", "status"],
            )
            .expect("its names are plain"),
            duration_ms: HistogramVec::new(
                HistogramOpts::new(
                    "lakesync_http_request_duration_ms",
                    "Milliseconds until an answer was sent whole.",
                )
                .buckets(vec![1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0]),
                &["route"],
            )
            .expect("its names are plain"),
            active: IntGauge::new(
                "lakesync_active_requests",
                "Requests under way, live connections among them.",
            )
            .expect("its name is plain"),
        };
        let registered = traffic
            .registry
            .register(Box::new(traffic.requests.clone()))
            .and_then(|()| {
                traffic
                    .registry
                    .register(Box::new(traffic.duration_ms.clone()))
            })
            .and_then(|()| traffic.registry.register(Box::new(traffic.active.clone())));
        registered.expect("the three have different names");
        traffic
    }

    pub(super) fn begin(&self) {
        self.active.inc();
    }

    pub(super) fn end(&self, route: &str, status: StatusCode, ms: u64) {
        self.active.dec();
        let class = match status.as_u16() {
            101 => "101",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a request takes no 2^53 milliseconds"
        )]
        self.duration_ms
            .with_label_values(&[route])
            .observe(ms as f64);
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
