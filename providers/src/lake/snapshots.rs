//! The snapshots and refs of a table as plain data, and changes of which of them there are.
//!
//! **Invariant**: a snapshot that a ref names is never removed, whoever made the ref, and however late: the catalog
//! refuses such a change as a conflict, and it is planned anew.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention, TableMetadata};
use iceberg::table::Table;
use iceberg::{TableIdent, TableUpdate};
use serde::Deserialize;

use super::catalog::Fence;
use super::commit::change_table;
use super::error::LakeError;
use super::files::find_snapshot;
use super::summary::{self, Watermarks};
use super::warehouse::Warehouse;

/// One snapshot of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: i64,
    /// The snapshot that it was made on.
    pub parent: Option<i64>,
    /// Its place in the order of commits.
    pub sequence_number: i64,
    /// When it was committed, in milliseconds since 1970.
    pub time_ms: i64,
    /// Who made it.
    pub made_by: MadeBy,
    /// What it covers; nothing when its rows cannot be read.
    pub marks: Watermarks,
}

/// Who made a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeBy {
    /// This program.
    Us,
    /// Another one, with the rows of its parent: what it covers is what the parent does.
    OthersSameRows,
    /// Another one, with rows that are not ours: it cannot be read.
    Others,
}

impl SnapshotInfo {
    /// Whether its rows can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.made_by != MadeBy::Others
    }
}

/// A branch or tag of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefInfo {
    /// Its name.
    pub name: String,
    /// Where it points.
    pub snapshot_id: i64,
    /// What it keeps.
    pub kind: RefKind,
    /// How old its snapshot may be before the ref itself may go, in milliseconds; none: it stays.
    pub max_age_ms: Option<i64>,
}

/// What a ref keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind {
    /// Its snapshot.
    Tag,
    /// Its snapshot and some of those before it.
    Branch {
        /// So many of them, at least.
        min_snapshots: Option<i32>,
        /// Those no older than this, in milliseconds.
        max_snapshot_age_ms: Option<i64>,
    },
}

impl RefInfo {
    /// Whether it is the branch that is the table.
    #[must_use]
    pub fn is_main(&self) -> bool {
        self.name == MAIN_BRANCH
    }
}

/// The snapshots of a table, in the order of their commits.
///
/// # Errors
/// `Corrupt` when a watermark cannot be read.
pub fn snapshots(table: &Table) -> Result<Vec<SnapshotInfo>, LakeError> {
    let mut found = Vec::new();
    for snapshot in table.metadata().snapshots() {
        let id = snapshot.snapshot_id();
        let lineage = summary::lineage(table, id)?;
        let made_by = match (&lineage.foreign, lineage.ours) {
            (Some(_), _) | (None, None) => MadeBy::Others,
            (None, Some(ours)) if ours.snapshot_id() == id => MadeBy::Us,
            (None, Some(_)) => MadeBy::OthersSameRows,
        };
        found.push(SnapshotInfo {
            id,
            parent: snapshot.parent_snapshot_id(),
            sequence_number: snapshot.sequence_number(),
            time_ms: snapshot.timestamp_ms(),
            made_by,
            marks: summary::watermarks(table, Some(id))?,
        });
    }
    found.sort_by_key(|snapshot| (snapshot.sequence_number, snapshot.id));
    Ok(found)
}

/// The refs of a table, by name.
///
/// # Errors
/// `Corrupt` when they have no readable form.
pub fn refs(table: &Table) -> Result<Vec<RefInfo>, LakeError> {
    let known = references(table.metadata()).map_err(|error| LakeError::Corrupt {
        table: table.identifier().to_string(),
        reason: format!("its refs: {error}"),
    })?;
    let refs = known.into_iter().map(|(name, reference)| {
        let (kind, max_age_ms) = match reference.retention {
            SnapshotRetention::Tag { max_ref_age_ms } => (RefKind::Tag, max_ref_age_ms),
            SnapshotRetention::Branch {
                min_snapshots_to_keep,
                max_snapshot_age_ms,
                max_ref_age_ms,
            } => {
                let kind = RefKind::Branch {
                    min_snapshots: min_snapshots_to_keep,
                    max_snapshot_age_ms,
                };
                (kind, max_ref_age_ms)
            }
        };
        RefInfo {
            name,
            snapshot_id: reference.snapshot_id,
            kind,
            max_age_ms,
        }
    });
    Ok(refs.collect())
}

/// The refs of a table: iceberg 0.10 finds one by name, but lists them in the JSON form only.
pub(crate) fn references(
    metadata: &TableMetadata,
) -> serde_json::Result<BTreeMap<String, SnapshotReference>> {
    #[derive(Deserialize)]
    struct Refs {
        #[serde(default)]
        refs: BTreeMap<String, SnapshotReference>,
    }
    let json = serde_json::to_value(metadata)?;
    Ok(serde_json::from_value::<Refs>(json)?.refs)
}

/// What changes about a table's snapshots; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotChange {
    /// Snapshots that go, with their statistics.
    pub remove: Vec<i64>,
    /// Tags that are made, or moved: name, snapshot, and how old it may become in milliseconds.
    pub tag: Vec<(String, i64, Option<i64>)>,
    /// Refs that go.
    pub drop_refs: Vec<String>,
    /// What the table becomes.
    pub main: Option<i64>,
}

impl SnapshotChange {
    fn updates(self, table: &Table) -> Vec<TableUpdate> {
        let mut updates = Vec::new();
        let metadata = table.metadata();
        let dropped = self.drop_refs.into_iter();
        updates.extend(dropped.map(|ref_name| TableUpdate::RemoveSnapshotRef { ref_name }));
        for (ref_name, snapshot, max_ref_age_ms) in self.tag {
            let retention = SnapshotRetention::Tag { max_ref_age_ms };
            let reference = SnapshotReference::new(snapshot, retention);
            if metadata
                .snapshot_for_ref(&ref_name)
                .map(|known| known.snapshot_id())
                != Some(snapshot)
            {
                updates.push(TableUpdate::SetSnapshotRef {
                    ref_name,
                    reference,
                });
            }
        }
        if let Some(main) = self
            .main
            .filter(|id| metadata.current_snapshot_id() != Some(*id))
        {
            let retention = SnapshotRetention::branch(None, None, None);
            updates.push(TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotReference::new(main, retention),
            });
        }
        if self.remove.is_empty() {
            return updates;
        }
        let gone: BTreeSet<i64> = self.remove.iter().copied().collect();
        let of = |id: i64| gone.contains(&id).then_some(id);
        let statistics = metadata.statistics_iter();
        updates.extend(
            statistics
                .filter_map(|file| of(file.snapshot_id))
                .map(|snapshot_id| TableUpdate::RemoveStatistics { snapshot_id }),
        );
        let statistics = metadata.partition_statistics_iter();
        updates.extend(
            statistics
                .filter_map(|file| of(file.snapshot_id))
                .map(|snapshot_id| TableUpdate::RemovePartitionStatistics { snapshot_id }),
        );
        updates.push(TableUpdate::RemoveSnapshots {
            snapshot_ids: self.remove,
        });
        updates
    }
}

/// Changes which snapshots and refs a table has, as `plan` says for the table as it is, until there is nothing to do.
///
/// # Errors
/// As [`change_table`].
pub async fn change_snapshots<P>(
    warehouse: &Warehouse,
    ident: &TableIdent,
    fence: Option<&Fence>,
    plan: P,
) -> Result<Table, LakeError>
where
    P: Fn(&Table) -> Result<SnapshotChange, LakeError> + Send + Sync,
{
    let updates = |table: &Table| {
        let change = plan(table)?;
        let named = change.tag.iter().map(|(_, id, _)| *id).chain(change.main);
        for id in named {
            find_snapshot(table, id)?;
        }
        Ok(change.updates(table))
    };
    change_table(warehouse, ident, fence, updates).await
}

/// The ref that names one of the snapshots that `updates` remove from a table, if there is one.
pub(super) fn named_and_removed(
    metadata: &TableMetadata,
    updates: &[TableUpdate],
) -> Option<(String, i64)> {
    let removed: BTreeSet<i64> = updates
        .iter()
        .filter_map(|update| match update {
            TableUpdate::RemoveSnapshots { snapshot_ids } => Some(snapshot_ids),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    if removed.is_empty() {
        return None;
    }
    // What cannot be listed is not removed from.
    let mut named = match references(metadata) {
        Ok(known) => known,
        Err(_) => return Some((MAIN_BRANCH.to_owned(), metadata.current_snapshot_id()?)),
    };
    for update in updates {
        match update {
            TableUpdate::SetSnapshotRef {
                ref_name,
                reference,
            } => drop(named.insert(ref_name.clone(), reference.clone())),
            TableUpdate::RemoveSnapshotRef { ref_name } => drop(named.remove(ref_name)),
            _ => {}
        }
    }
    let mut named = named.into_iter();
    let hit = named.find(|(_, reference)| removed.contains(&reference.snapshot_id))?;
    Some((hit.0, hit.1.snapshot_id))
}
