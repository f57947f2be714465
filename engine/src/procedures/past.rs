//! The procedures about a table's past: expiry, tags, rollback, orphans.
//!
//! **Invariant:** none changes a row; what is kept is kept by the settings of the lake, but for what the call says itself.

use std::time::Duration;

use lakesync_compactor::expire::{DryRun, ExpireReport, ExpiryPolicy, RollbackTo};
use lakesync_compactor::{Act, OrphanOptions};
use lakesync_providers::lake::DeletedCounts;

use super::Asked;
use super::answer::{Cell, Rows, long, text};
use crate::error::Result;
use crate::expiry::{self, ExpireRequest};
use crate::maintenance::Counted as _;
use crate::maintenance::run::{self, Place};
use crate::syntax::When;

pub(super) async fn expire_snapshots(asked: Asked<'_>) -> Result<Rows> {
    let place = asked.table()?;
    let ids = asked.arguments.longs("snapshot_ids")?.unwrap_or_default();
    let request = ExpireRequest {
        older_than_ms: asked.moment("older_than")?,
        retain_last: asked.retain_last()?,
        snapshot_ids: ids.into_iter().collect(),
        dry_run: asked.dry_run()?,
    };
    let policy = asked.target.lake.maintenance().expiry;
    let reports = run::expire(&place, policy, request).await?;
    Ok(vec![expired(&reports)])
}

fn expired(reports: &[ExpireReport]) -> Vec<Cell> {
    let deleted = reports.iter().map(|report| report.deleted);
    let deleted = deleted.fold(DeletedCounts::default(), DeletedCounts::plus);
    let snapshots: usize = reports.iter().map(|report| report.expired.len()).sum();
    vec![
        long(deleted.data_files),
        long(deleted.position_delete_files),
        long(deleted.equality_delete_files),
        long(deleted.manifest_files),
        long(deleted.manifest_lists),
        long(deleted.statistics_files),
        long(snapshots),
    ]
}

pub(super) async fn drop_log(asked: Asked<'_>) -> Result<Rows> {
    let dry_run = asked.dry_run()?;
    let mut rows = Rows::new();
    for place in asked.tables()? {
        for report in run::drop_log(&place, dry_run).await? {
            rows.push(vec![
                text(&report.table),
                long(report.deltas),
                long(report.files_removed),
                long(report.files_rewritten),
                long(report.dropped_seq.as_i64()),
                long(report.floor.as_i64()),
            ]);
        }
    }
    Ok(rows)
}

pub(super) async fn remove_orphan_files(asked: Asked<'_>) -> Result<Rows> {
    let place = asked.table()?;
    let now_ms = place.lake.clock().now_ms();
    let older_than_ms = match asked.arguments.when("older_than")? {
        Some(When::At(at_ms)) => u64::try_from(at_ms).unwrap_or(0),
        Some(When::Ago(ago_ms)) => now_ms.saturating_sub(ago_ms),
        None => now_ms.saturating_sub(millis(place.lake.maintenance().orphan_grace)),
    };
    let options = OrphanOptions {
        older_than_ms: Some(older_than_ms),
        location: asked.arguments.string("location")?.map(str::to_owned),
        act: match asked.is_dry()? {
            true => Act::Tell,
            false => Act::Do,
        },
    };
    let report = run::remove_orphans(&place, options).await?;
    Ok(report
        .locations
        .iter()
        .map(|location| vec![text(location)])
        .collect())
}

/// Expiry, dropping and orphans, one after another: a history of `retain_hours`, or as it is configured.
pub(super) async fn vacuum(asked: Asked<'_>) -> Result<Rows> {
    let policy = asked.retained()?;
    let (dry_run, is_dry) = (asked.dry_run()?, asked.is_dry()?);
    let mut rows = Rows::new();
    for place in asked.tables()? {
        let request = ExpireRequest {
            dry_run,
            ..ExpireRequest::default()
        };
        let expired = run::expire(&place, policy, request).await;
        rows.push(row(
            &place,
            "expire_snapshots",
            is_dry,
            expired.map(|done| done.did()),
        ));
        let dropped = run::drop_log(&place, dry_run).await;
        rows.push(row(
            &place,
            "drop_log",
            is_dry,
            dropped.map(|done| done.did()),
        ));
        let grace_ms = millis(place.lake.maintenance().orphan_grace);
        let options = OrphanOptions {
            older_than_ms: Some(place.lake.clock().now_ms().saturating_sub(grace_ms)),
            act: if is_dry { Act::Tell } else { Act::Do },
            ..OrphanOptions::default()
        };
        let removed = run::remove_orphans(&place, options).await;
        rows.push(row(
            &place,
            "remove_orphan_files",
            is_dry,
            removed.map(|done| done.did()),
        ));
    }
    Ok(rows)
}

fn row(place: &Place, job: &str, is_dry: bool, done: Result<lakesync_gateway::Did>) -> Vec<Cell> {
    let (status, did) = match done {
        Ok(did) if is_dry => ("planned".to_owned(), did),
        Ok(did) => ("done".to_owned(), did),
        Err(error) => (format!("failed: {error}"), lakesync_gateway::Did::default()),
    };
    let (rows, bytes, files) = (long(did.rows), long(did.bytes), long(did.files));
    vec![
        text(&place.table),
        text(job),
        text("asked for"),
        text(status),
        rows,
        bytes,
        files,
    ]
}

pub(super) async fn rollback_to_snapshot(asked: Asked<'_>) -> Result<Rows> {
    let snapshot = asked.given("snapshot_id")?;
    rollback(&asked, RollbackTo::Snapshot(snapshot)).await
}

pub(super) async fn rollback_to_timestamp(asked: Asked<'_>) -> Result<Rows> {
    let before = asked
        .moment("timestamp")?
        .ok_or_else(|| asked.null("timestamp"))?;
    rollback(&asked, RollbackTo::Before(before)).await
}

async fn rollback(asked: &Asked<'_>, to: RollbackTo) -> Result<Rows> {
    let place = asked.table()?;
    let work = move |place: Place| async move {
        expiry::rollback(&place.gateway, place.table.as_ref(), to).await
    };
    let report = place.alone(work).await?;
    let previous = report.previous.map_or(Cell::Null, Cell::Long);
    Ok(vec![vec![previous, long(report.current)]])
}

pub(super) async fn create_tag(asked: Asked<'_>) -> Result<Rows> {
    let (place, tag) = (asked.table()?, asked.name("tag")?);
    let snapshot = asked.arguments.long("snapshot_id")?;
    let retain = match asked.arguments.when("retain")? {
        None => None,
        Some(When::Ago(ms)) => Some(i64::try_from(ms).unwrap_or(i64::MAX)),
        Some(When::At(_)) => {
            let next = "give how long the tag stays, like INTERVAL '30 days'";
            return Err(asked
                .arguments
                .refused("retain", "retain is a moment", next)
                .into());
        }
    };
    let work = move |place: Place| async move {
        let table = place.table.as_ref();
        expiry::create_tag(&place.gateway, table, &tag, (snapshot, retain)).await
    };
    let made = place.alone(work).await?;
    Ok(vec![vec![
        text(&made.table),
        text(made.name),
        text(made.side.name()),
        long(made.snapshot),
    ]])
}

pub(super) async fn drop_tag(asked: Asked<'_>) -> Result<Rows> {
    let (place, tag) = (asked.table()?, asked.name("tag")?);
    let work = move |place: Place| async move {
        expiry::drop_tag(&place.gateway, place.table.as_ref(), &tag).await
    };
    let gone = place.alone(work).await?;
    Ok(vec![vec![
        text(&gone.table),
        text(gone.name),
        text(gone.side.name()),
        long(gone.snapshot),
    ]])
}

pub(super) async fn compact_log(asked: Asked<'_>) -> Result<Rows> {
    let done = run::compact_log(asked.target.lake, asked.target.gateway).await?;
    Ok(vec![vec![
        long(done.pushes),
        long(done.push_bytes),
        long(done.clients),
        long(done.bytes_before),
        long(done.bytes_after),
    ]])
}

impl Asked<'_> {
    fn dry_run(&self) -> Result<DryRun> {
        Ok(match self.is_dry()? {
            true => DryRun::Yes,
            false => DryRun::No,
        })
    }

    /// A moment in milliseconds since 1970.
    fn moment(&self, parameter: &str) -> Result<Option<i64>> {
        let now_ms = i64::try_from(self.target.lake.clock().now_ms()).unwrap_or(i64::MAX);
        Ok(self.arguments.when(parameter)?.map(|when| match when {
            When::At(at_ms) => at_ms,
            When::Ago(ago_ms) => now_ms.saturating_sub(i64::try_from(ago_ms).unwrap_or(i64::MAX)),
        }))
    }

    fn retain_last(&self) -> Result<Option<usize>> {
        let Some(number) = self.arguments.long("retain_last")? else {
            return Ok(None);
        };
        let number = usize::try_from(number).map_err(|_| {
            self.arguments
                .refused("retain_last", "retain_last is negative", "give 0 or more")
        })?;
        Ok(Some(number))
    }

    /// The policy of the lake, or one whose history is what the call says.
    fn retained(&self) -> Result<ExpiryPolicy> {
        let policy = self.target.lake.maintenance().expiry;
        let Some(hours) = self.arguments.long("retain_hours")? else {
            return Ok(policy);
        };
        let seconds = u64::try_from(hours)
            .ok()
            .and_then(|hours| hours.checked_mul(3_600));
        let history = Duration::from_secs(seconds.ok_or_else(|| {
            let next = "give a number of hours, 0 or more";
            self.arguments
                .refused("retain_hours", "retain_hours is out of range", next)
        })?);
        Ok(ExpiryPolicy {
            history,
            base_all: policy.base_all.min(history),
            log_all: policy.log_all.min(history),
            ..policy
        })
    }

    fn given(&self, parameter: &'static str) -> Result<i64> {
        let number = self.arguments.long(parameter)?;
        Ok(number.ok_or_else(|| self.null(parameter))?)
    }

    fn name(&self, parameter: &'static str) -> Result<String> {
        let name = self.arguments.string(parameter)?;
        Ok(name.ok_or_else(|| self.null(parameter))?.to_owned())
    }

    fn null(&self, parameter: &'static str) -> crate::syntax::SyntaxError {
        let message = format!("{parameter} is NULL");
        self.arguments
            .refused(parameter, message, "it has no default; give a value")
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
