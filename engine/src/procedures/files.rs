//! The procedures that write rows into the lake's files: flush, compact.
//!
//! **Invariant:** what is explained is what runs: both take their settings from [`folding`].

use lakesync_compactor::{CompactReport, CompactionConfig, WriteMode};
use lakesync_gateway::FlushReport;

use super::Asked;
use super::answer::{Cell, Rows, long, text};
use super::registry::Plans;
use crate::error::Result;
use crate::maintenance::run;

pub(super) async fn flush(asked: Asked<'_>) -> Result<Rows> {
    let reports = match asked.arguments.strings("table")? {
        // All at once, as they are at one seq.
        None => asked.target.gateway.flush(None).await?,
        Some(_) => {
            let mut reports = Vec::new();
            for place in asked.tables()? {
                reports.extend(run::flush(&place).await?);
            }
            reports
        }
    };
    Ok(reports.iter().map(flushed).collect())
}

fn flushed(report: &FlushReport) -> Vec<Cell> {
    vec![
        text(&report.table),
        long(report.deltas),
        long(report.files),
        long(report.bytes),
        long(report.max_seq.as_i64()),
        report.snapshot_id.map_or(Cell::Null, Cell::Long),
    ]
}

pub(super) async fn compact(asked: Asked<'_>) -> Result<Rows> {
    let (place, config) = (asked.table()?, folding(&asked)?);
    let report = match asked.is_dry()? {
        true => run::fold_dry(&place)?,
        false => run::fold(&place, config).await?,
    };
    Ok(vec![compacted(&report)])
}

fn compacted(report: &CompactReport) -> Vec<Cell> {
    vec![
        text(&report.table),
        long(report.from_seq.as_i64()),
        long(report.base_seq.as_i64()),
        long(report.rows),
        long(report.files_removed),
        long(report.files_added),
        long(report.bytes_added),
    ]
}

pub(super) async fn explain_compact(asked: Asked<'_>) -> Result<Plans> {
    let (place, config) = (asked.table()?, folding(&asked)?);
    Ok(lakesync_compactor::explain(place.gateway.live(), place.table.as_ref(), &config).await?)
}

/// How the call wants its table folded: as it is configured, but for what it says itself.
fn folding(asked: &Asked<'_>) -> Result<CompactionConfig> {
    let mut config = asked.target.lake.maintenance().compaction;
    if let Some(name) = asked.arguments.string("mode")? {
        config.mode = WriteMode::parse(name).ok_or_else(|| {
            let message = format!("there is no mode '{name}'");
            let next = "give 'merge-on-read', 'copy-on-write' or 'equality-deletes'";
            asked.arguments.refused("mode", message, next)
        })?;
    }
    Ok(config)
}
