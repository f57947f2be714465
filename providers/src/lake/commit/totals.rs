//! The counts in a snapshot's summary: what was added, what was removed, and the totals since the
//! table began. Iceberg's own function for the totals is private and refuses a `replace`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{DataFile, PartitionSpec, SnapshotSummaryCollector, Struct, Summary};
use iceberg::table::Table;

const CHANGED_PARTITIONS: &str = "changed-partition-count";

/// (total, added, removed)
const TOTALS: [(&str, &str, &str); 6] = [
    ("total-data-files", "added-data-files", "deleted-data-files"),
    (
        "total-delete-files",
        "added-delete-files",
        "removed-delete-files",
    ),
    ("total-records", "added-records", "deleted-records"),
    ("total-files-size", "added-files-size", "removed-files-size"),
    (
        "total-position-deletes",
        "added-position-deletes",
        "removed-position-deletes",
    ),
    (
        "total-equality-deletes",
        "added-equality-deletes",
        "removed-equality-deletes",
    ),
];

/// Collects the files that come and go.
pub(super) struct Changes<'a> {
    table: &'a Table,
    collector: SnapshotSummaryCollector,
    /// Counted here: iceberg 0.10.1 counts them by their texts, and that of a time before 1970 overflows.
    partitions: HashSet<Struct>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self {
            table,
            collector: SnapshotSummaryCollector::default(),
            partitions: HashSet::new(),
        }
    }

    pub(super) fn add(&mut self, file: &DataFile) {
        self.changed(file);
        let schema = Arc::clone(self.table.metadata().current_schema());
        let spec = Arc::new(PartitionSpec::unpartition_spec());
        self.collector.add_file(file, schema, spec);
    }

    pub(super) fn remove(&mut self, file: &DataFile) {
        self.changed(file);
        let schema = Arc::clone(self.table.metadata().current_schema());
        let spec = Arc::new(PartitionSpec::unpartition_spec());
        self.collector.remove_file(file, schema, spec);
    }

    fn changed(&mut self, file: &DataFile) {
        if !file.partition().fields().is_empty() {
            self.partitions.insert(file.partition().clone());
        }
    }

    /// The counts. A total is left out when the parent, written by another program, has none.
    pub(super) fn finish(self, parent: Option<&Summary>) -> HashMap<String, String> {
        let mut counts = self.collector.build();
        if !self.partitions.is_empty() {
            let changed = self.partitions.len().to_string();
            counts.insert(CHANGED_PARTITIONS.to_owned(), changed);
        }
        for (total, added, removed) in TOTALS {
            let before = match parent {
                Some(parent) => number(&parent.additional_properties, total),
                None => Some(0),
            };
            if let Some(before) = before {
                let added = number(&counts, added).unwrap_or(0);
                let removed = number(&counts, removed).unwrap_or(0);
                let after = before.saturating_add(added).saturating_sub(removed);
                counts.insert(total.to_owned(), after.to_string());
            }
        }
        counts
    }
}

fn number(properties: &HashMap<String, String>, key: &str) -> Option<u64> {
    properties.get(key).and_then(|value| value.parse().ok())
}
