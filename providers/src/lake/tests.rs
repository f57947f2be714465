//! The lake through its own doors: every fixture is written by the code that is tested.

mod catalogs;
mod commits;
mod faults;
mod foreign;
mod manifests;
mod pairs;
mod races;
mod storages;
mod writers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use futures::TryStreamExt;
use iceberg::TableIdent;
use iceberg::spec::{DataFile, ManifestContentType, ManifestFile, ManifestStatus};
use iceberg::table::Table;
use lakesync_proto::{GatewayId, ManualClock, TableDefinition, TableName, TableSchema};
use tempfile::TempDir;

use super::schema::Kind;
use super::*;

/// A lake in a temporary directory with one gateway, `public`.
pub(super) struct Lake {
    pub(super) dir: TempDir,
    pub(super) warehouse: Warehouse,
    pub(super) gateway: GatewayId,
}

impl Lake {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open_local(dir.path()).await.unwrap();
        Self::in_folder(dir, warehouse).await
    }

    /// By `clock`, with a table `t (a string)`.
    async fn with_table_by(clock: Arc<ManualClock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open_local_with_clock(dir.path(), clock)
            .await
            .unwrap();
        let lake = Self::in_folder(dir, warehouse).await;
        lake.create().await;
        lake
    }

    async fn in_folder(dir: TempDir, warehouse: Warehouse) -> Self {
        let gateway = GatewayId::parse("public").unwrap();
        warehouse.create_namespace(&gateway).await.unwrap();
        Self {
            dir,
            warehouse,
            gateway,
        }
    }

    /// With a table `t (a string)`.
    pub(super) async fn with_table() -> Self {
        let lake = Self::new().await;
        lake.create().await;
        lake
    }

    async fn create(&self) {
        let schema = schema(&[("a", "string")]);
        let created = self.warehouse.create_table(&self.gateway, &schema).await;
        created.unwrap();
    }

    /// Another process's view of the same directory.
    pub(super) async fn reopened(&self) -> Warehouse {
        Warehouse::open_local(self.dir.path()).await.unwrap()
    }

    pub(super) fn ident(&self) -> TableIdent {
        Kind::Base.ident(&self.gateway, &name("t"))
    }

    async fn pair(&self) -> TablePair {
        self.warehouse
            .load(&self.gateway, &name("t"))
            .await
            .unwrap()
    }

    async fn base(&self) -> Table {
        self.pair().await.base
    }

    /// New data files of the base, one for each group of row ids; `a` is the row id in capitals.
    async fn files(&self, groups: &[&[&str]]) -> Vec<DataFile> {
        write(&self.base().await, groups).await
    }

    pub(super) async fn append(&self, groups: &[&[&str]]) -> Table {
        let files = self.files(groups).await;
        Commit::append(files)
            .run(&self.warehouse, &self.ident())
            .await
            .unwrap()
    }

    /// All files below the warehouse.
    pub(super) fn on_disk(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.dir.path().join("warehouse"), &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, found),
            false => found.push(path),
        }
    }
}

fn name(table: &str) -> TableName {
    TableName::parse(table).unwrap()
}

fn definition(columns: &[(&str, &str)]) -> TableDefinition {
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, column_type)| serde_json::json!({"name": name, "type": column_type}))
        .collect();
    let body = serde_json::json!({"table": "t", "columns": columns});
    TableDefinition::from_json(body.to_string().as_bytes()).unwrap()
}

fn schema(columns: &[(&str, &str)]) -> TableSchema {
    TableSchema::from_definition(&definition(columns)).unwrap()
}

async fn write(base: &Table, groups: &[&[&str]]) -> Vec<DataFile> {
    let mut files = Vec::new();
    for ids in groups {
        let ids: Vec<&str> = ids.to_vec();
        let capitals: StringArray = ids.iter().map(|id| Some(id.to_uppercase())).collect();
        let batch = RecordBatch::try_from_iter([
            ("row_id", Arc::new(StringArray::from(ids)) as _),
            ("a", Arc::new(capitals) as _),
        ]);
        let options = WriteOptions::new("test");
        let written = write_data_files(base, vec![batch.unwrap()], &options).await;
        files.extend(written.unwrap());
    }
    files
}

/// The rows that iceberg's own reader finds: row id and `a`, sorted.
pub(super) async fn scanned(table: &Table) -> Vec<String> {
    // One file at a time: two tasks that wait for one delete file may wait for ever.
    let scan = table.scan().with_concurrency_limit(1).build().unwrap();
    let stream = scan.to_arrow().await.unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .unwrap()
                .as_string::<i32>()
                .clone()
        };
        let (ids, values) = (column("row_id"), column("a"));
        rows.extend((0..batch.num_rows()).map(|i| format!("{}{}", ids.value(i), values.value(i))));
    }
    rows.sort();
    rows
}

/// The paths of files, by the row ids that they hold, through iceberg's own reader of bounds.
fn path_of(files: &[DataFileInfo], first_id: &str) -> String {
    let lower = iceberg::spec::Datum::string(first_id);
    let found = files
        .iter()
        .find(|file| file.lower_bounds.get(&1) == Some(&lower));
    found.unwrap().path.clone()
}

/// One manifest entry: status, snapshot, data and file sequence number.
type Entry = (ManifestStatus, i64, i64, i64);

async fn manifests_of(table: &Table) -> Vec<ManifestFile> {
    let snapshot = table.metadata().current_snapshot().unwrap();
    super::files::manifests(table, snapshot).await.unwrap()
}

/// The manifest entries of the current snapshot by path.
async fn entries(table: &Table, content: ManifestContentType) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for file in manifests_of(table).await {
        if file.content != content {
            continue;
        }
        let manifest = file.load_manifest(table.file_io()).await.unwrap();
        for entry in manifest.entries() {
            let value = (
                entry.status(),
                entry.snapshot_id().unwrap(),
                entry.sequence_number().unwrap(),
                entry.file_sequence_number.unwrap(),
            );
            let twice = entries.insert(entry.file_path().to_owned(), value);
            assert_eq!(twice, None);
        }
    }
    entries
}

fn summary_of(table: &Table) -> &std::collections::HashMap<String, String> {
    let snapshot = table.metadata().current_snapshot().unwrap();
    &snapshot.summary().additional_properties
}

/// The summary's counts under these keys, absent ones as a dash.
fn counts(table: &Table, keys: &[&str]) -> Vec<String> {
    let summary = summary_of(table);
    let count = |key: &&str| summary.get(*key).map_or("-".to_owned(), Clone::clone);
    keys.iter().map(count).collect()
}
