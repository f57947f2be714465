//! Watermarks: what a snapshot's summary tells about the deltas in it.
//!
//! **Invariant**: a watermark stays in every later snapshot's summary until a commit of ours sets it anew. Other
//! programs carry nothing on: a `replace` of theirs, the same rows in other files, has the watermarks of
//! its parent; whatever else they commit has none that could be right ([`ForeignSnapshot`]).

use std::collections::HashMap;
use std::str::FromStr;

use iceberg::spec::{Operation, SnapshotRef, Summary};
use iceberg::table::Table;
use lakesync_proto::{Hlc, Seq};

use super::error::{Below, ForeignSnapshot, LakeError};
use super::files::find_snapshot;

/// The greatest seq in a log.
pub const MAX_SEQ: &str = "lakesync.max-seq";
/// Every delta with a seq up to this one is in a base.
pub const BASE_SEQ: &str = "lakesync.base-seq";
/// The least HLC that the writer of the snapshot recorded.
pub const MIN_HLC: &str = "lakesync.min-hlc";
/// The greatest HLC in a log or base.
pub const MAX_HLC: &str = "lakesync.max-hlc";
/// The greatest seq of a delta that has been dropped from a log: up to it the log is not whole.
pub const DROPPED_SEQ: &str = "lakesync.dropped-seq";
/// The gateway's floor when deltas were dropped from a log: what has been dropped is stamped below it.
pub const FLOOR: &str = "lakesync.floor";
/// The commit's own id: how a commit whose answer was lost is recognised.
pub const COMMIT_ID: &str = "lakesync.commit-id";

/// Keys with this prefix are ours.
const PREFIX: &str = "lakesync.";

/// The watermarks of one snapshot; `None` where its summary has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// [`MAX_SEQ`].
    pub max_seq: Option<Seq>,
    /// [`BASE_SEQ`].
    pub base_seq: Option<Seq>,
    /// [`MIN_HLC`].
    pub min_hlc: Option<Hlc>,
    /// [`MAX_HLC`].
    pub max_hlc: Option<Hlc>,
    /// [`DROPPED_SEQ`].
    pub dropped_seq: Option<Seq>,
    /// [`FLOOR`].
    pub floor: Option<Hlc>,
}

/// Where a snapshot's watermarks come from.
#[derive(Debug)]
pub(super) struct Lineage<'a> {
    /// The newest snapshot of ours, from this one down.
    pub(super) ours: Option<&'a SnapshotRef>,
    /// Set when another program changed rows above it.
    pub(super) foreign: Option<ForeignSnapshot>,
}

/// The lineage of a table's snapshot.
///
/// # Errors
/// `NotFound` for an unknown snapshot.
pub(super) fn lineage(table: &Table, snapshot_id: i64) -> Result<Lineage<'_>, LakeError> {
    let metadata = table.metadata();
    let mut snapshot = find_snapshot(table, snapshot_id)?;
    let mut foreign = None;
    let below = loop {
        if !is_foreign(snapshot.summary()) {
            break Below::Ours(snapshot.snapshot_id());
        }
        if snapshot.summary().operation != Operation::Replace {
            foreign = foreign.or(Some(snapshot));
        }
        let Some(parent) = snapshot.parent_snapshot_id() else {
            break Below::Nothing;
        };
        match metadata.snapshot_by_id(parent) {
            Some(parent) => snapshot = parent,
            None => break Below::Expired,
        }
    };
    let ours = matches!(below, Below::Ours(_)).then_some(snapshot);
    if ours.is_none() {
        // The same rows as nobody knows what.
        foreign = foreign.or(Some(snapshot));
    }
    let foreign = foreign.map(|snapshot| ForeignSnapshot {
        table: table.identifier().to_string(),
        snapshot: snapshot.snapshot_id(),
        operation: snapshot.summary().operation.as_str().to_owned(),
        below,
    });
    Ok(Lineage { ours, foreign })
}

/// The watermarks of a table's snapshot; none at all without a snapshot, or for one that is [`foreign`].
///
/// # Errors
/// `NotFound` for an unknown snapshot, `Corrupt` when a value cannot be read.
pub fn watermarks(table: &Table, snapshot_id: Option<i64>) -> Result<Watermarks, LakeError> {
    match foreign(table, snapshot_id)? {
        None => settled(table, snapshot_id),
        Some(_) => Ok(Watermarks::default()),
    }
}

/// The snapshot of another program that keeps `snapshot_id` from being read, when there is one.
///
/// # Errors
/// `NotFound` for an unknown snapshot.
pub fn foreign(
    table: &Table,
    snapshot_id: Option<i64>,
) -> Result<Option<ForeignSnapshot>, LakeError> {
    match snapshot_id {
        Some(id) => Ok(lineage(table, id)?.foreign),
        None => Ok(None),
    }
}

/// The watermarks of the newest snapshot of ours, from `snapshot_id` down: how far the table is by our own count,
/// whatever another program did on top.
///
/// # Errors
/// As [`watermarks`].
pub fn settled(table: &Table, snapshot_id: Option<i64>) -> Result<Watermarks, LakeError> {
    let ours = match snapshot_id {
        Some(id) => lineage(table, id)?.ours,
        None => None,
    };
    let Some(snapshot) = ours else {
        return Ok(Watermarks::default());
    };
    let properties = &snapshot.summary().additional_properties;
    Ok(Watermarks {
        max_seq: read(table, properties, MAX_SEQ)?,
        base_seq: read(table, properties, BASE_SEQ)?,
        min_hlc: read(table, properties, MIN_HLC)?,
        max_hlc: read(table, properties, MAX_HLC)?,
        dropped_seq: read(table, properties, DROPPED_SEQ)?,
        floor: read(table, properties, FLOOR)?,
    })
}

fn read<T>(
    table: &Table,
    properties: &HashMap<String, String>,
    key: &str,
) -> Result<Option<T>, LakeError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let Some(text) = properties.get(key) else {
        return Ok(None);
    };
    let value = text.parse().map_err(|e: T::Err| LakeError::Corrupt {
        table: table.identifier().to_string(),
        reason: format!("the snapshot property {key} is {text:?}: {e}"),
    })?;
    Ok(Some(value))
}

/// Whether another program made the snapshot.
fn is_foreign(summary: &Summary) -> bool {
    !summary.additional_properties.contains_key(COMMIT_ID)
}

/// Whether every snapshot that the table still has is of ours.
pub(super) fn is_all_ours(table: &Table) -> bool {
    let mut snapshots = table.metadata().snapshots();
    let ours = super::schema::stored(table).is_ok();
    ours && snapshots.all(|snapshot| !is_foreign(snapshot.summary()))
}

/// What the next snapshot's summary takes over.
///
/// # Errors
/// `NotFound` when the table's current snapshot is not one of its snapshots.
pub(super) fn carried_on(table: &Table) -> Result<HashMap<String, String>, LakeError> {
    let Some(current) = table.metadata().current_snapshot_id() else {
        return Ok(HashMap::new());
    };
    let ours = lineage(table, current)?.ours;
    Ok(ours.map_or_else(HashMap::new, |snapshot| marks_of(snapshot.summary())))
}

fn marks_of(summary: &Summary) -> HashMap<String, String> {
    let ours = |key: &str| key.starts_with(PREFIX) && key != COMMIT_ID;
    summary
        .additional_properties
        .iter()
        .filter(|(key, _)| ours(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_are_carried_on_but_not_the_commit_id() {
        let properties = [
            (MAX_SEQ, "7"),
            (COMMIT_ID, "x"),
            ("total-records", "3"),
            ("lakesync.other", "kept"),
        ];
        let summary = Summary {
            operation: Operation::Append,
            additional_properties: properties
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        let mut keys: Vec<_> = marks_of(&summary).into_keys().collect();
        keys.sort();
        assert_eq!(keys, [MAX_SEQ, "lakesync.other"]);
        assert!(!is_foreign(&summary));
    }
}
