//! Tags: names for snapshots, which keep them.
//!
//! **Invariant:** a name is one snapshot's, whichever side of the table it is of; those that expiry makes are its own.

use lakesync_providers::lake::{
    IcebergTable as Table, RefInfo, RefKind, SnapshotChange, TablePair, change_snapshots, refs,
};
use lakesync_providers::proto::TableName;

use super::plan::day_of;
use super::rollback::view_of;
use super::run::{Job, Side};
use crate::error::{Error, Result};

/// The longest name, in bytes: it is a key in every metadata file from then on.
const NAME_BYTES_MAX: usize = 128;

/// A tag that was made or dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagReport {
    /// The table.
    pub table: TableName,
    /// The tag.
    pub name: String,
    /// The side of the table.
    pub side: Side,
    /// Its snapshot.
    pub snapshot: i64,
}

/// A tag that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTag<'a> {
    /// Its name.
    pub name: &'a str,
    /// The snapshot, of base or log; without one what the base is now.
    pub snapshot: Option<i64>,
    /// How old the snapshot may become before expiry drops the tag, in milliseconds; without it the tag stays.
    pub max_age_ms: Option<i64>,
}

/// Makes a tag.
///
/// # Errors
/// [`Error::Tag`] with the reason; a lost commit.
pub async fn create_tag(job: Job<'_>, tag: NewTag<'_>) -> Result<TagReport> {
    let (pair, table) = load(job).await?;
    let refused = refusal(&table, tag.name);
    if tag.name.is_empty() || tag.name.len() > NAME_BYTES_MAX {
        return Err(refused(format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    if day_of(tag.name).is_some() {
        let text =
            "names of that form are those of the snapshots that expiry keeps; choose another";
        return Err(refused(text.to_owned()));
    }
    let current = pair.base.metadata().current_snapshot_id();
    let Some(snapshot) = tag.snapshot.or(current) else {
        let text =
            "the table has no base snapshot yet; flush and compact it first, or name a snapshot";
        return Err(refused(text.to_owned()));
    };
    let has = |side: &Table| side.metadata().snapshot_by_id(snapshot).is_some();
    let (side, of) = match (has(&pair.base), has(&pair.log)) {
        (true, _) => (Side::Base, &pair.base),
        (false, true) => (Side::Log, &pair.log),
        (false, false) => {
            let text = format!(
                "there is no snapshot {snapshot}; `select * from \"{table}$snapshots\"` lists those there are"
            );
            return Err(refused(text));
        }
    };
    for known in [refs(&pair.base)?, refs(&pair.log)?].concat() {
        if known.name == tag.name && known.snapshot_id != snapshot {
            let text = format!(
                "it names snapshot {} already; drop it first",
                known.snapshot_id
            );
            return Err(refused(text));
        }
    }
    let change = |_: &Table| {
        Ok(SnapshotChange {
            tag: vec![(tag.name.to_owned(), snapshot, tag.max_age_ms)],
            ..SnapshotChange::default()
        })
    };
    changed(job, (side, of), change).await?;
    Ok(TagReport {
        table: table.clone(),
        name: tag.name.to_owned(),
        side,
        snapshot,
    })
}

/// Drops a tag; its snapshot goes with a later expiry, if nothing else keeps it.
///
/// # Errors
/// [`Error::Tag`] when there is none of that name; a lost commit.
pub async fn drop_tag(job: Job<'_>, name: &str) -> Result<TagReport> {
    let (pair, table) = load(job).await?;
    let refused = refusal(&table, name);
    let find = |side: &Table| -> Result<Option<RefInfo>> {
        Ok(refs(side)?.into_iter().find(|known| known.name == name))
    };
    let (side, of, known) = match (find(&pair.base)?, find(&pair.log)?) {
        (Some(known), _) => (Side::Base, &pair.base, known),
        (None, Some(known)) => (Side::Log, &pair.log, known),
        (None, None) => {
            let text =
                format!("there is none; `select * from \"{table}$refs\"` lists those there are");
            return Err(refused(text));
        }
    };
    if known.kind != RefKind::Tag {
        return Err(refused(
            "it is a branch, which only the program that made it drops".to_owned(),
        ));
    }
    let change = |now: &Table| {
        let there = now.metadata().snapshot_for_ref(name).is_some();
        Ok(SnapshotChange {
            drop_refs: there.then(|| name.to_owned()).into_iter().collect(),
            ..SnapshotChange::default()
        })
    };
    changed(job, (side, of), change).await?;
    Ok(TagReport {
        table: table.clone(),
        name: name.to_owned(),
        side,
        snapshot: known.snapshot_id,
    })
}

async fn load(job: Job<'_>) -> Result<(TablePair, TableName)> {
    let live = job.live;
    let table = view_of(live, job.table)?.table().clone();
    Ok((live.warehouse().load(live.gateway(), &table).await?, table))
}

async fn changed<P>(job: Job<'_>, (side, of): (Side, &Table), plan: P) -> Result<()>
where
    P: Fn(&Table) -> Result<SnapshotChange, lakesync_providers::lake::LakeError> + Send + Sync,
{
    let live = job.live;
    let after = change_snapshots(live.warehouse(), of.identifier(), job.fence, plan).await?;
    let name = view_of(live, job.table)?.table().clone();
    match side {
        Side::Base => live.compacted(&name, after)?,
        Side::Log => live.flushed(&name, after)?,
    }
    Ok(())
}

fn refusal<'a>(table: &'a TableName, name: &'a str) -> impl Fn(String) -> Error + 'a {
    |reason| Error::Tag {
        table: table.clone(),
        name: name.to_owned(),
        reason,
    }
}
