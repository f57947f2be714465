//! What a lake lets go of its past, with the gateway's part in it.
//!
//! Steps of [`drop_log`]: per table, how far every kept base covers it and the least stamp above → the floor, raised by the
//! gateway's writer as far as all tables of the gateway allow → per table, the deltas below both.
//!
//! **Invariant:** the floor is durable before a delta is dropped that it lets go; all of it runs as maintenance of the
//! gateway, one thing at a time, to its end.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lakesync_compactor::expire::{
    self, Asked, DropReport, DropRequest, DryRun, ExpireReport, ExpiryPolicy, Job, NewTag,
    RollbackReport, RollbackTo, Side, TagReport,
};
use lakesync_gateway::Gateway;
use lakesync_proto::{Hlc, Seq, TableName};
use lakesync_providers::covered_by_all;

use crate::error::{Error, Result};

/// Which snapshots of a table are to be expired; by default those that the policy lets go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpireRequest {
    /// All snapshots committed at this time or later are kept (milliseconds since 1970), in place of the policy's.
    pub older_than_ms: Option<i64>,
    /// So many of the newest are kept whatever their age, in place of the policy's.
    pub retain_last: Option<usize>,
    /// Just these, of base or log.
    pub snapshot_ids: BTreeSet<i64>,
    /// Whether to do it, or only to tell.
    pub dry_run: DryRun,
}

/// Expires snapshots of a table's base and log; an answer for each side that was looked at.
///
/// # Errors
/// As [`expire::expire`]; what was expired before it stays expired.
pub async fn expire_snapshots(
    gateway: &Arc<Gateway>,
    table: &str,
    policy: ExpiryPolicy,
    request: ExpireRequest,
) -> Result<Vec<ExpireReport>> {
    let table = table.to_owned();
    maintain(gateway, move |gateway| async move {
        let fence = gateway.fence();
        let job = Job {
            live: gateway.live(),
            table: &table,
            fence: Some(&fence),
        };
        let now_ms = gateway.live().warehouse().now_ms();
        let sides = sides(&job, &policy, &request, now_ms);
        let mut reports = Vec::new();
        for (side, asked) in sides {
            reports.push(expire::expire(job, side, &asked, request.dry_run).await?);
        }
        Ok(reports)
    })
    .await
}

/// What is asked of each side.
fn sides(
    job: &Job<'_>,
    policy: &ExpiryPolicy,
    request: &ExpireRequest,
    now_ms: u64,
) -> Vec<(Side, Asked)> {
    if !request.snapshot_ids.is_empty() {
        let view = job.live.view(job.table);
        let of_log = |id: &i64| {
            let view = view.as_ref();
            view.is_some_and(|view| view.log.table.metadata().snapshot_by_id(*id).is_some())
        };
        let (log, base): (BTreeSet<i64>, BTreeSet<i64>) =
            request.snapshot_ids.iter().partition(|id| of_log(id));
        let sides = [(Side::Base, base), (Side::Log, log)].into_iter();
        let sides = sides.filter(|(_, ids)| !ids.is_empty());
        return sides.map(|(side, ids)| (side, Asked::These(ids))).collect();
    }
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let ago =
        |time: Duration| now_ms.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let retain_last = request.retain_last.unwrap_or(policy.retain_last);
    let base = Asked::Older {
        than_ms: request.older_than_ms.unwrap_or(ago(policy.base_all)),
        newest_max: policy.base_all_max.max(retain_last),
        retain_last,
        daily_since_ms: Some(ago(policy.history)),
    };
    let log = Asked::Older {
        than_ms: request.older_than_ms.unwrap_or(ago(policy.log_all)),
        newest_max: policy.log_all_max.max(retain_last),
        retain_last,
        daily_since_ms: None,
    };
    vec![(Side::Base, base), (Side::Log, log)]
}

/// Drops from the logs of a gateway, or of one table, what no kept base and no late delta can need.
///
/// # Errors
/// When a log cannot be read or a commit is lost; what was dropped before stays dropped.
pub async fn drop_log(
    gateway: &Arc<Gateway>,
    only: Option<&str>,
    dry_run: DryRun,
) -> Result<Vec<DropReport>> {
    let only = only.map(str::to_owned);
    maintain(gateway, move |gateway| async move {
        let views = gateway.live().views();
        let mut tables: Vec<(TableName, Seq, Option<Hlc>)> = Vec::new();
        for (name, view) in &views.tables {
            let covered = covered_by_all(&view.base.table);
            let covered = covered.map_err(lakesync_compactor::Error::from)?;
            let least = expire::oldest_uncovered(view, covered).await?;
            tables.push((name.clone(), covered, least));
        }
        let least = tables.iter().filter_map(|(_, _, least)| *least).min();
        let floor = match dry_run {
            DryRun::Yes => gateway.window_floor(least).max(views.floor),
            DryRun::No => gateway.raise_floor_to_window(least, views.seq).await?,
        };
        let fence = gateway.fence();
        let mut reports = Vec::new();
        for (name, covered, least) in tables {
            if only.as_ref().is_some_and(|only| only != name.as_ref()) {
                continue;
            }
            let job = Job {
                live: gateway.live(),
                table: name.as_ref(),
                fence: Some(&fence),
            };
            let request = DropRequest {
                covered,
                below: least.map_or(floor, |least| least.min(floor)),
                floor,
            };
            reports.push(expire::drop_log(job, request, dry_run).await?);
        }
        Ok(reports)
    })
    .await
}

/// Rolls a table back; its rows stay what they are.
///
/// # Errors
/// As [`expire::rollback`].
pub async fn rollback(
    gateway: &Arc<Gateway>,
    table: &str,
    to: RollbackTo,
) -> Result<RollbackReport> {
    let table = table.to_owned();
    maintain(gateway, move |gateway| async move {
        let fence = gateway.fence();
        let job = Job {
            live: gateway.live(),
            table: &table,
            fence: Some(&fence),
        };
        Ok(expire::rollback(job, to).await?)
    })
    .await
}

/// Names a snapshot of a table (the base's current one without `snapshot`), for `max_age_ms` or for good.
///
/// # Errors
/// As [`expire::create_tag`].
pub async fn create_tag(
    gateway: &Arc<Gateway>,
    table: &str,
    name: &str,
    (snapshot, max_age_ms): (Option<i64>, Option<i64>),
) -> Result<TagReport> {
    let (table, name) = (table.to_owned(), name.to_owned());
    maintain(gateway, move |gateway| async move {
        let fence = gateway.fence();
        let job = Job {
            live: gateway.live(),
            table: &table,
            fence: Some(&fence),
        };
        let tag = NewTag {
            name: &name,
            snapshot,
            max_age_ms,
        };
        Ok(expire::create_tag(job, tag).await?)
    })
    .await
}

/// Drops a tag of a table.
///
/// # Errors
/// As [`expire::drop_tag`].
pub async fn drop_tag(gateway: &Arc<Gateway>, table: &str, name: &str) -> Result<TagReport> {
    let (table, name) = (table.to_owned(), name.to_owned());
    maintain(gateway, move |gateway| async move {
        let fence = gateway.fence();
        let job = Job {
            live: gateway.live(),
            table: &table,
            fence: Some(&fence),
        };
        Ok(expire::drop_tag(job, &name).await?)
    })
    .await
}

/// Runs work as maintenance of the gateway; one that another process has taken over takes no more pushes.
async fn maintain<T, F>(
    gateway: &Arc<Gateway>,
    work: impl FnOnce(Arc<Gateway>) -> F + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send,
{
    let work = |gateway: Arc<Gateway>| async move {
        let done = work(Arc::clone(&gateway)).await;
        if let Err(Error::Compaction(error)) = &done
            && error.is_fenced()
        {
            gateway.yield_to_successor().await;
        }
        done
    };
    gateway.maintain(work).await
}
