//! What must hold for a commit on the table as it is now. Pure: everything was read before.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::metadata_columns::RESERVED_FIELD_ID_DELETE_FILE_PATH;
use iceberg::spec::{
    DataContentType, DataFile, Datum, ManifestContentType, ManifestEntry, PrimitiveLiteral,
};
use iceberg::table::Table;

use super::Commit;
use super::manifests::{Listed, Manifests};
use crate::lake::error::CommitError;
use crate::lake::summary;

/// No other program changed the table's rows, and its watermarks are the expected ones (`None`: it has no snapshot).
pub(super) fn watermarks(
    table: &Table,
    expected: &BTreeMap<String, Option<String>>,
) -> Result<(), CommitError> {
    let ident = table.identifier();
    let current = table.metadata().current_snapshot_id();
    let mut found = None;
    if let Some(current) = current {
        let lineage = summary::lineage(table, current);
        let lineage = lineage.map_err(|error| CommitError::failed(ident, error))?;
        if let Some(foreign) = lineage.foreign {
            return Err(foreign.into());
        }
        found = lineage.ours.map(|snapshot| snapshot.summary());
    }
    for (key, expected) in expected {
        let reason = match expected {
            None => current.map(|id| format!("it has snapshot {id} where none was expected")),
            Some(expected) => {
                let found = found.and_then(|summary| summary.additional_properties.get(key));
                (found != Some(expected))
                    .then(|| format!("{key} is {found:?} where {expected} was expected"))
            }
        };
        if let Some(reason) = reason {
            return Err(CommitError::conflict(ident, reason));
        }
    }
    Ok(())
}

/// The added files' partition values fit the table's partition spec.
pub(super) fn partitions(table: &Table, files: &[DataFile]) -> Result<(), CommitError> {
    let fields = table.metadata().default_partition_type().fields();
    for file in files {
        let values = file.partition();
        let fits = values.fields().len() == fields.len()
            && values.iter().zip(fields).all(|(value, field)| {
                let field = field.field_type.as_primitive_type();
                let value = value.map(|value| value.as_primitive_literal());
                match (value, field) {
                    (None, _) => true,
                    (Some(Some(value)), Some(field)) => field.compatible(&value),
                    _ => false,
                }
            });
        if !fits {
            let path = file.file_path();
            let reason = format!("the partition of {path} does not fit the table's partition spec");
            return Err(CommitError::failed(table.identifier(), reason));
        }
    }
    Ok(())
}

/// The files that go or must stay are live, and those that go got no new deletes.
pub(super) fn files(
    commit: &Commit<'_>,
    table: &Table,
    current: &Manifests,
) -> Result<(), CommitError> {
    let conflict = |reason: String| Err(CommitError::conflict(table.identifier(), reason));
    let needed: BTreeSet<&str> = commit
        .remove
        .iter()
        .chain(&commit.require)
        .map(String::as_str)
        .collect();
    let live: BTreeSet<&str> = current
        .iter()
        .flat_map(Listed::live)
        .map(ManifestEntry::file_path)
        .collect();
    if let Some(gone) = needed.difference(&live).next() {
        return conflict(format!("{gone} is no longer in the table"));
    }
    if commit.remove.is_empty() {
        return Ok(());
    }
    let read = commit
        .read_snapshot
        .and_then(|id| table.metadata().snapshot_by_id(id));
    let Some(read) = read else {
        return conflict("the snapshot it was planned from has expired".to_owned());
    };
    match new_delete(commit, current, read.sequence_number()) {
        Some((delete, data)) => conflict(format!("{delete} deletes rows of {data} since")),
        None => Ok(()),
    }
}

/// A delete file committed after `read_sequence` that applies to a data file that goes, and that file.
fn new_delete<'m>(
    commit: &Commit<'_>,
    current: &'m Manifests,
    read_sequence: i64,
) -> Option<(&'m str, &'m str)> {
    let going: Vec<(i32, &ManifestEntry)> = current
        .iter()
        .filter(|listed| listed.file.content == ManifestContentType::Data)
        .flat_map(|listed| listed.live().map(|e| (listed.file.partition_spec_id, e)))
        .filter(|(_, entry)| commit.remove.contains(entry.file_path()))
        .collect();
    let newer = current
        .iter()
        .filter(|listed| listed.file.content == ManifestContentType::Deletes)
        .flat_map(|listed| listed.live().map(|e| (listed.file.partition_spec_id, e)))
        .filter(|(_, entry)| !commit.remove.contains(entry.file_path()))
        .filter(|(_, entry)| entry.sequence_number().is_none_or(|n| n > read_sequence));
    for (delete_spec, delete) in newer {
        let hit = going.iter().find(|(spec, data)| {
            let same_partition = *spec == delete_spec
                && data.data_file().partition() == delete.data_file().partition();
            may_apply(delete.data_file(), data.file_path(), same_partition)
        });
        if let Some((_, data)) = hit {
            return Some((delete.file_path(), data.file_path()));
        }
    }
    None
}

/// Whether a delete file may delete rows of the data file at `path`. Errs towards yes.
fn may_apply(delete: &DataFile, path: &str, same_partition: bool) -> bool {
    match delete.content_type() {
        DataContentType::Data => false,
        DataContentType::EqualityDeletes => {
            same_partition || delete.partition().fields().is_empty()
        }
        DataContentType::PositionDeletes => match delete.referenced_data_file() {
            Some(target) => target == path,
            None => {
                let (lower, upper) = path_bounds(delete);
                same_partition
                    && lower.is_none_or(|lower| lower <= path)
                    && upper.is_none_or(|upper| path <= upper)
            }
        },
    }
}

/// The one data file that a position-delete file names, where it names only one.
pub(in crate::lake) fn only_target(delete: &DataFile) -> Option<String> {
    if delete.content_type() != DataContentType::PositionDeletes {
        return None;
    }
    delete.referenced_data_file().or_else(|| {
        let (lower, upper) = path_bounds(delete);
        lower.filter(|_| lower == upper).map(str::to_owned)
    })
}

/// The bounds of the paths in a position-delete file.
fn path_bounds(delete: &DataFile) -> (Option<&str>, Option<&str>) {
    let id = RESERVED_FIELD_ID_DELETE_FILE_PATH;
    fn text(bound: Option<&Datum>) -> Option<&str> {
        match bound.map(Datum::literal) {
            Some(PrimitiveLiteral::String(text)) => Some(text.as_str()),
            _ => None,
        }
    }
    (
        text(delete.lower_bounds().get(&id)),
        text(delete.upper_bounds().get(&id)),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use iceberg::spec::{DataFileBuilder, DataFileFormat, Literal, Struct};

    use super::*;

    fn delete(content: DataContentType, bounds: Option<(&str, &str)>) -> DataFileBuilder {
        let mut file = DataFileBuilder::default();
        file.content(content)
            .file_path("d".to_owned())
            .file_format(DataFileFormat::Parquet)
            .record_count(1)
            .file_size_in_bytes(1);
        if let Some((lower, upper)) = bounds {
            let id = RESERVED_FIELD_ID_DELETE_FILE_PATH;
            file.lower_bounds(HashMap::from([(id, Datum::string(lower))]));
            file.upper_bounds(HashMap::from([(id, Datum::string(upper))]));
        }
        file
    }

    #[test]
    fn a_position_delete_applies_within_its_bounds() {
        let file = delete(DataContentType::PositionDeletes, Some(("b", "d")));
        let file = file.build().unwrap();
        let applies: Vec<_> = ["a", "b", "c", "d", "e"]
            .into_iter()
            .filter(|path| may_apply(&file, path, true))
            .collect();
        assert_eq!(applies, ["b", "c", "d"]);
        assert!(!may_apply(&file, "c", false));
        assert_eq!(only_target(&file), None);
    }

    #[test]
    fn a_position_delete_without_bounds_may_apply_to_all_of_its_partition() {
        let file = delete(DataContentType::PositionDeletes, None)
            .build()
            .unwrap();
        assert!(may_apply(&file, "c", true));
        assert!(!may_apply(&file, "c", false));
    }

    #[test]
    fn a_position_delete_with_a_target_applies_to_that_only() {
        let mut file = delete(DataContentType::PositionDeletes, None);
        let file = file
            .referenced_data_file(Some("c".to_owned()))
            .build()
            .unwrap();
        assert!(may_apply(&file, "c", true));
        assert!(!may_apply(&file, "b", true));
        assert_eq!(only_target(&file).as_deref(), Some("c"));
        let bounded = delete(DataContentType::PositionDeletes, Some(("c", "c")));
        let bounded = bounded.build().unwrap();
        assert_eq!(only_target(&bounded).as_deref(), Some("c"));
    }

    #[test]
    fn an_unpartitioned_equality_delete_applies_to_everything() {
        let mut file = delete(DataContentType::EqualityDeletes, None);
        let global = file.build().unwrap();
        assert!(may_apply(&global, "c", false));
        let day = Struct::from_iter([Some(Literal::date(1))]);
        let local = file.partition(day).build().unwrap();
        assert!(!may_apply(&local, "c", false));
        assert!(may_apply(&local, "c", true));
        assert_eq!(only_target(&local), None);
    }
}
