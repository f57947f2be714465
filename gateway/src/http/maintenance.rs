//! Maintenance as metrics and on the status page.
//!
//! **Invariant:** labels are a gateway's name and the program's own words for kinds of jobs; a table's name is only on the
//! status page, where an admin sees it.

use prometheus::proto::{MetricFamily, MetricType};
use serde_json::{Value, json};

use super::series::{counter, family, gauge};
use crate::maintenance::{KindCounts, LakeSize, MaintenanceSnapshot};
use crate::upkeep::Metrics;

/// A counter's name and help, and its value.
type CountOf = ((&'static str, &'static str), fn(&KindCounts) -> u64);
/// A gauge's name and help, and its value.
type SizeOf = ((&'static str, &'static str), fn(&LakeSize) -> u64);

const COUNTS: [CountOf; 4] = [
    (
        (
            "lakesync_maintenance_ms_total",
            "Milliseconds of maintenance jobs, by kind.",
        ),
        |counts| counts.took_ms,
    ),
    (
        (
            "lakesync_maintenance_rows_total",
            "Rows that maintenance has written or dropped, by kind.",
        ),
        |counts| counts.rows,
    ),
    (
        (
            "lakesync_maintenance_bytes_total",
            "Bytes that maintenance has written or freed, by kind.",
        ),
        |counts| counts.bytes,
    ),
    (
        (
            "lakesync_maintenance_files_total",
            "Files that maintenance has written or removed, by kind.",
        ),
        |counts| counts.files,
    ),
];

const SIZES: [SizeOf; 8] = [
    (
        ("lakesync_base_files", "Data files of the bases."),
        |size| size.base_files,
    ),
    (
        ("lakesync_base_bytes", "Bytes of the bases' data files."),
        |size| size.base_bytes,
    ),
    (
        (
            "lakesync_dead_rows",
            "Rows of the bases' files that delete files take away.",
        ),
        |size| size.dead_rows,
    ),
    (
        ("lakesync_delete_files", "Delete files of the bases."),
        |size| size.delete_files,
    ),
    (("lakesync_log_files", "Data files of the logs."), |size| {
        size.log_files
    }),
    (
        ("lakesync_log_bytes", "Bytes of the logs' data files."),
        |size| size.log_bytes,
    ),
    (
        ("lakesync_manifests", "Manifests of bases and logs."),
        |size| size.manifests,
    ),
    (
        ("lakesync_snapshots", "Snapshots of bases and logs."),
        |size| size.snapshots,
    ),
];

/// The series of all gateways.
pub(super) fn families(gateways: &[Metrics]) -> Vec<MetricFamily> {
    let by_kind = |pick: fn(&KindCounts) -> u64, extra: &[(&'static str, &'static str)]| {
        let series = gateways.iter().flat_map(|metrics| {
            let kinds = metrics.maintenance.kinds.iter();
            kinds.map(move |(kind, counts)| {
                let mut labels = vec![("gateway", metrics.gateway.as_ref()), ("kind", *kind)];
                labels.extend_from_slice(extra);
                counter(&labels, pick(counts))
            })
        });
        series.collect::<Vec<_>>()
    };
    let mut runs = by_kind(|counts| counts.runs, &[("status", "ok")]);
    runs.extend(by_kind(|counts| counts.failures, &[("status", "failed")]));
    let mut families = vec![family(
        (
            "lakesync_maintenance_total",
            "Maintenance jobs by kind and how they ended.",
        ),
        MetricType::COUNTER,
        runs,
    )];
    families.extend(
        COUNTS
            .into_iter()
            .map(|(name, pick)| family(name, MetricType::COUNTER, by_kind(pick, &[]))),
    );
    families.push(last_success(gateways));
    let running = gateways.iter().map(|metrics| {
        let running = metrics.maintenance.running.len() as u64;
        gauge(&[("gateway", metrics.gateway.as_ref())], running)
    });
    let name = (
        "lakesync_maintenance_running",
        "Maintenance jobs that run now.",
    );
    families.push(family(name, MetricType::GAUGE, running.collect()));
    let sizes: Vec<(&str, LakeSize)> = gateways
        .iter()
        .map(|metrics| (metrics.gateway.as_ref(), metrics.maintenance.size()))
        .collect();
    families.extend(SIZES.into_iter().map(|(name, pick)| {
        let series = sizes
            .iter()
            .map(|(gateway, size)| gauge(&[("gateway", gateway)], pick(size)));
        family(name, MetricType::GAUGE, series.collect())
    }));
    families
}

fn last_success(gateways: &[Metrics]) -> MetricFamily {
    let series = gateways.iter().flat_map(|metrics| {
        let kinds = metrics.maintenance.kinds.iter();
        kinds.filter_map(|(kind, counts)| {
            let labels = [("gateway", metrics.gateway.as_ref()), ("kind", *kind)];
            counts
                .last_success_ms
                .map(|at_ms| gauge(&labels, at_ms / 1_000))
        })
    });
    family(
        (
            "lakesync_maintenance_last_success_seconds",
            "When a job of the kind ended well last, in seconds since 1970.",
        ),
        MetricType::GAUGE,
        series.collect(),
    )
}

/// The maintenance of one gateway as the status page shows it.
pub(super) fn shown(maintenance: &MaintenanceSnapshot) -> Value {
    let size = maintenance.size();
    let kinds = maintenance.kinds.iter().map(|(kind, counts)| {
        json!({
            "kind": kind,
            "runs": counts.runs,
            "failures": counts.failures,
            "tookMs": counts.took_ms,
            "rows": counts.rows,
            "bytes": counts.bytes,
            "files": counts.files,
            "lastSuccessMs": counts.last_success_ms,
            "error": counts.error.as_ref().map(|error| error.text.as_str()),
        })
    });
    let running = maintenance.running.iter().map(
        |((kind, table), since_ms)| json!({"kind": kind, "table": table, "sinceMs": since_ms}),
    );
    json!({
        "kinds": kinds.collect::<Vec<_>>(),
        "running": running.collect::<Vec<_>>(),
        "paused": maintenance.paused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "baseFiles": size.base_files,
        "baseBytes": size.base_bytes,
        "deadRows": size.dead_rows,
        "deleteFiles": size.delete_files,
        "logFiles": size.log_files,
        "logBytes": size.log_bytes,
        "manifests": size.manifests,
        "snapshots": size.snapshots,
    })
}
