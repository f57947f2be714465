//! ★ Running an expiry: the metadata first, then the files.
//!
//! Steps: load the table → plan → retire what goes, so that nobody begins to read it → commit refs and snapshots at once →
//! publish → delete the files that only those snapshots reach.
//!
//! **Crash windows.** Before the commit: nothing happened. After it: the files are orphans, which orphan removal takes.

use std::collections::BTreeSet;

use lakesync_providers::lake::{
    DeletedCounts, Fence, IcebergTable as Table, LakeError, SnapshotChange, TablePair, Unreachable,
    change_snapshots, refs, snapshots,
};
use lakesync_providers::proto::TableName;
use lakesync_providers::{Live, crash, forget_views, pins};

use super::plan::{Asked, Expiry, Refused, plan};
use crate::error::{Error, Result};

/// The Iceberg table of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The merged rows.
    Base,
    /// The flushed deltas.
    Log,
}

impl Side {
    /// Its name in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Log => "log",
        }
    }

    fn of(self, pair: &TablePair) -> &Table {
        match self {
            Self::Base => &pair.base,
            Self::Log => &pair.log,
        }
    }
}

/// What an expiry works on.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The tables of the gateway.
    pub live: &'a Live,
    /// The table.
    pub table: &'a str,
    /// What its commits require.
    pub fence: Option<&'a Fence>,
}

/// What one expiry did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireReport {
    /// The table.
    pub table: TableName,
    /// Which side of it.
    pub side: Side,
    /// The snapshots that are gone, oldest first.
    pub expired: Vec<i64>,
    /// The tags that were made.
    pub tagged: Vec<String>,
    /// The tags and branches that are gone.
    pub dropped_refs: Vec<String>,
    /// Snapshots that would have gone, and that somebody reads.
    pub read: Vec<i64>,
    /// The files that are gone.
    pub deleted: DeletedCounts,
}

/// Expires snapshots of one side of a table; a dry run tells what would go.
///
/// # Errors
/// Unknown table; a snapshot asked for by id that has to stay; a lost commit, after which nothing is gone; a manifest that
/// cannot be read, after which the snapshots are gone and their files are orphans.
///
/// # Cancel safety
/// Run it where it is not dropped: snapshots whose files were not deleted yet leave orphans.
pub async fn expire(
    job: Job<'_>,
    side: Side,
    asked: &Asked,
    dry_run: DryRun,
) -> Result<ExpireReport> {
    let live = job.live;
    let view = super::rollback::view_of(live, job.table)?;
    let (warehouse, name) = (live.warehouse(), view.table().clone());
    let pair = warehouse.load(live.gateway(), &name).await?;
    let before = side.of(&pair).clone();
    let uuid = before.metadata().uuid();
    forget_views(uuid);
    let now_ms = warehouse.now_ms();
    let planned = planned(&before, &pins::pinned(uuid, now_ms), asked, now_ms)?;
    let mut report = ExpireReport {
        table: name.clone(),
        side,
        expired: planned.expire.clone(),
        tagged: planned.tag.iter().map(|(name, _)| name.clone()).collect(),
        dropped_refs: planned.drop_refs.clone(),
        read: planned.read.clone(),
        deleted: DeletedCounts::default(),
    };
    if dry_run == DryRun::Yes {
        let going = planned.expire.into_iter().collect();
        report.deleted = Unreachable::of(&before, &going, &before).await?.counts();
        return Ok(report);
    }
    let retired = pins::retire(uuid, &planned.expire, now_ms);
    let committed = commit(job, &before, &retired, asked).await;
    let after = match committed {
        Ok(after) => after,
        Err(error) => {
            // Whether it took effect or not: a snapshot that is still there may be read.
            pins::readmit(uuid, &retired);
            return Err(error);
        }
    };
    crash::point("expire.after_commit");
    let gone = |id: &i64| after.metadata().snapshot_by_id(*id).is_none();
    let (gone, stay): (BTreeSet<i64>, BTreeSet<i64>) = retired.iter().partition(|id| gone(id));
    pins::readmit(uuid, &stay);
    // Only this side: a flush may have published the other one since.
    match side {
        Side::Base => live.compacted(&name, after.clone())?,
        Side::Log => live.flushed(&name, after.clone())?,
    }
    let unreachable = Unreachable::of(&before, &gone, &after).await?;
    report.expired.retain(|id| gone.contains(id));
    crash::point("expire.before_delete");
    report.deleted = unreachable.delete(warehouse).await;
    Ok(report)
}

/// Whether to do it, or only to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// Do it.
    #[default]
    No,
    /// Tell.
    Yes,
}

/// One commit for all of it, planned on the table as it then is; of snapshots nothing goes that was not retired.
async fn commit(
    job: Job<'_>,
    before: &Table,
    retired: &BTreeSet<i64>,
    asked: &Asked,
) -> Result<Table> {
    let warehouse = job.live.warehouse();
    let now_ms = warehouse.now_ms();
    let change = |table: &Table| {
        let uuid = table.metadata().uuid();
        let read = pins::pinned(uuid, now_ms);
        let again = match asked {
            Asked::Older { .. } => asked.clone(),
            // Those that are gone already were asked for too.
            Asked::These(ids) => Asked::These(
                ids.iter()
                    .copied()
                    .filter(|id| table.metadata().snapshot_by_id(*id).is_some())
                    .collect(),
            ),
        };
        let planned = planned(table, &read, &again, now_ms).map_err(|error| match error {
            Error::Lake(error) => error,
            other => LakeError::Invalid {
                table: table.identifier().to_string(),
                reason: other.to_string(),
            },
        })?;
        let mut remove = planned.expire;
        remove.retain(|id| retired.contains(id));
        let tag = planned.tag.into_iter();
        Ok(SnapshotChange {
            remove,
            tag: tag.map(|(name, id)| (name, id, None)).collect(),
            drop_refs: planned.drop_refs,
            main: None,
        })
    };
    let changed = change_snapshots(warehouse, before.identifier(), job.fence, change);
    Ok(changed.await?)
}

fn planned(table: &Table, read: &BTreeSet<i64>, asked: &Asked, now_ms: u64) -> Result<Expiry> {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let planned = plan(&snapshots(table)?, &refs(table)?, read, asked, now_ms);
    planned.map_err(|Refused { snapshot, reason }| Error::CannotExpire {
        table: table.identifier().to_string(),
        snapshot,
        reason,
    })
}
