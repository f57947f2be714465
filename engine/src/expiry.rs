//! What a lake lets go of its past, with the gateway's part in it.
//!
//! Steps of [`drop_log`]: per table, how far every kept base covers it and the least stamp above → the floor, raised by the
//! gateway's writer as far as all tables of the gateway allow → per table, the deltas below both.
//!
//! What is here is run as a job of its table: one at a time, to its end whoever waits for it, under the writer's fence.
//!
//! **Invariant:** the floor is durable before a delta is dropped that it lets go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lakesync_compactor::expire::{
    self, Asked, DropReport, DropRequest, DryRun, ExpireReport, ExpiryPolicy, Job, NewTag,
    RollbackReport, RollbackTo, Side, TagReport,
};
use lakesync_gateway::Gateway;
use lakesync_proto::{Hlc, Seq, TableName};
use lakesync_providers::covered_by_all;
use lakesync_providers::lake::Fence;

use crate::error::{Error, Result};

/// Which snapshots of a table are to be expired; by default those that the policy lets go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpireRequest {
    /// All snapshots committed at this time or later are kept, and the one before it, where history then begins
    /// (milliseconds since 1970); in place of the policy's.
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
    let fence = gateway.fence();
    let job = job(gateway, table, &fence);
    let now_ms = gateway.live().warehouse().now_ms();
    let mut reports = Vec::new();
    for (side, asked) in sides(&job, &policy, &request, now_ms) {
        reports.push(expire::expire(job, side, &asked, request.dry_run).await?);
    }
    Ok(reports)
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
        // What can be read from then on still can be.
        daily_since_ms: Some(request.older_than_ms.unwrap_or(ago(policy.history))),
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
    let (uncovered, floor) = floor(gateway, dry_run).await?;
    let fence = gateway.fence();
    let mut reports = Vec::new();
    for Uncovered {
        table,
        covered,
        least,
    } in uncovered
    {
        if only.is_some_and(|only| only != table.as_ref()) {
            continue;
        }
        let request = DropRequest {
            covered,
            below: least.map_or(floor, |least| least.min(floor)),
            floor,
        };
        let job = job(gateway, table.as_ref(), &fence);
        reports.push(expire::drop_log(job, request, dry_run).await?);
    }
    Ok(reports)
}

/// What of a table some kept base does not cover.
struct Uncovered {
    table: TableName,
    /// All above this.
    covered: Seq,
    /// Its least stamp.
    least: Option<Hlc>,
}

/// Raises the floor as far as all tables of the gateway allow; a dry run tells how far.
async fn floor(gateway: &Arc<Gateway>, dry_run: DryRun) -> Result<(Vec<Uncovered>, Hlc)> {
    // No flush meanwhile: what is pushed then stays hot, where the writer looks at it.
    let work = move |gateway: Arc<Gateway>| async move {
        let views = gateway.live().views();
        let mut uncovered = Vec::new();
        for (table, view) in &views.tables {
            let covered = covered_by_all(&view.base.table);
            let covered = covered.map_err(lakesync_compactor::Error::from)?;
            uncovered.push(Uncovered {
                table: table.clone(),
                covered,
                least: expire::oldest_uncovered(view, covered).await?,
            });
        }
        let least = uncovered.iter().filter_map(|table| table.least).min();
        let floor = match dry_run {
            DryRun::Yes => gateway.window_floor(least).max(views.floor),
            DryRun::No => gateway.raise_floor_to_window(least, views.seq).await?,
        };
        Ok::<_, Error>((uncovered, floor))
    };
    gateway.maintain(work).await
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
    let fence = gateway.fence();
    Ok(expire::rollback(job(gateway, table, &fence), to).await?)
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
    let fence = gateway.fence();
    let tag = NewTag {
        name,
        snapshot,
        max_age_ms,
    };
    Ok(expire::create_tag(job(gateway, table, &fence), tag).await?)
}

/// Drops a tag of a table.
///
/// # Errors
/// As [`expire::drop_tag`].
pub async fn drop_tag(gateway: &Arc<Gateway>, table: &str, name: &str) -> Result<TagReport> {
    let fence = gateway.fence();
    Ok(expire::drop_tag(job(gateway, table, &fence), name).await?)
}

fn job<'a>(gateway: &'a Arc<Gateway>, table: &'a str, fence: &'a Fence) -> Job<'a> {
    Job {
        live: gateway.live(),
        table,
        fence: Some(fence),
    }
}
