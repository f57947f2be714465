//! New manifests for entries that are carried on, as few as hold them.
//!
//! ```text
//! [a ADDED 3]  [b ADDED 4]  [c ADDED 5]              b is removed in snapshot 6
//! [a EXISTING 3, b DELETED 4, c EXISTING 5]
//! ```
//! **Invariant**: entries of one manifest are of one content, one partition spec and one schema, those of the manifest
//! that they were read from: the source of a partition may be dropped from the table by now.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{
    ManifestContentType, ManifestEntry, ManifestFile, ManifestMetadata, ManifestWriter,
};
use iceberg::{Error, ErrorKind, Result};

use super::manifests::ManifestStore;

/// Entries of one manifest (8,000): with bounds for a dozen columns that is about the 8 MiB that Iceberg aims at. Fewer
/// make planning open more files; more make every removal write more anew.
pub(super) const ENTRIES_MAX: usize = 8_000;

/// (is of delete files, partition spec, schema)
type Kind = (bool, i32, i32);

/// The manifests that are being written.
pub(super) struct Grouped<'s, 't> {
    store: &'s mut ManifestStore<'t>,
    open: BTreeMap<Kind, (ManifestWriter, usize)>,
    full: Vec<ManifestWriter>,
}

impl<'s, 't> Grouped<'s, 't> {
    pub(super) fn new(store: &'s mut ManifestStore<'t>) -> Self {
        Self {
            store,
            open: BTreeMap::new(),
            full: Vec::new(),
        }
    }

    /// Carries a live entry on: it keeps its snapshot and both its sequence numbers.
    pub(super) fn carry(&mut self, of: &ManifestMetadata, entry: &ManifestEntry) -> Result<()> {
        let sequence_number = entry.sequence_number().ok_or_else(|| incomplete(entry))?;
        let snapshot_id = entry.snapshot_id().ok_or_else(|| incomplete(entry))?;
        let file_sequence_number = entry.file_sequence_number;
        let file = entry.data_file().clone();
        let writer = self.writer(of)?;
        writer.add_existing_file(file, snapshot_id, sequence_number, file_sequence_number)
    }

    /// Notes that the snapshot removes an entry's file.
    pub(super) fn remove(&mut self, of: &ManifestMetadata, entry: &ManifestEntry) -> Result<()> {
        let sequence_number = entry.sequence_number().ok_or_else(|| incomplete(entry))?;
        let file_sequence_number = entry.file_sequence_number;
        let file = entry.data_file().clone();
        let writer = self.writer(of)?;
        writer.add_delete_file(file, sequence_number, file_sequence_number)
    }

    /// The manifests, all of them durable.
    pub(super) async fn finish(self) -> Result<Vec<ManifestFile>> {
        let open = self.open.into_values().map(|(writer, _)| writer);
        let writers: Vec<ManifestWriter> = self.full.into_iter().chain(open).collect();
        let mut written = Vec::with_capacity(writers.len());
        for writer in writers {
            written.push(writer.write_manifest_file().await?);
        }
        Ok(written)
    }

    /// The writer that takes the next entry of this kind.
    fn writer(&mut self, of: &ManifestMetadata) -> Result<&mut ManifestWriter> {
        let deletes = of.content == ManifestContentType::Deletes;
        let kind = (deletes, of.partition_spec.spec_id(), of.schema.schema_id());
        let is_full = self
            .open
            .get(&kind)
            .is_some_and(|(_, entries)| *entries >= ENTRIES_MAX);
        if is_full && let Some((full, _)) = self.open.remove(&kind) {
            self.full.push(full);
        }
        if !self.open.contains_key(&kind) {
            let (schema, spec) = (Arc::clone(&of.schema), of.partition_spec.clone());
            let writer = self.store.writer(of.content, schema, spec)?;
            self.open.insert(kind, (writer, 0));
        }
        let (writer, entries) = self
            .open
            .get_mut(&kind)
            .expect("it is open, or was opened just now");
        *entries += 1;
        Ok(writer)
    }
}

fn incomplete(entry: &ManifestEntry) -> Error {
    let path = entry.file_path();
    let message = format!("the manifest entry of {path} has no snapshot or sequence number");
    Error::new(ErrorKind::DataInvalid, message)
}
