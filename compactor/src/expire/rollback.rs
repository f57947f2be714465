//! Rolling back: the base becomes an older snapshot of ours, and no answer changes.
//!
//! ```text
//!   before   base ■ covers seq 1 ……………………… 90   hot 91 …
//!   after    base ■ covers seq 1 …… 40  │ hot 41 ……… 90, from the log, and 91 …
//! ```
//! What was pushed is in the log, and clients have it: a table cannot go back in time for some of its readers. So this is
//! for a base whose files are wrong, or that another program has changed: other Iceberg readers see the older snapshot, and
//! the next fold brings it up to date again. The log itself goes back only over what another program did to it.
//!
//! **Crash window.** After the commit, before it is published: the next open reads the log above the older base seq, which
//! is the same.
//!
//! **Invariant:** the rows of the table at any seq are the same before and after.

use std::sync::Arc;

use datafusion::prelude::{col, lit};
use lakesync_providers::lake::{
    IcebergTable as Table, SnapshotChange, SnapshotInfo, TablePair, change_snapshots, snapshots,
};
use lakesync_providers::proto::{Seq, SeqDelta, TableName, columns};
use lakesync_providers::{Live, ReadView, crash, read_log, session};

use super::run::{Job, Side};
use crate::error::{Error, Result};

/// How many deltas a rollback brings back into memory at most (2,000,000: about what a gateway with the default limits has
/// room for). A fold from further back needs an older base that is restored by hand.
const RELOADED_MAX: usize = 2_000_000;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackTo {
    /// This snapshot.
    Snapshot(i64),
    /// The newest base snapshot that was committed before this time, in milliseconds since 1970.
    Before(i64),
}

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackReport {
    /// The table.
    pub table: TableName,
    /// Which side of it.
    pub side: Side,
    /// The snapshot before.
    pub previous: Option<i64>,
    /// The snapshot now.
    pub current: i64,
    /// What the table's base covered before, and covers now.
    pub base_seq: (Seq, Seq),
    /// How many deltas are hot again.
    pub reloaded: u64,
}

/// Rolls a table back.
///
/// # Errors
/// [`Error::CannotRollBack`] with the reason; a lost commit, after which nothing has changed.
///
/// # Cancel safety
/// Run it where it is not dropped: a rollback that was not published is found by the next open only.
pub async fn rollback(job: Job<'_>, to: RollbackTo) -> Result<RollbackReport> {
    let live = job.live;
    let view = view_of(live, job.table)?;
    let warehouse = live.warehouse();
    let pair = warehouse.load(live.gateway(), view.table()).await?;
    let (side, target) = target(&view, &pair, to)?;
    match side {
        Side::Base => roll_base(job, &view, &pair, target).await,
        Side::Log => roll_log(job, &view, &pair, target).await,
    }
}

async fn roll_base(
    job: Job<'_>,
    view: &ReadView,
    pair: &TablePair,
    target: SnapshotInfo,
) -> Result<RollbackReport> {
    let live = job.live;
    let base_seq = target.marks.base_seq.unwrap_or(Seq::ZERO);
    let deltas = match base_seq < view.base.base_seq {
        true => between(view, (base_seq, view.base.base_seq), target.id).await?,
        false => Vec::new(),
    };
    let report = RollbackReport {
        table: view.table().clone(),
        side: Side::Base,
        previous: pair.base.metadata().current_snapshot_id(),
        current: target.id,
        base_seq: (view.base.base_seq, base_seq),
        reloaded: u64::try_from(deltas.len()).unwrap_or(u64::MAX),
    };
    let base = set_main(job, &pair.base, target.id).await?;
    crash::point("rollback.after_commit");
    live.rolled_back(view.table(), base, deltas)?;
    Ok(report)
}

async fn roll_log(
    job: Job<'_>,
    view: &ReadView,
    pair: &TablePair,
    target: SnapshotInfo,
) -> Result<RollbackReport> {
    let report = RollbackReport {
        table: view.table().clone(),
        side: Side::Log,
        previous: pair.log.metadata().current_snapshot_id(),
        current: target.id,
        base_seq: (view.base.base_seq, view.base.base_seq),
        reloaded: 0,
    };
    let log = set_main(job, &pair.log, target.id).await?;
    job.live.flushed(view.table(), log)?;
    Ok(report)
}

async fn set_main(job: Job<'_>, table: &Table, id: i64) -> Result<Table> {
    let change = |_: &Table| {
        Ok(SnapshotChange {
            main: Some(id),
            ..SnapshotChange::default()
        })
    };
    let warehouse = job.live.warehouse();
    Ok(change_snapshots(warehouse, table.identifier(), job.fence, change).await?)
}

/// The snapshot that is meant, and of which side; it can be rolled back to.
fn target(view: &ReadView, pair: &TablePair, to: RollbackTo) -> Result<(Side, SnapshotInfo)> {
    let refused = |reason: &str| Error::CannotRollBack {
        table: view.table().clone(),
        to: match to {
            RollbackTo::Snapshot(id) => format!("snapshot {id}"),
            RollbackTo::Before(ms) => format!("a snapshot before {ms} ms since 1970"),
        },
        reason: reason.to_owned(),
    };
    let of_base = snapshots(&pair.base)?;
    let id = match to {
        RollbackTo::Snapshot(id) => id,
        RollbackTo::Before(ms) => {
            let before = of_base.iter().rev();
            let mut before = before.filter(|known| known.is_readable() && known.time_ms < ms);
            let text = "there is none that can be read; `t$snapshots` lists those there are";
            before.next().ok_or_else(|| refused(text))?.id
        }
    };
    if let Some(found) = of_base.into_iter().find(|known| known.id == id) {
        if !found.is_readable() {
            return Err(refused(
                "another program made it, and nobody knows which deltas are in it; name one that `t$snapshots` shows with a seq",
            ));
        }
        let base_seq = found.marks.base_seq.unwrap_or(Seq::ZERO);
        if base_seq < view.log.dropped_seq {
            return Err(refused(
                "the log no longer has all deltas above it; name a newer snapshot",
            ));
        }
        if base_seq > view.log.max_seq {
            return Err(refused(
                "it covers more than the log has, so it is of another log",
            ));
        }
        return Ok((Side::Base, found));
    }
    let mut of_log = snapshots(&pair.log)?.into_iter();
    let Some(found) = of_log.find(|known| known.id == id) else {
        return Err(refused(
            "there is no such snapshot; `t$snapshots` lists those there are",
        ));
    };
    let newest = view.log.snapshot_id == Some(id) && view.log.foreign.is_none();
    match newest && found.is_readable() {
        true => Ok((Side::Log, found)),
        false => Err(refused(
            "it is one of the log, which goes back only to the newest snapshot of this program, over what another program did: \
             its deltas were acknowledged, and clients have them. Roll the base back by a snapshot of kind `base`",
        )),
    }
}

/// The flushed deltas between two seqs.
async fn between(
    view: &ReadView,
    (from, to): (Seq, Seq),
    target: i64,
) -> Result<Vec<Arc<SeqDelta>>> {
    let ctx = session(&view.warehouse);
    let log = ctx.read_table(Arc::new(view.log.scan(&view.warehouse).await?))?;
    let above = col(columns::SEQ).gt(lit(from.as_i64()));
    let within = above.and(col(columns::SEQ).lt_eq(lit(to.as_i64())));
    let count = log.filter(within)?.count().await?;
    if count > RELOADED_MAX {
        return Err(Error::CannotRollBack {
            table: view.table().clone(),
            to: format!("snapshot {target}"),
            reason: format!(
                "{count} deltas would have to be held in memory, and {RELOADED_MAX} may be; name a newer snapshot"
            ),
        });
    }
    let log = (&*view.log, &*view.schema);
    Ok(read_log(&ctx, &view.warehouse, log, (from, to)).await?)
}

/// The view of a table as it is published.
pub(super) fn view_of(live: &Live, table: &str) -> Result<Arc<ReadView>> {
    live.view(table).ok_or_else(|| Error::UnknownTable {
        gateway: live.gateway().to_string(),
        table: table.to_owned(),
    })
}
