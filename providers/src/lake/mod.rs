//! The lake: tables as files that any Iceberg reader can read.
//!
//! ```text
//!                Warehouse ── tables: create, load, evolve
//!                 │      │
//!         catalog.db    warehouse/<gateway>/<table>/
//!   (which metadata      metadata/  00007-….metadata.json ─► snap-….avro ─► …-m0.avro
//!    file is current)    data/      flush-00000-….parquet ◄───────────────────┘
//!                 ▲      ▲
//!                 │      │ write_data_files, write_position_deletes: durable when they return
//!                Commit ─┘ append, row delta, rewrite: one new snapshot, or none
//! ```
//! **Invariant**: nothing that a reader can reach ever changes. Files are written once, under names that
//! were never used; what a commit moves is one pointer in the catalog, after all it points to is
//! durable. So a crash at any moment leaves the old state or the new one, and unreferenced files at
//! worst.
//!
//! Iceberg's own transactions cannot remove files, add delete files, or be conditional, so commits are
//! made here, of the public parts below them ([`Commit`]); the catalog is ours for the same reason and
//! has exactly PyIceberg's tables ([`SqliteCatalog`]).

mod catalog;
mod commit;
mod error;
mod files;
mod log_files;
mod objects;
mod partition_values;
mod reach;
mod reachable;
mod schema;
mod snapshots;
mod storage;
pub mod summary;
mod tables;
mod warehouse;
mod writer;

pub use catalog::{CATALOG_NAME, CatalogCommit, FENCE, Fence, Properties, SqliteCatalog};
pub use commit::{
    Commit, MergedManifests, RetryPolicy, change_table, merge_manifests, mergeable_manifests,
};
pub use error::{Below, CommitError, CommitErrorKind, ForeignSnapshot, LakeError, LakeErrorKind};
pub(crate) use files::find_snapshot;
pub(crate) use files::manifests as manifests_of;
pub use files::{DataFileInfo, live_files};
pub use iceberg::spec::DataFile;
pub use iceberg::spec::{DataContentType as DataContent, DataFileFormat as FileFormat};
pub use iceberg::table::Table as IcebergTable;
pub use log_files::{LogFile, log_files};
pub use objects::{LeftBehind, StoredObject};
pub use partition_values::{bucket_of, write_order};
pub use reach::{is_below, reachable_files};
pub use reachable::{DeletedCounts, Unreachable};
pub use schema::{
    COLUMN_IDS, ColumnIds, LOG_SUFFIX, SCHEMA, arrow_schema, base_arrow_schema, column_ids,
    day_partition, log_arrow_schema, log_columns, sort_order_id, stored as stored_schema,
};
pub(crate) use snapshots::references;
pub use snapshots::{
    MadeBy, RefInfo, RefKind, SnapshotChange, SnapshotInfo, change_snapshots, refs, snapshots,
};
pub use storage::LakeStorage;
pub use tables::TablePair;
pub use warehouse::Warehouse;
pub use writer::{
    DataFiles, EqualityDeleteFile, Keys, Partitions, PositionDeletes, WriteOptions, delete_written,
    write_data_files, write_data_stream, write_position_deletes,
};

#[cfg(test)]
mod tests;
