//! What a lake has on disk at the end of a day.
//!
//! Invariant: files are counted by walking the directory, so what no snapshot reaches counts too.

use std::path::Path;

use lakesync::Lake;
use lakesync_providers::lake::live_files;

/// One day's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The day, from 0.
    pub day: u64,
    /// Rows of the table by its base's files, dead ones included.
    pub base_rows: u64,
    /// Live data files of the base.
    pub base_files: u64,
    /// Live data files of the log.
    pub log_files: u64,
    /// Deltas in them.
    pub log_rows: u64,
    /// Snapshots of the base.
    pub base_snapshots: u64,
    /// Snapshots of the log.
    pub log_snapshots: u64,
    /// Bytes of data files and sidecars of both tables on disk, whoever reaches them.
    pub data_bytes: u64,
    /// Files of metadata of both tables on disk: manifests, lists, `metadata.json`.
    pub metadata_files: u64,
    /// Their bytes.
    pub metadata_bytes: u64,
    /// All files in the warehouse.
    pub files: u64,
    /// Bytes of the gateway's SQLite files.
    pub durable_bytes: u64,
}

impl Measured {
    pub(super) async fn of(folder: &Path, lake: &Lake, day: u64) -> Measured {
        let gateway = lake.gateway("public").expect("the default one");
        let view = gateway.live().view("t").expect("the table");
        let base = live_files(&view.base.table, view.base.snapshot_id).await;
        let log = live_files(&view.log.table, view.log.snapshot_id).await;
        let (base, log) = (base.expect("its files"), log.expect("its files"));
        let mut measured = Measured {
            day,
            base_rows: base.iter().map(|file| file.rows).sum(),
            base_files: base.len() as u64,
            log_files: log.len() as u64,
            log_rows: log.iter().map(|file| file.rows).sum(),
            base_snapshots: view.base.table.metadata().snapshots().len() as u64,
            log_snapshots: view.log.table.metadata().snapshots().len() as u64,
            ..Measured::default()
        };
        measured.walk(&folder.join("warehouse"));
        measured.durable_bytes = bytes_below(&folder.join("gateways"));
        measured
    }

    fn walk(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = entry.path();
            if path.is_dir() {
                self.walk(&path);
                continue;
            }
            let bytes = entry.metadata().map_or(0, |about| about.len());
            self.files += 1;
            let is_metadata = path.components().any(|part| part.as_os_str() == "metadata");
            match is_metadata {
                true => {
                    self.metadata_files += 1;
                    self.metadata_bytes += bytes;
                }
                false => self.data_bytes += bytes,
            }
        }
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let sizes = entries.map(|entry| entry.and_then(|entry| entry.metadata()));
    sizes
        .map(|about| about.map_or(0, |about| about.len()))
        .sum()
}
