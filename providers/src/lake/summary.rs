//! Watermarks: what a snapshot's summary tells about the deltas in it.
//!
//! **Invariant**: a watermark stays in every later snapshot's summary until a commit sets it anew, so
//! the current snapshot alone tells how far a table is.

use std::collections::HashMap;
use std::str::FromStr;

use iceberg::spec::{Operation, Summary};
use iceberg::table::Table;
use lakesync_proto::{Hlc, Seq};

use super::error::LakeError;
use super::files::find_snapshot;

/// The greatest seq in a log.
pub const MAX_SEQ: &str = "lakesync.max-seq";
/// Every delta with a seq up to this one is in a base.
pub const BASE_SEQ: &str = "lakesync.base-seq";
/// The least HLC that the writer of the snapshot recorded.
pub const MIN_HLC: &str = "lakesync.min-hlc";
/// The greatest HLC in a log or base.
pub const MAX_HLC: &str = "lakesync.max-hlc";
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
}

/// The watermarks of a table's snapshot; none at all without a snapshot.
///
/// A `replace` by another program, which carries nothing on, has those of its parent: it changes no
/// row.
///
/// # Errors
/// `NotFound` for an unknown snapshot, `Corrupt` when a value cannot be read.
pub fn watermarks(table: &Table, snapshot_id: Option<i64>) -> Result<Watermarks, LakeError> {
    let Some(id) = snapshot_id else {
        return Ok(Watermarks::default());
    };
    let mut snapshot = find_snapshot(table, id)?;
    while is_foreign(snapshot.summary()) && snapshot.summary().operation == Operation::Replace {
        let parent = snapshot.parent_snapshot_id();
        // A parent that was expired took its watermarks with it.
        match parent.and_then(|id| table.metadata().snapshot_by_id(id)) {
            Some(parent) => snapshot = parent,
            None => break,
        }
    }
    let properties = &snapshot.summary().additional_properties;
    Ok(Watermarks {
        max_seq: read(table, properties, MAX_SEQ)?,
        base_seq: read(table, properties, BASE_SEQ)?,
        min_hlc: read(table, properties, MIN_HLC)?,
        max_hlc: read(table, properties, MAX_HLC)?,
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

/// What the next snapshot's summary takes over from this one's.
pub(super) fn carried_on(summary: &Summary) -> HashMap<String, String> {
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
        let mut keys: Vec<_> = carried_on(&summary).into_keys().collect();
        keys.sort();
        assert_eq!(keys, [MAX_SEQ, "lakesync.other"]);
        assert!(!is_foreign(&summary));
    }
}
