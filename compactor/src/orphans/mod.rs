//! ★ Orphans: files in a table's folders that nothing refers to, and removing them.
//!
//! Steps: list what is there → wait for the jobs that were writing then → read what every table that may reach into these
//! folders reaches, of all its snapshots → list again, and delete what was there before, is old, and is not reached.
//!
//! The order is the point. A file that is listed first and reached later was committed in between: it stays. Read the
//! metadata first, and such a file would be taken for an orphan.
//!
//! **Invariant**: a file is deleted only when it was there before the metadata was read, is older than the grace period
//! by the store's clock, lies in a folder of this table and of no other, and no snapshot of any table has it.
//!
//! **Crash windows.** Before and between deletions: the files that are left are orphans still; the next run takes them.

mod candidates;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures::TryStreamExt as _;
use lakesync_providers::lake::{StoredObject, Warehouse, is_below, reachable_files};
use lakesync_providers::{Live, crash};

use crate::error::{Error, Result};
use candidates::Candidates;

/// How old a file has to be by default (3 days): longer than any job of any writer takes from its first file to its commit.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The shortest that may be asked for (24 h): another program's write of today is not told from an orphan.
pub const ORPHAN_GRACE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Orphans that one run removes, or names (a million, of about 200 bytes each in the answer); the next takes more.
const ORPHANS_MAX: usize = 1_000_000;

/// Deletions between two looks at how it goes.
const DELETED_AT_ONCE: usize = 1_000;

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanOptions {
    /// Only files that were written before this moment, in milliseconds since 1970; [`ORPHAN_GRACE`] ago by default.
    pub older_than_ms: Option<u64>,
    /// Only below this folder: a URI in one of the table's folders.
    pub location: Option<String>,
    /// Whether they are named or removed.
    pub act: Act,
}

/// Whether something is done or only told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// It is done.
    #[default]
    Do,
    /// It is told.
    Tell,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanReport {
    /// The orphans, by URI, sorted.
    pub locations: Vec<String>,
    /// Their size.
    pub bytes: u64,
    /// How many files were looked at.
    pub listed: u64,
}

/// Removes the orphans of a table: those of its base and of its log. `settled` is done once every job is that was writing
/// files of the table when it is first polled: its files are committed by then, or are orphans.
///
/// # Errors
/// [`Error::Refused`] for a grace period that is too short or a folder outside the table; lake errors when something
/// cannot be listed or read, and then nothing is removed; [`Error::LeftBehind`] when the store refused some deletions.
///
/// # Cancel safety
/// What was deleted until then is gone; a later run takes the rest.
pub async fn remove_orphan_files(
    live: &Live,
    table: &str,
    options: &OrphanOptions,
    settled: impl Future<Output = ()>,
) -> Result<OrphanReport> {
    let warehouse = live.warehouse();
    let older_than_ms = older_than(warehouse.now_ms(), options)?;
    let own = folders(live, table).await?;
    let folders = narrowed(table, &own, options)?;

    let mut candidates = Candidates::default();
    for folder in &folders {
        let mut objects = warehouse.objects(folder).await?;
        while let Some(object) = objects.try_next().await? {
            candidates.list(table, folder, &object, older_than_ms)?;
        }
    }
    crash::point("orphans.after_list");
    settled.await;
    let others = keep_reachable(warehouse, &own, &folders, &mut candidates).await?;

    let mut report = OrphanReport {
        listed: candidates.listed(),
        ..OrphanReport::default()
    };
    for folder in &folders {
        let mut objects = warehouse.objects(folder).await?;
        while let Some(object) = objects.try_next().await? {
            let is_others = others.iter().any(|other| is_below(&object.uri, other));
            if !is_others && candidates.is_orphan(folder, &object, older_than_ms) {
                report.take(object);
            }
            if report.locations.len() == ORPHANS_MAX {
                break;
            }
        }
    }
    report.locations.sort_unstable();
    report.locations.dedup();
    if options.act == Act::Do {
        delete(warehouse, table, &report.locations).await?;
    }
    Ok(report)
}

impl OrphanReport {
    fn take(&mut self, object: StoredObject) {
        self.bytes += object.bytes;
        self.locations.push(object.uri);
    }
}

/// Files written before this moment are old enough.
fn older_than(now_ms: u64, options: &OrphanOptions) -> Result<u64> {
    let ago =
        |time: Duration| now_ms.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let older_than_ms = options.older_than_ms.unwrap_or_else(|| ago(ORPHAN_GRACE));
    if older_than_ms > ago(ORPHAN_GRACE_MIN) && options.act == Act::Do {
        return Err(Error::Refused(
            "older_than is less than 24 hours ago: a file that another program is writing now would be taken for an \
             orphan. Give an earlier moment, or dry_run => true to see what there is"
                .to_owned(),
        ));
    }
    Ok(older_than_ms)
}

/// The folders of a table: of its base and of its log.
async fn folders(live: &Live, table: &str) -> Result<Vec<String>> {
    let view = live.view(table).ok_or_else(|| Error::UnknownTable {
        gateway: live.gateway().to_string(),
        table: table.to_owned(),
    })?;
    let pair = live.warehouse().load(live.gateway(), view.table()).await?;
    let locations = [pair.base, pair.log].map(|table| table.metadata().location().to_owned());
    Ok(locations.into())
}

/// The folders to look in.
fn narrowed(table: &str, own: &[String], options: &OrphanOptions) -> Result<Vec<String>> {
    let Some(wanted) = &options.location else {
        return Ok(own.to_vec());
    };
    let escapes = wanted.split('/').any(|part| part == "." || part == "..");
    if escapes || !own.iter().any(|folder| is_below(wanted, folder)) {
        return Err(Error::Refused(format!(
            "the location {wanted} is outside table `{table}`, whose files are below {}",
            own.join(" and ")
        )));
    }
    Ok(vec![wanted.clone()])
}

/// Takes everything out of the candidates that some table reaches; gives the folders of other tables inside ours, in which
/// nothing is an orphan of this table.
async fn keep_reachable(
    warehouse: &Warehouse,
    own: &[String],
    folders: &[String],
    candidates: &mut Candidates,
) -> Result<BTreeSet<String>> {
    let mut others = BTreeSet::new();
    for table in warehouse.tables_that_may_reach(folders).await? {
        let location = table.metadata().location();
        if !own.iter().any(|own| own == location) && own.iter().any(|own| is_below(location, own)) {
            others.insert(location.to_owned());
        }
        let mut keep = |uri: &str| candidates.keep(&warehouse.object_name(uri));
        reachable_files(&table, &mut keep).await?;
    }
    Ok(others)
}

async fn delete(warehouse: &Warehouse, table: &str, orphans: &[String]) -> Result<()> {
    let mut left = 0;
    let mut first = None;
    for some in orphans.chunks(DELETED_AT_ONCE) {
        let failed = warehouse.delete_objects(some.to_vec()).await;
        left += failed.count;
        first = first.or(failed.first);
        crash::point("orphans.after_delete");
    }
    match first {
        None => Ok(()),
        Some((file, reason)) => Err(Error::LeftBehind {
            table: table.to_owned(),
            count: left,
            file,
            reason,
        }),
    }
}
