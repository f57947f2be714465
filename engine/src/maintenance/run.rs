//! The jobs themselves, one function each: what the scheduler runs, and what `CALL` does.
//!
//! Steps of every one: wait for the table's turn and for one of the process's → begin to count → the work, under this
//! writer's fence → count how it ended; a writer that was taken over stops.
//!
//! **Invariant:** a job runs to its end, and is counted once, whoever waits for it.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use lakesync_compactor::expire::{DropReport, DryRun, ExpireReport, ExpiryPolicy};
use lakesync_compactor::strategy::{Job, JobKind, TableState};
use lakesync_compactor::{
    CompactReport, CompactionConfig, Effort, LogRewriteOptions, LogRewriteReport, ManifestReport,
    OrphanOptions, OrphanReport, Progress, RewriteReport, compact_watched, remove_orphan_files,
    rewrite_base, rewrite_log, rewrite_manifests,
};
use lakesync_gateway::{Did, FlushReport, Gateway, LogCompaction};
use lakesync_proto::TableName;
use lakesync_providers::lake::CommitErrorKind;

use super::counted::Counted;
use super::{MaintenanceSettings, Running};
use crate::error::{Error, Result};
use crate::expiry::{self, ExpireRequest};
use crate::lake::Lake;

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
            let progress = Progress::default();
            let _listed = place.lake.running_jobs().list(Running {
                gateway: gateway.id().clone(),
                table: place.table.clone(),
                kind,
                progress: progress.clone(),
            });
            let (lake, table) = (place.lake.clone(), place.table.to_string());
            let ended = work(place, progress);
            count(&lake, &gateway, (kind, &table), ended).await
        };
        self.gateway.run_job(&self.table, run).await
    }

    /// Runs `work` while no job works on the table.
    pub(crate) async fn alone<T, F>(
        &self,
        work: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let place = self.clone();
        let run = |_: Arc<Gateway>| work(place);
        self.gateway.run_job(&self.table, run).await
    }

    /// How its log is rewritten.
    fn log_rewrite(&self, effort: Effort) -> LogRewriteOptions {
        self.lake.maintenance().log_rewrite(effort)
    }
}

/// Waits for `work` on `what`, and counts it.
async fn count<T: Counted>(
    lake: &Lake,
    gateway: &Gateway,
    (kind, what): (JobKind, &str),
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (stats, clock, word) = (gateway.maintenance_stats(), lake.clock(), kind.as_str());
    stats.began(word, what, clock.now_ms());
    let began = Instant::now();
    let ended = work.await;
    let (took, now_ms) = (began.elapsed(), clock.now_ms());
    match &ended {
        Ok(report) => {
            let Did { rows, bytes, files } = report.did();
            tracing::info!(gateway = %gateway.id(), table = what, job = word, rows, bytes, files, ?took, "maintained");
            stats.done((word, what), report.did(), took, now_ms);
        }
        Err(error) => {
            stats.failed((word, what), &error.to_string(), took, now_ms);
            if is_fenced(error) {
                gateway.yield_to_successor().await;
            }
        }
    }
    ended
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
    let fold = move |place: Place, progress: Progress| async move {
        let (live, fence) = (place.gateway.live(), place.gateway.fence());
        let table = place.table.as_ref();
        Ok(compact_watched(live, table, Some(&fence), &config, &progress).await?)
    };
    place.job(JobKind::Fold, fold).await
}

/// The rows of these base files into others.
pub(crate) async fn rewrite(
    place: &Place,
    paths: Vec<String>,
    config: CompactionConfig,
) -> Result<RewriteReport> {
    let rewrite = move |place: Place, progress: Progress| async move {
        let (live, fence) = (place.gateway.live(), place.gateway.fence());
        let table = (&**live, place.table.as_ref());
        Ok(rewrite_base(table, &paths, Some(&fence), &config, &progress).await?)
    };
    place.job(JobKind::RewriteBase, rewrite).await
}

/// Small log files into large ones.
pub(crate) async fn rewrite_log_files(place: &Place, effort: Effort) -> Result<LogRewriteReport> {
    let rewrite = move |place: Place, _| async move {
        let (live, fence) = (place.gateway.live(), place.gateway.fence());
        let options = place.log_rewrite(effort);
        Ok(rewrite_log(live, place.table.as_ref(), Some(&fence), &options).await?)
    };
    place.job(JobKind::RewriteLog, rewrite).await
}

/// Many small manifests into few.
pub(crate) async fn merge_manifests(place: &Place) -> Result<ManifestReport> {
    let merge = |place: Place, _| async move {
        let (live, fence) = (place.gateway.live(), place.gateway.fence());
        Ok(rewrite_manifests(live, place.table.as_ref(), Some(&fence)).await?)
    };
    place.job(JobKind::RewriteManifests, merge).await
}

/// Snapshots that nothing keeps, and the files that only they reach.
pub(crate) async fn expire(
    place: &Place,
    policy: ExpiryPolicy,
    request: ExpireRequest,
) -> Result<Vec<ExpireReport>> {
    let expire = move |place: Place, _| async move {
        expiry::expire_snapshots(&place.gateway, place.table.as_ref(), policy, request).await
    };
    place.job(JobKind::Expire, expire).await
}

/// Deltas of the log that nothing can need any more.
pub(crate) async fn drop_log(place: &Place, dry_run: DryRun) -> Result<Vec<DropReport>> {
    let drop_log = move |place: Place, _| async move {
        expiry::drop_log(&place.gateway, Some(place.table.as_ref()), dry_run).await
    };
    place.job(JobKind::DropLog, drop_log).await
}

/// Files that no snapshot reaches. Jobs on the table do not write meanwhile, and a flush that was writing is waited for.
pub(crate) async fn remove_orphans(place: &Place, options: OrphanOptions) -> Result<OrphanReport> {
    let remove = move |place: Place, _| async move {
        let gateway = &place.gateway;
        let settled = async {
            let waited = gateway.maintain(|_| async { Ok::<_, Error>(()) }).await;
            drop(waited);
        };
        let live = gateway.live();
        Ok(remove_orphan_files(live, place.table.as_ref(), &options, settled).await?)
    };
    place.job(JobKind::RemoveOrphans, remove).await
}

/// Pushes that the gateway's database need not hold any more.
pub(crate) async fn compact_log(lake: &Lake, gateway: &Arc<Gateway>) -> Result<LogCompaction> {
    let (lake, gateway) = (lake.clone(), Arc::clone(gateway));
    let task = tokio::spawn(async move {
        let name = gateway.id().to_string();
        let work = async { Ok(gateway.compact_log().await?) };
        count(&lake, &gateway, (JobKind::CompactLog, &name), work).await
    });
    let ended = task.await;
    ended.unwrap_or_else(|error| {
        Err(Error::Invalid(format!(
            "compact_log was broken off: {error}"
        )))
    })
}

/// Does what was found due in `state`; the log's files by `effort`.
pub(crate) async fn due(place: &Place, job: &Job, state: &TableState) -> Result<Did> {
    let settings = place.lake.maintenance();
    Ok(match job {
        Job::Fold(_) => fold(place, settings.compaction).await?.did(),
        Job::RewriteBase(choice) => {
            let paths = choice
                .files
                .iter()
                .map(|at| state.base.files[*at].path.to_string());
            rewrite(place, paths.collect(), settings.compaction)
                .await?
                .did()
        }
        Job::RewriteLog => rewrite_log_files(place, Effort::Thrifty).await?.did(),
        Job::RewriteManifests => merge_manifests(place).await?.did(),
        Job::Expire => {
            let request = ExpireRequest::default();
            expire(place, settings.expiry, request).await?.did()
        }
        Job::DropLog => drop_log(place, DryRun::No).await?.did(),
        Job::RemoveOrphans => {
            let options = orphans_older_than(settings, place.lake.clock().now_ms());
            remove_orphans(place, options).await?.did()
        }
    })
}

/// The orphans that are removed without anybody saying which.
fn orphans_older_than(settings: &MaintenanceSettings, now_ms: u64) -> OrphanOptions {
    let grace_ms = u64::try_from(settings.orphan_grace.as_millis()).unwrap_or(u64::MAX);
    OrphanOptions {
        older_than_ms: Some(now_ms.saturating_sub(grace_ms)),
        ..OrphanOptions::default()
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
