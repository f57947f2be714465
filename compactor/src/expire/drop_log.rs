//! Dropping deltas from a log: those that nothing can need any more.
//!
//! ```text
//!   seq   1 ……………………… covered by all ………………………
//!         dropped, when  │ kept
//!         stamped < F    │
//! ```
//! A file all of whose deltas may go is removed by its bounds alone. Of the others those that more than half of may go are
//! written again without them.
//!
//! **Invariant:** a delta is dropped only when every kept base covers it and its HLC is below the floor and below every
//! delta that some kept base does not cover: then no fold, of whatever moment, compares a write with it.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_providers::lake::{
    Commit, CommitErrorKind, DataFile, DataFileInfo, LogFile, WriteOptions, log_files, summary,
    write_data_stream,
};
use lakesync_providers::proto::{Hlc, Seq, TableName, columns};
use lakesync_providers::{ParquetTable, ReadView, crash, session};

use super::rollback::view_of;
use super::run::{DryRun, Job};
use crate::error::Result;

/// How many files one run looks into (64): each is read once to be counted and once to be written. The next run goes on.
const OPENED_MAX: usize = 64;

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropRequest {
    /// Deltas up to this one.
    pub covered: Seq,
    /// Of those the ones stamped below this.
    pub below: Hlc,
    /// The gateway's floor, which is never less.
    pub floor: Hlc,
}

impl DropRequest {
    /// The condition in SQL.
    fn condition(self) -> String {
        format!(
            "{} <= {} and {} < {}",
            columns::SEQ,
            self.covered.as_i64(),
            columns::HLC,
            self.below.as_i64()
        )
    }
}

/// What was dropped, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropReport {
    /// The table.
    pub table: TableName,
    /// How many deltas.
    pub deltas: u64,
    /// How many files are gone.
    pub files_removed: u64,
    /// How many were written again without what went.
    pub files_rewritten: u64,
    /// The log is whole above this seq.
    pub dropped_seq: Seq,
    /// The floor.
    pub floor: Hlc,
}

/// Drops what `request` says from the log of a table; a dry run tells how much that is.
///
/// # Errors
/// Unknown table, files that cannot be read or written, or a lost commit; the log is then as it was.
///
/// # Cancel safety
/// Run it where it is not dropped: a commit whose publication was cut off is found by the next one.
pub async fn drop_log(job: Job<'_>, request: DropRequest, dry_run: DryRun) -> Result<DropReport> {
    let view = view_of(job.live, job.table)?;
    let mut report = DropReport {
        table: view.table().clone(),
        deltas: 0,
        files_removed: 0,
        files_rewritten: 0,
        dropped_seq: view.log.dropped_seq,
        floor: request.floor,
    };
    let Some(snapshot) = view.log.snapshot_id else {
        return Ok(report);
    };
    let found = Found::of(&view, request).await?;
    report.files_removed = count(found.whole.len());
    report.files_rewritten = count(found.partly.len());
    let whole = found.whole.iter().map(|file| file.rows);
    report.deltas = whole
        .chain(found.partly.iter().map(|(_, rows)| *rows))
        .sum();
    if found.whole.is_empty() && found.partly.is_empty() {
        return Ok(report);
    }
    report.dropped_seq = report.dropped_seq.max(found.greatest);
    if dry_run == DryRun::Yes {
        return Ok(report);
    }
    let written = written_again(&view, &found, request).await?;
    let paths: Vec<String> = written
        .iter()
        .map(|file| file.file_path().to_owned())
        .collect();
    crash::point("drop_log.after_write");
    let going = found.paths();
    let commit = match written.is_empty() {
        true => Commit::delete(snapshot, going),
        false => Commit::overwrite(snapshot, going, written),
    };
    let mut commit = commit
        .with_property(summary::DROPPED_SEQ, report.dropped_seq)
        .with_property(summary::FLOOR, request.floor);
    if let Some(fence) = job.fence {
        commit = commit.with_fence(fence);
    }
    let committed = commit.run(job.live.warehouse(), view.log.table.identifier());
    match committed.await {
        Ok(committed) => {
            crash::point("drop_log.after_commit");
            job.live.flushed(view.table(), committed)?;
            Ok(report)
        }
        Err(error) => {
            after_lost(job, &view, paths, error.kind()).await?;
            Err(error.into())
        }
    }
}

/// Writes the files again of which a part goes.
async fn written_again(
    view: &ReadView,
    found: &Found,
    request: DropRequest,
) -> Result<Vec<DataFile>> {
    let kept = format!(
        "select * from part where not ({}) order by {}, {}, {}",
        request.condition(),
        columns::ROW_ID,
        columns::HLC,
        columns::SEQ
    );
    let mut written = Vec::new();
    for (file, _) in &found.partly {
        let rows = opened(view, file, &kept).await?.execute_stream().await?;
        let mut options = WriteOptions::new("log")
            .with_partition(file.partition.clone())
            .with_bloom_column(columns::ROW_ID);
        options.sort_order_id = file.sort_order_id;
        written.extend(write_data_stream(&view.log.table, rows, &options).await?);
    }
    Ok(written)
}

/// What follows a commit that did not go through: files that are certainly in no snapshot go, and the next attempt starts
/// from what is in the catalog.
async fn after_lost(
    job: Job<'_>,
    view: &ReadView,
    written: Vec<String>,
    kind: CommitErrorKind,
) -> Result<()> {
    let (live, warehouse) = (job.live, job.live.warehouse());
    if kind != CommitErrorKind::Unknown {
        // What stays behind is left to orphan removal.
        drop(warehouse.delete_objects(written).await);
    }
    if matches!(kind, CommitErrorKind::Conflict | CommitErrorKind::Unknown) {
        let pair = warehouse.load(live.gateway(), view.table()).await?;
        live.flushed(view.table(), pair.log)?;
    }
    Ok(())
}

/// The least HLC among the deltas of a view above `covered`; none without any.
///
/// # Errors
/// When the log cannot be read.
pub async fn oldest_uncovered(view: &ReadView, covered: Seq) -> Result<Option<Hlc>> {
    let hot = view.arrivals(view.log.max_seq.max(covered));
    let mut least = hot.map(|(delta, _)| delta.delta.hlc).min();
    for (file, bounds) in files(view).await? {
        let flushed = match bounds {
            Some(bounds) if bounds.seqs.1 <= covered.as_i64() => None,
            Some(bounds) if bounds.seqs.0 > covered.as_i64() => Some(bounds.hlcs.0),
            _ => {
                let (seq, hlc) = (columns::SEQ, columns::HLC);
                let sql = format!(
                    "select min({hlc}) from part where {seq} > {}",
                    covered.as_i64()
                );
                number(opened(view, &file, &sql).await?).await?
            }
        };
        let flushed = flushed.and_then(|hlc| Hlc::from_i64(hlc.max(0)).ok());
        least = least.into_iter().chain(flushed).min();
    }
    Ok(least)
}

/// What may go of a log, by file.
struct Found {
    whole: Vec<DataFileInfo>,
    /// Those that are written again, with how many of their deltas may go.
    partly: Vec<(DataFileInfo, u64)>,
    /// The greatest seq that may be among what goes.
    greatest: Seq,
}

impl Found {
    async fn of(view: &ReadView, request: DropRequest) -> Result<Self> {
        let mut found = Self {
            whole: Vec::new(),
            partly: Vec::new(),
            greatest: Seq::ZERO,
        };
        let mut perhaps = Vec::new();
        for (file, bounds) in files(view).await? {
            match bounds.map_or(Share::Unknown, |bounds| bounds.share(request)) {
                Share::Nothing => {}
                Share::Everything => {
                    found.reach(bounds, request);
                    found.whole.push(file);
                }
                Share::Unknown => perhaps.push((file, bounds)),
            }
        }
        let estimated =
            |bounds: &Option<Bounds>| bounds.map_or(0, |bounds| bounds.per_mille(request));
        perhaps.sort_by_key(|(_, bounds)| std::cmp::Reverse(estimated(bounds)));
        let sql = format!("select count(*) from part where {}", request.condition());
        for (file, bounds) in perhaps.into_iter().take(OPENED_MAX) {
            let rows = number(opened(view, &file, &sql).await?).await?;
            let rows = rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0);
            if rows == file.rows {
                found.reach(bounds, request);
                found.whole.push(file);
            } else if rows > file.rows / 2 {
                found.reach(bounds, request);
                found.partly.push((file, rows));
            }
        }
        Ok(found)
    }

    fn paths(&self) -> Vec<String> {
        let partly = self.partly.iter().map(|(file, _)| file);
        let all = self.whole.iter().chain(partly);
        all.map(|file| file.path.clone()).collect()
    }

    fn reach(&mut self, bounds: Option<Bounds>, request: DropRequest) {
        let greatest = bounds.and_then(|bounds| Seq::from_i64(bounds.seqs.1).ok());
        let greatest = greatest.map_or(request.covered, |seq| seq.min(request.covered));
        self.greatest = self.greatest.max(greatest);
    }
}

/// How much of a file may go, as its bounds tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Nothing,
    Everything,
    Unknown,
}

/// What the manifest says of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    seqs: (i64, i64),
    hlcs: (i64, i64),
}

impl Bounds {
    fn share(self, request: DropRequest) -> Share {
        let (covered, below) = (request.covered.as_i64(), request.below.as_i64());
        if self.seqs.0 > covered || self.hlcs.0 >= below {
            Share::Nothing
        } else if self.seqs.1 <= covered && self.hlcs.1 < below {
            Share::Everything
        } else {
            Share::Unknown
        }
    }

    /// About how many of a thousand of its deltas may go, were they spread evenly.
    fn per_mille(self, request: DropRequest) -> i128 {
        let part = |(least, greatest): (i64, i64), to: i64| {
            let (least, greatest, to) = (i128::from(least), i128::from(greatest), i128::from(to));
            ((to.min(greatest) - least).max(0) + 1) * 1000 / (greatest - least + 1).max(1)
        };
        let seqs = part(self.seqs, request.covered.as_i64());
        let hlcs = part(self.hlcs, request.below.as_i64());
        seqs.min(hlcs)
    }
}

/// The files of a view's log, each with its bounds when they are known.
async fn files(view: &ReadView) -> Result<Vec<(DataFileInfo, Option<Bounds>)>> {
    let log = &view.log;
    let files = log_files(&log.table, log.snapshot_id).await?;
    let with_bounds = |file: LogFile| {
        let bounds = file.seqs.zip(file.stamps).map(|(seqs, hlcs)| Bounds {
            seqs: (seqs.start().as_i64(), seqs.end().as_i64()),
            hlcs: (hlcs.start().as_i64(), hlcs.end().as_i64()),
        });
        (file.info, bounds)
    };
    Ok(files.into_iter().map(with_bounds).collect())
}

/// A query over one file of the log, as the table `part`.
async fn opened(view: &ReadView, file: &DataFileInfo, sql: &str) -> Result<DataFrame> {
    let ctx: SessionContext = session(&view.warehouse);
    let rows = ParquetTable::open(&view.warehouse, &view.log.table, Arc::new([file.clone()]))?;
    let frame = ctx.read_table(Arc::new(rows))?;
    ctx.register_table("part", frame.into_view())?;
    Ok(ctx.sql(sql).await?)
}

async fn number(frame: DataFrame) -> Result<Option<i64>> {
    let batches = frame.collect().await?;
    let rows = batches.iter().filter(|batch| batch.num_rows() > 0);
    let mut cells = rows.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter());
    Ok(cells.next().flatten())
}

fn count(files: usize) -> u64 {
    u64::try_from(files).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(covered: u64, below: u64) -> DropRequest {
        let below = Hlc::from_u64(below).unwrap();
        DropRequest {
            covered: Seq::from_u64(covered).unwrap(),
            below,
            floor: below,
        }
    }

    #[test]
    fn a_file_goes_when_all_of_it_is_covered_and_below() {
        let bounds = Bounds {
            seqs: (5, 9),
            hlcs: (100, 200),
        };
        for (covered, below, share) in [
            (9, 201, Share::Everything),
            (9, 200, Share::Unknown),
            (8, 201, Share::Unknown),
            (4, 201, Share::Nothing),
            (9, 100, Share::Nothing),
            (5, 101, Share::Unknown),
        ] {
            assert_eq!(
                bounds.share(request(covered, below)),
                share,
                "{covered} {below}"
            );
        }
    }

    #[test]
    fn files_of_which_more_may_go_are_looked_into_first() {
        let bounds = |seqs, hlcs| Bounds { seqs, hlcs };
        let request = request(100, 1_000);
        let most = bounds((1, 101), (1, 900)).per_mille(request);
        let half = bounds((51, 150), (1, 900)).per_mille(request);
        let few = bounds((1, 100), (999, 9_000)).per_mille(request);
        assert!(most > half && half > few, "{most} {half} {few}");
    }
}
