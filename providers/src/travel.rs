//! Time travel: a view of a past moment, by snapshot.
//!
//! A snapshot id is one of the base or of the log and resolves to the seq that it covers; the view is the
//! newest base at or below that seq plus the log up to it.
//!
//! **Invariant:** a past view depends on what was accepted up to its seq only, so flushes, compactions
//! and later pushes do not change it.

use std::sync::Arc;

use iceberg::spec::SnapshotRef;
use iceberg::table::Table;
use lakesync_proto::Seq;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::hot_pushes::HotPush;
use crate::lake::summary;
use crate::log::read_log;
use crate::session::session;
use crate::view::{BaseSnapshot, LogSnapshot, ReadView};

const MARK: &str = "@version:";

/// A table name with the snapshot that a statement pinned it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The table's name.
    pub table: String,
    /// The snapshot id of base or log.
    pub snapshot: i64,
}

impl Pinned {
    /// The name under which the pinned table is planned, and which `EXPLAIN` shows. No table of ours can
    /// have such a name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}{MARK}{}", self.table, self.snapshot)
    }

    /// What [`Pinned::name`] was made of; `None` for every other name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (table, snapshot) = name.rsplit_once(MARK)?;
        if table.is_empty() || !snapshot.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            table: table.to_owned(),
            snapshot: snapshot.parse().ok()?,
        })
    }
}

/// The view of `now`'s table as of the snapshot with this id.
///
/// # Errors
/// [`Error::UnknownSnapshot`], [`Error::BelowHorizon`], or the lake's when files cannot be read.
pub(crate) async fn at_snapshot(now: &ReadView, snapshot: i64) -> Result<ReadView> {
    let base = &now.base.table;
    if base.metadata().snapshot_by_id(snapshot).is_some() {
        let base = BaseSnapshot::at(base.clone(), Some(snapshot))?;
        let seq = base.base_seq;
        return Ok(past(now, base, seq, Vec::new()));
    }
    let log = &now.log.table;
    if log.metadata().snapshot_by_id(snapshot).is_none() {
        return Err(Error::UnknownSnapshot {
            table: now.table().clone(),
            snapshot,
        });
    }
    let seq = LogSnapshot::at(log.clone(), Some(snapshot))?.max_seq;
    let base = base_at(now, seq)?.ok_or_else(|| Error::BelowHorizon {
        table: now.table().clone(),
        snapshot,
        horizon: oldest_seq(base).as_u64(),
    })?;
    let ctx = session(&now.warehouse);
    let span = (base.base_seq, seq);
    let deltas = read_log(&ctx, &now.warehouse, (&now.log, &now.schema), span).await?;
    let hot = Arc::new(HotPush {
        arrived_ms: 0,
        deltas,
    });
    Ok(past(now, base, seq, vec![hot]))
}

pub(crate) fn past(
    now: &ReadView,
    base: BaseSnapshot,
    seq: Seq,
    hot: Vec<Arc<HotPush>>,
) -> ReadView {
    ReadView {
        warehouse: now.warehouse.clone(),
        gateway: now.gateway.clone(),
        schema: Arc::clone(&now.schema),
        base: Arc::new(base),
        log: Arc::clone(&now.log),
        seq,
        hot: hot.into(),
        overlay: Arc::default(),
        resolved: OnceCell::new(),
    }
}

/// The newest base with `base seq <= seq`; the empty table before the first compaction; `None` when what
/// was there has been expired.
pub(crate) fn base_at(now: &ReadView, seq: Seq) -> Result<Option<BaseSnapshot>> {
    let table = &now.base.table;
    let mut newest: Option<BaseSnapshot> = None;
    let mut from_the_start = true;
    for snapshot in oldest_first(table) {
        if newest.is_none() && snapshot.parent_snapshot_id().is_some() {
            from_the_start = false;
        }
        let base = BaseSnapshot::at(table.clone(), Some(snapshot.snapshot_id()))?;
        if base.base_seq > seq {
            break;
        }
        newest = Some(base);
    }
    match newest {
        Some(base) => Ok(Some(base)),
        None if from_the_start => Ok(Some(BaseSnapshot::at(table.clone(), None)?)),
        None => Ok(None),
    }
}

fn oldest_seq(table: &Table) -> Seq {
    oldest_first(table)
        .first()
        .and_then(|snapshot| {
            summary::watermarks(table, Some(snapshot.snapshot_id()))
                .ok()?
                .base_seq
        })
        .unwrap_or(Seq::ZERO)
}

/// The snapshots that can be read; what another program did and took back is still listed in the metadata.
fn oldest_first(table: &Table) -> Vec<&SnapshotRef> {
    let readable = |snapshot: &&SnapshotRef| {
        summary::foreign(table, Some(snapshot.snapshot_id())).is_ok_and(|found| found.is_none())
    };
    let mut snapshots: Vec<_> = table.metadata().snapshots().filter(readable).collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    snapshots
}

#[cfg(test)]
mod tests {
    use super::Pinned;

    #[test]
    fn a_pinned_name_gives_back_its_parts_and_no_other_name_is_pinned() {
        let pinned = Pinned {
            table: "t".to_owned(),
            snapshot: 7,
        };
        assert_eq!(Pinned::parse(&pinned.name()), Some(pinned));
        assert_eq!(Pinned::parse("t@version:x"), None);
    }
}
