//! Manifests of a new snapshot: one for the added files, new ones in place of those that hold a
//! removed path, and the rest as they are.
//!
//! ```text
//! old manifest  [a ADDED 3] [b ADDED 3] [x DELETED 2]      b is removed in snapshot 5
//! new manifest  [a EXISTING 3] [b DELETED 3]               x is forgotten
//! ```
//! **Invariant**: an entry that is carried on keeps its snapshot id and both its sequence numbers,
//! because deletes apply by sequence number. Only the status changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFile, Manifest, ManifestContentType, ManifestEntry, ManifestFile,
    ManifestWriter, ManifestWriterBuilder, PartitionSpec, SchemaRef, UNASSIGNED_SEQUENCE_NUMBER,
};
use iceberg::table::Table;
use iceberg::{Error, Result};
use uuid::Uuid;

use super::attempt::new_snapshot_id;
use super::grouped::Grouped;
use crate::lake::files::{CONCURRENT_READS, manifests};

/// Writes the metadata files of one attempt and remembers their names.
pub(super) struct ManifestStore<'a> {
    table: &'a Table,
    snapshot_id: i64,
    /// Unique among all attempts of all commits.
    name: String,
    written: Vec<String>,
}

impl<'a> ManifestStore<'a> {
    pub(super) fn new(table: &'a Table, commit_id: Uuid, attempt: u32) -> Self {
        Self {
            table,
            snapshot_id: new_snapshot_id(table),
            // A commit id may come again after a crash; the second part keeps the names apart.
            name: format!("{commit_id}-{}-{attempt}", Uuid::new_v4().simple()),
            written: Vec::new(),
        }
    }

    pub(super) fn table(&self) -> &'a Table {
        self.table
    }

    pub(super) fn snapshot_id(&self) -> i64 {
        self.snapshot_id
    }

    /// The name of the manifest list, which is about to be written.
    pub(super) fn list_location(&mut self) -> String {
        self.location(format!("snap-{}-{}.avro", self.snapshot_id, self.name))
    }

    fn location(&mut self, name: String) -> String {
        let location = format!("{}/metadata/{name}", self.table.metadata().location());
        self.written.push(location.clone());
        location
    }

    pub(super) fn writer(
        &mut self,
        content: ManifestContentType,
        schema: SchemaRef,
        spec: PartitionSpec,
    ) -> Result<ManifestWriter> {
        let name = format!("{}-m{}.avro", self.name, self.written.len());
        let output = self.table.file_io().new_output(self.location(name))?;
        let builder = ManifestWriterBuilder::new(output, Some(self.snapshot_id), schema, spec);
        Ok(match content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        })
    }

    /// One manifest for the data files and one for the delete files, where there are any.
    pub(super) async fn write_added(
        &mut self,
        files: &[DataFile],
        sequence_number: Option<i64>,
    ) -> Result<Vec<ManifestFile>> {
        let is_data = |file: &&DataFile| file.content_type() == DataContentType::Data;
        let (data, deletes): (Vec<_>, Vec<_>) = files.iter().partition(is_data);
        let inherited = UNASSIGNED_SEQUENCE_NUMBER;
        let groups = [
            (
                ManifestContentType::Data,
                data,
                sequence_number.unwrap_or(inherited),
            ),
            (ManifestContentType::Deletes, deletes, inherited),
        ];
        let mut manifests = Vec::new();
        for (content, files, sequence_number) in groups {
            if files.is_empty() {
                continue;
            }
            let metadata = self.table.metadata();
            let schema = Arc::clone(metadata.current_schema());
            let spec = metadata.default_partition_spec().as_ref().clone();
            let mut writer = self.writer(content, schema, spec)?;
            for file in files {
                writer.add_file(file.clone(), sequence_number)?;
            }
            manifests.push(writer.write_manifest_file().await?);
        }
        Ok(manifests)
    }

    /// Deletes what was written. What stays behind is left to orphan removal.
    pub(super) async fn discard(self) {
        for location in self.written {
            drop(self.table.file_io().delete(location).await);
        }
    }
}

/// One manifest of the current snapshot; its entries only when they were asked for.
pub(super) struct Listed {
    pub(super) file: ManifestFile,
    manifest: Option<Manifest>,
}

impl Listed {
    /// The live entries that were read.
    pub(super) fn live(&self) -> impl Iterator<Item = &ManifestEntry> {
        let entries = self.manifest.iter().flat_map(Manifest::entries);
        entries.map(AsRef::as_ref).filter(|entry| entry.is_alive())
    }
}

/// The manifests of the current snapshot.
pub(super) struct Manifests(Vec<Listed>);

/// What a commit made of the manifests.
pub(super) struct Rewritten {
    /// The manifests of the new snapshot, without the added files.
    pub(super) files: Vec<ManifestFile>,
    /// The removed files.
    pub(super) removed: Vec<DataFile>,
    /// What the summary says of the manifests themselves.
    pub(super) counts: HashMap<String, String>,
}

impl Manifests {
    /// Reads the current snapshot's list, and the manifests themselves when `entries` is set.
    pub(super) async fn load(table: &Table, entries: bool) -> Result<Self> {
        let Some(snapshot) = table.metadata().current_snapshot() else {
            return Ok(Self(Vec::new()));
        };
        let files = manifests(table, snapshot).await?;
        let listed = files.into_iter().map(|file| async move {
            let manifest = match entries {
                true => Some(file.load_manifest(table.file_io()).await?),
                false => None,
            };
            Ok::<_, Error>(Listed { file, manifest })
        });
        let listed = futures::stream::iter(listed).buffered(CONCURRENT_READS);
        Ok(Self(listed.try_collect().await?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.0.iter()
    }

    /// The manifests as their list has them.
    pub(super) fn files(self) -> Vec<ManifestFile> {
        self.0.into_iter().map(|listed| listed.file).collect()
    }

    /// The manifests of a snapshot without the files in `remove`. Those that hold one are written anew, together: a
    /// removal of ten thousand files of as many flushes writes two manifests.
    pub(super) async fn without(
        self,
        remove: &BTreeSet<String>,
        store: &mut ManifestStore<'_>,
    ) -> Result<Rewritten> {
        let mut files = Vec::new();
        let mut removed = Vec::new();
        let mut grouped = Grouped::new(store);
        for listed in self.0 {
            let is_touched = listed.live().any(|e| remove.contains(e.file_path()));
            let Some(manifest) = listed.manifest.as_ref().filter(|_| is_touched) else {
                // One without live files has served: it told of its own snapshot's removals.
                if listed.file.has_added_files() || listed.file.has_existing_files() {
                    files.push(listed.file);
                }
                continue;
            };
            for entry in listed.live() {
                if remove.contains(entry.file_path()) {
                    grouped.remove(manifest.metadata(), entry)?;
                    removed.push(entry.data_file().clone());
                } else {
                    grouped.carry(manifest.metadata(), entry)?;
                }
            }
        }
        files.extend(grouped.finish().await?);
        Ok(Rewritten {
            files,
            removed,
            counts: HashMap::new(),
        })
    }
}
