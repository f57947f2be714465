//! The procedures that write rows into the lake's files: flush, compact, rewrite.
//!
//! **Invariant:** what is explained is what runs: both take their settings from [`folding`].

use std::time::Duration;

use lakesync_compactor::strategy::{RewritePolicy, TableState, base_files_due};
use lakesync_compactor::{
    CompactReport, CompactionConfig, Effort, RewriteReport, WriteMode, manifests_due,
};
use lakesync_gateway::FlushReport;

use super::Asked;
use super::answer::{Cell, Rows, long, text};
use super::registry::Plans;
use crate::error::Result;
use crate::maintenance::run::{self, Place};
use crate::maintenance::state_now;

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

/// The files that a rewrite takes when nothing else is said: those that a schedule would, from fewer small ones on.
pub(super) async fn rewrite_data_files(asked: Asked<'_>) -> Result<Rows> {
    if asked.is_of_log()? {
        return rewrite_log(&asked).await;
    }
    let place = asked.table()?;
    let settings = asked.target.lake.maintenance();
    let state = state_of(&place).await?;
    let policy = RewritePolicy {
        every: Some(Duration::ZERO),
        small_files_min: asked.files_min("min_input_files")?,
        ..settings.policy.rewrite
    };
    let files = match asked.arguments.boolean("rewrite_all")?.unwrap_or(false) {
        true => (0..state.base.files.len()).collect(),
        false => base_files_due(&state.base, &policy).map_or_else(Vec::new, |choice| choice.files),
    };
    rewritten(&asked, &place, &state, files).await
}

/// The files of a log, `t$deltas`: whatever makes fewer of them.
async fn rewrite_log(asked: &Asked<'_>) -> Result<Rows> {
    let place = asked.table()?;
    if asked.is_dry()? {
        let options = place.lake.maintenance().log_rewrite(Effort::Thorough);
        let state = state_now(&place.gateway, &place.table, &options).await?;
        let due = state.log_due;
        return Ok(vec![vec![
            long(due.files),
            long(0),
            long(due.bytes),
            long(0),
            long(0),
        ]]);
    }
    let report = run::rewrite_log_files(&place, Effort::Thorough).await?;
    Ok(vec![vec![
        long(report.files_removed),
        long(report.files_added),
        long(report.bytes_removed),
        long(0),
        long(0),
    ]])
}

/// The files of the table as they are now.
async fn state_of(place: &Place) -> Result<TableState> {
    let options = place.lake.maintenance().log_rewrite(Effort::Thrifty);
    state_now(&place.gateway, &place.table, &options).await
}

pub(super) async fn rewrite_manifests(asked: Asked<'_>) -> Result<Rows> {
    let place = asked.table()?;
    let (rewritten, added) = match asked.is_dry()? {
        true => (
            manifests_due(place.gateway.live(), place.table.as_ref()).await?,
            0,
        ),
        false => {
            let report = run::merge_manifests(&place).await?;
            (report.rewritten, report.added)
        }
    };
    Ok(vec![vec![long(rewritten), long(added)]])
}

/// The files that delete files take rows of.
pub(super) async fn rewrite_position_delete_files(asked: Asked<'_>) -> Result<Rows> {
    let place = asked.table()?;
    let state = state_of(&place).await?;
    let files = state.base.files.iter().enumerate();
    let files = files
        .filter(|(_, file)| file.dead_rows > 0)
        .map(|(at, _)| at);
    let report = rewrite(&asked, &place, &state, files.collect()).await?;
    Ok(vec![vec![
        long(report.delete_files_removed),
        long(0),
        long(report.bytes_rewritten),
        long(report.bytes_added),
    ]])
}

async fn rewritten(
    asked: &Asked<'_>,
    place: &Place,
    state: &TableState,
    files: Vec<usize>,
) -> Result<Rows> {
    let report = rewrite(asked, place, state, files).await?;
    Ok(vec![vec![
        long(report.files_rewritten),
        long(report.files_added),
        long(report.bytes_rewritten),
        long(0),
        long(report.delete_files_removed),
    ]])
}

/// Rewrites these files of the state's base; a dry run counts them.
async fn rewrite(
    asked: &Asked<'_>,
    place: &Place,
    state: &TableState,
    files: Vec<usize>,
) -> Result<RewriteReport> {
    let files = files.into_iter().map(|at| &state.base.files[at]);
    if asked.is_dry()? {
        let files: Vec<_> = files.collect();
        return Ok(RewriteReport {
            table: place.table.clone(),
            files_rewritten: u64::try_from(files.len()).unwrap_or(u64::MAX),
            bytes_rewritten: files.iter().map(|file| file.bytes).sum(),
            delete_files_removed: 0,
            files_added: 0,
            bytes_added: 0,
            rows: 0,
        });
    }
    let paths = files.map(|file| file.path.to_string()).collect();
    run::rewrite(place, paths, asked.target.lake.maintenance().compaction).await
}
