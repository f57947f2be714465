//! The jobs themselves, one function each: what the scheduler runs, and what `CALL` does.
//!
//! Steps of every one: wait for the table's turn and for one of the process's → begin to count → the compactor's work,
//! under this writer's fence → count how it ended; a writer that was taken over stops.
//!
//! **Invariant:** a job runs to its end, and is counted once, whoever waits for it.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use lakesync_compactor::strategy::{Job, JobKind, TableState};
use lakesync_compactor::{
    CompactReport, CompactionConfig, Progress, RewriteReport, compact, rewrite_base,
};
use lakesync_gateway::{Did, FlushReport, Gateway};
use lakesync_proto::TableName;
use lakesync_providers::lake::CommitErrorKind;

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::maintenance::Running;

/// What is counted of a job that ended well.
pub(crate) trait Counted {
    /// Rows, bytes and files that it wrote or took away.
    fn did(&self) -> Did;
}

impl Counted for RewriteReport {
    fn did(&self) -> Did {
        Did {
            rows: self.rows,
            bytes: self.bytes_added,
            files: self.files_added,
        }
    }
}

impl Counted for CompactReport {
    fn did(&self) -> Did {
        Did {
            rows: self.rows,
            bytes: self.bytes_added,
            files: count(self.files_added),
        }
    }
}

/// A table of an open gateway.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) lake: Lake,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) table: TableName,
}

impl Place {
    /// Runs `work` as a job of `kind`.
    async fn job<T, F>(
        &self,
        kind: JobKind,
        work: impl FnOnce(Self, Progress) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Counted + Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let place = self.clone();
        let run = move |gateway: Arc<Gateway>| async move {
            let turn = Arc::clone(place.lake.jobs()).acquire_owned().await;
            let _turn = turn.expect("it is never closed");
            let (stats, table) = (Arc::clone(gateway.maintenance_stats()), place.table.clone());
            let clock = Arc::clone(place.lake.clock());
            let word = kind.as_str();
            stats.began(word, &table, clock.now_ms());
            let progress = Progress::default();
            let listed = place.lake.running_jobs().list(Running {
                gateway: gateway.id().clone(),
                table: table.clone(),
                kind,
                progress: progress.clone(),
            });
            let began = Instant::now();
            let ended = work(place, progress).await;
            drop(listed);
            let (took, now_ms) = (began.elapsed(), clock.now_ms());
            match &ended {
                Ok(report) => {
                    let did = report.did();
                    tracing::info!(gateway = %gateway.id(), %table, job = word, rows = did.rows, bytes = did.bytes, files = did.files, ?took, "maintained");
                    stats.done((word, &table), did, took, now_ms);
                }
                Err(error) => {
                    stats.failed((word, &table), &error.to_string(), took, now_ms);
                    if is_fenced(error) {
                        gateway.yield_to_successor().await;
                    }
                }
            }
            ended
        };
        self.gateway.run_job(&self.table, run).await
    }
}

/// Whether another process has taken the gateway over.
fn is_fenced(error: &Error) -> bool {
    match error {
        Error::Compaction(error) => error.is_fenced(),
        Error::Gateway(lakesync_gateway::Error::Commit(error)) => {
            error.kind() == CommitErrorKind::Fenced
        }
        _ => false,
    }
}

/// Hot deltas of the table into its log.
pub(crate) async fn flush(place: &Place) -> Result<Vec<FlushReport>> {
    Ok(place.gateway.flush(Some(place.table.as_ref())).await?)
}

/// What the table has flushed into its base.
pub(crate) async fn fold(place: &Place, config: CompactionConfig) -> Result<CompactReport> {
    place
        .job(JobKind::Fold, move |place, _progress| async move {
            let (live, fence) = (place.gateway.live(), place.gateway.fence());
            Ok(compact(live, place.table.as_ref(), Some(&fence), &config).await?)
        })
        .await
}

/// What a fold would fold now, and that it has not.
///
/// # Errors
/// When the table is gone.
pub(crate) fn fold_dry(place: &Place) -> Result<CompactReport> {
    let sizes = place.gateway.live().tables();
    let size = sizes.into_iter().find(|size| size.table == place.table);
    let size = size.ok_or_else(|| Error::Invalid(format!("table `{}` is gone", place.table)))?;
    let hot = size.hot;
    Ok(CompactReport {
        table: place.table.clone(),
        from_seq: size.base,
        base_seq: size.base.max(size.flushed),
        rows: hot.deltas.saturating_sub(hot.unflushed_deltas),
        files_removed: 0,
        files_added: 0,
        bytes_added: 0,
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The rows of these base files into others.
pub(crate) async fn rewrite(
    place: &Place,
    paths: Vec<String>,
    config: CompactionConfig,
) -> Result<RewriteReport> {
    place
        .job(JobKind::RewriteBase, move |place, progress| async move {
            let (live, fence) = (place.gateway.live(), place.gateway.fence());
            let table = (&**live, place.table.as_ref());
            Ok(rewrite_base(table, &paths, Some(&fence), &config, &progress).await?)
        })
        .await
}

/// Whether [`due`] can do a job.
pub(crate) fn is_known(job: &Job) -> bool {
    matches!(job, Job::Fold(_) | Job::RewriteBase(_))
}

/// Does what the strategy found due in `state`.
pub(crate) async fn due(place: &Place, job: &Job, state: &TableState) -> Result<Did> {
    let settings = place.lake.maintenance();
    match job {
        Job::Fold(_) => Ok(fold(place, settings.compaction).await?.did()),
        Job::RewriteBase(choice) => {
            let paths = choice
                .files
                .iter()
                .map(|at| state.base.files[*at].path.to_string());
            Ok(rewrite(place, paths.collect(), settings.compaction)
                .await?
                .did())
        }
        _ => Ok(Did::default()),
    }
}

/// What a fold would fold now, and that it has not.
///
/// # Errors
/// When the table is gone.
pub(crate) fn fold_dry(place: &Place) -> Result<CompactReport> {
    let sizes = place.gateway.live().tables();
    let size = sizes.into_iter().find(|size| size.table == place.table);
    let size = size.ok_or_else(|| Error::Invalid(format!("table `{}` is gone", place.table)))?;
    let hot = size.hot;
    Ok(CompactReport {
        table: place.table.clone(),
        from_seq: size.base,
        base_seq: size.base.max(size.flushed),
        rows: hot.deltas.saturating_sub(hot.unflushed_deltas),
        files_removed: 0,
        files_added: 0,
        bytes_added: 0,
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The rows of these base files into others.
pub(crate) async fn rewrite(
    place: &Place,
    paths: Vec<String>,
    config: CompactionConfig,
) -> Result<RewriteReport> {
    place
        .job(JobKind::RewriteBase, move |place, progress| async move {
            let (live, fence) = (place.gateway.live(), place.gateway.fence());
            let table = (&**live, place.table.as_ref());
            Ok(rewrite_base(table, &paths, Some(&fence), &config, &progress).await?)
        })
        .await
}

/// Whether [`due`] can do a job.
pub(crate) fn is_known(job: &Job) -> bool {
    matches!(job, Job::Fold(_) | Job::RewriteBase(_))
}

/// Does what the strategy found due in `state`.
pub(crate) async fn due(place: &Place, job: Job, state: &TableState) -> Result<Did> {
    let settings = place.lake.maintenance();
    match job {
        Job::Fold(_) => Ok(fold(place, settings.compaction).await?.did()),
        Job::RewriteBase(choice) => {
            let paths = choice
                .files
                .iter()
                .map(|at| state.base.files[*at].path.to_string());
            Ok(rewrite(place, paths.collect(), settings.compaction)
                .await?
                .did())
        }
        _ => Ok(Did::default()),
    }
}
