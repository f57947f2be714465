//! One attempt at a commit, on one state of the table.
//!
//! **Invariant**: what an attempt wrote is deleted again when it is certain that nothing refers to
//! it, and left alone when that is not certain.

use iceberg::spec::{
    FormatVersion, MAIN_BRANCH, ManifestFile, ManifestListWriter, Snapshot, SnapshotReference,
    SnapshotRetention, Summary,
};
use iceberg::table::Table;
use iceberg::{TableRequirement, TableUpdate};
use uuid::Uuid;

use super::manifests::{ManifestStore, Manifests};
use super::{Carried, Commit, merge, totals, validate};
use crate::crash;
use crate::lake::error::{CommitError, CommitErrorKind};
use crate::lake::summary;
use crate::lake::warehouse::Warehouse;

/// Why an attempt stopped.
pub(super) enum Stop {
    /// The table moved on, or the answer was lost: read it again.
    Again(CommitError),
    /// Repeating cannot help.
    Final(CommitError),
}

impl Commit<'_> {
    pub(super) async fn attempt(
        &self,
        warehouse: &Warehouse,
        table: &Table,
        attempt: u32,
    ) -> Result<Table, Stop> {
        let ident = table.identifier();
        self.validate_state(table).map_err(Stop::Final)?;
        let mut store = ManifestStore::new(table, self.commit_id, attempt);
        let snapshot = match self.write_snapshot(warehouse, &mut store).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                store.discard().await;
                return Err(Stop::Final(error));
            }
        };
        crash::point("commit.after_manifests");
        let committed = warehouse
            .catalog()
            .commit(ident, requirements(table), updates(snapshot), self.fence)
            .await;
        match committed {
            Ok(table) => Ok(table),
            Err(error) => match error.kind() {
                CommitErrorKind::Unknown => Err(Stop::Again(error)),
                CommitErrorKind::Conflict => {
                    store.discard().await;
                    Err(Stop::Again(error))
                }
                CommitErrorKind::Fenced | CommitErrorKind::Failed => {
                    store.discard().await;
                    Err(Stop::Final(error))
                }
            },
        }
    }

    /// What can be validated without reading a manifest.
    fn validate_state(&self, table: &Table) -> Result<(), CommitError> {
        let ident = table.identifier();
        let metadata = table.metadata();
        if metadata.format_version() != FormatVersion::V2 {
            let found = metadata.format_version();
            let reason = format!("it has Iceberg format {found}, and only v2 can be written");
            return Err(CommitError::failed(ident, reason));
        }
        validate::watermarks(table, &self.expected)?;
        validate::partitions(table, &self.add)
    }

    /// Writes all files of the new snapshot.
    async fn write_snapshot(
        &self,
        warehouse: &Warehouse,
        store: &mut ManifestStore<'_>,
    ) -> Result<Snapshot, CommitError> {
        let table = store.table();
        let failed = |e: iceberg::Error| CommitError::failed(table.identifier(), e);
        let parent = table.metadata().current_snapshot();
        let current = Manifests::load(table, self.reads_manifests()).await;
        let current = current.map_err(failed)?;
        validate::files(self, table, &current)?;

        let mut files = self.write_added(store).await.map_err(failed)?;
        let rewritten = match self.carried {
            Carried::AsTheyAre => current.without(&self.remove, store).await,
            Carried::Merged => merge::merged(current.files(), store).await,
        };
        let rewritten = rewritten.map_err(failed)?;
        files.extend(rewritten.files);

        let mut totals = totals::Changes::new(table);
        self.add.iter().for_each(|file| totals.add(file));
        rewritten
            .removed
            .iter()
            .for_each(|file| totals.remove(file));
        let parent_summary = parent.map(|snapshot| snapshot.summary());
        let mut properties = summary::carried_on(table)
            .map_err(|error| CommitError::failed(table.identifier(), error))?;
        properties.extend(self.properties.clone());
        properties.insert(summary::COMMIT_ID.to_owned(), self.commit_id.to_string());
        properties.extend(totals.finish(parent_summary));
        properties.extend(rewritten.counts);
        let summary = Summary {
            operation: self.operation.clone(),
            additional_properties: properties,
        };

        let snapshot_id = store.snapshot_id();
        let list = write_list(store, files).await.map_err(failed)?;
        Ok(Snapshot::builder()
            .with_snapshot_id(snapshot_id)
            .with_parent_snapshot_id(parent.map(|snapshot| snapshot.snapshot_id()))
            .with_sequence_number(table.metadata().next_sequence_number())
            .with_timestamp_ms(timestamp_ms(warehouse, table))
            .with_manifest_list(list)
            .with_summary(summary)
            .with_schema_id(table.metadata().current_schema_id())
            .build())
    }

    /// Whether the manifests themselves must be read, not only their list.
    fn reads_manifests(&self) -> bool {
        !self.remove.is_empty() || !self.require.is_empty()
    }

    async fn write_added(
        &self,
        store: &mut ManifestStore<'_>,
    ) -> iceberg::Result<Vec<ManifestFile>> {
        store.write_added(&self.add, self.sequence_number).await
    }
}

async fn write_list(
    store: &mut ManifestStore<'_>,
    files: Vec<ManifestFile>,
) -> iceberg::Result<String> {
    let table = store.table();
    let location = store.list_location();
    let file = table.file_io().new_output(&location)?.writer().await?;
    let metadata = table.metadata();
    let mut list = ManifestListWriter::v2(
        file,
        store.snapshot_id(),
        metadata.current_snapshot_id(),
        metadata.next_sequence_number(),
    );
    list.add_manifests(files.into_iter())?;
    list.close().await?;
    Ok(location)
}

/// Now, but never before what the table has seen: its order must not depend on the wall clock.
fn timestamp_ms(warehouse: &Warehouse, table: &Table) -> i64 {
    let now = i64::try_from(warehouse.now_ms()).unwrap_or(i64::MAX);
    let current = table.metadata().current_snapshot();
    let newest = current.map_or(i64::MIN, |snapshot| snapshot.timestamp_ms());
    now.max(newest).max(table.metadata().last_updated_ms())
}

fn requirements(table: &Table) -> Vec<TableRequirement> {
    let metadata = table.metadata();
    vec![
        TableRequirement::UuidMatch {
            uuid: metadata.uuid(),
        },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: MAIN_BRANCH.to_owned(),
            snapshot_id: metadata.current_snapshot_id(),
        },
        // The added files were checked against this spec.
        TableRequirement::DefaultSpecIdMatch {
            default_spec_id: metadata.default_partition_spec_id(),
        },
    ]
}

fn updates(snapshot: Snapshot) -> Vec<TableUpdate> {
    let reference = SnapshotReference::new(
        snapshot.snapshot_id(),
        SnapshotRetention::branch(None, None, None),
    );
    vec![
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef {
            ref_name: MAIN_BRANCH.to_owned(),
            reference,
        },
    ]
}

/// A snapshot id that the table does not have yet: random and positive, as in every implementation.
pub(super) fn new_snapshot_id(table: &Table) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = (high ^ low) & (u64::MAX >> 1);
        let id = i64::try_from(id).expect("the sign bit is masked out");
        if id != 0 && table.metadata().snapshot_by_id(id).is_none() {
            return id;
        }
    }
}
