//! ★ The merge: changes laid over the files of a base, as new files and the deletes of old rows.
//!
//! ```text
//!   changes by (file, position)       a file that much of is touched     ─► rewritten without its dead and deleted rows
//!   ─► file by file ─────────────────┤ a file that little of is touched  ─► one position-delete file, rows in new files
//!                                     └ rows without a place             ─► new files
//! ```
//! A rewritten file is read once and whole; of the others only rows are read that a change completes and does not set
//! whole. Everything streams: memory holds some batches, two row groups of each of two open files while they are
//! encoded, and 4 bytes for each deleted row of the file that is being worked on. Sorting a table with an order takes
//! its memory from the session.
//!
//! **Invariant:** the rows of the new files and the rows that are left of the old ones are those of the base with the
//! changes applied, each once. A file that no change touches stays as it is. What was written for nothing is deleted.

mod cells;
mod cursor;
mod decide;
mod files;
mod output;
mod positions;
mod read;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::prelude::SessionContext;
use lakesync_providers::BaseSnapshot;
use lakesync_providers::lake::{
    Commit, DataFile, Warehouse, arrow_schema, delete_written, summary,
};
use lakesync_providers::proto::TableSchema;

use crate::config::{CompactionConfig, WriteMode};
use crate::error::Result;
use crate::fold::{ChangeCounts, Changes, change_schema};
use crate::progress::Progress;
use work::{Steps, Work};

/// What a merge goes into.
#[derive(Clone, Copy)]
pub struct MergeInto<'a> {
    /// The base, at the snapshot that the changes are of.
    pub base: &'a BaseSnapshot,
    /// The lake that it is in.
    pub warehouse: &'a Warehouse,
    /// The table's schema.
    pub schema: &'a TableSchema,
    /// The session of the job: its memory and its directory for temporary files.
    pub ctx: &'a SessionContext,
}

impl fmt::Debug for MergeInto<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeInto")
            .field("base", &self.base)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// How a merge writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeOptions {
    /// What becomes of touched files.
    pub mode: WriteMode,
    /// As [`CompactionConfig::rewrite_percent`].
    pub rewrite_percent: u8,
    /// As [`CompactionConfig::target_file_bytes`].
    pub target_file_bytes: u64,
    /// As [`CompactionConfig::bytes_per_run`].
    pub bytes_per_run: u64,
}

impl From<&CompactionConfig> for MergeOptions {
    fn from(config: &CompactionConfig) -> Self {
        Self {
            mode: config.mode,
            rewrite_percent: config.rewrite_percent,
            target_file_bytes: config.target_file_bytes,
            bytes_per_run: config.bytes_per_run,
        }
    }
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self::from(&CompactionConfig::default())
    }
}

/// What a merge came to: files that were written and that no snapshot has yet.
#[derive(Debug)]
#[must_use = "what was merged is in no snapshot before it is committed"]
pub struct Merged {
    /// New data files.
    pub add: Vec<DataFile>,
    /// New delete files.
    pub deletes: Vec<DataFile>,
    /// Data files and delete files that they take the place of.
    pub remove: Vec<String>,
    /// What was done.
    pub report: MergeReport,
}

/// What a merge did, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// Data files that were rewritten.
    pub files_rewritten: u64,
    /// Their bytes.
    pub bytes_rewritten: u64,
    /// Data files that stay and got rows deleted.
    pub files_deleted_from: u64,
    /// Rows of new data files.
    pub rows_written: u64,
    /// Bytes of new data files.
    pub bytes_written: u64,
    /// Rows that new delete files name.
    pub rows_deleted: u64,
}

impl Merged {
    /// The commit that puts the new files in the place of the old ones: only on the base that they were made from, and
    /// only while its files are live. A rewrite is no change of rows, so a reader of changes may pass over it.
    pub fn commit<'f>(&self, base: &BaseSnapshot, kind: Kind) -> Commit<'f> {
        let (add, deletes) = (self.add.clone(), self.deletes.clone());
        let Some(snapshot) = base.snapshot_id else {
            return Commit::append(add).expecting(summary::BASE_SEQ, None);
        };
        let remove = self.remove.iter().cloned();
        match kind {
            Kind::Rewrite => Commit::rewrite(snapshot, remove, add),
            Kind::Fold => {
                let seq = base.base_seq.to_string();
                let commit = Commit::row_delta(add, deletes).removing(snapshot, remove);
                commit.expecting(summary::BASE_SEQ, Some(seq))
            }
        }
    }

    /// Deletes the new files: their commit did certainly not take effect.
    pub async fn discard(self, base: &BaseSnapshot) {
        delete_written(&base.table, &self.add).await;
        delete_written(&base.table, &self.deletes).await;
    }

    fn new(add: Vec<DataFile>, deletes: Vec<DataFile>, remove: Vec<String>) -> Self {
        let report = MergeReport {
            rows_written: add.iter().map(DataFile::record_count).sum(),
            bytes_written: add.iter().map(DataFile::file_size_in_bytes).sum(),
            ..MergeReport::default()
        };
        Self {
            add,
            deletes,
            remove,
            report,
        }
    }

    /// Counts what became of old files, and what the delete files name.
    fn count(&mut self, rewritten_bytes: impl Iterator<Item = u64>, deleted_from: u64) {
        for bytes in rewritten_bytes {
            self.report.files_rewritten += 1;
            self.report.bytes_rewritten += bytes;
        }
        self.report.files_deleted_from = deleted_from;
        self.report.rows_deleted = self.deletes.iter().map(DataFile::record_count).sum();
    }
}

/// What a commit of merged files means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows changed.
    Fold,
    /// The same rows lie in other files.
    Rewrite,
}

/// The mode in which a table's base is brought up to date when `asked` for one: tables with partitions are not brought up
/// to date by equality deletes, which would have to name the partition of a row that nobody has looked for.
#[must_use]
pub fn mode_for(schema: &TableSchema, asked: WriteMode) -> WriteMode {
    match asked {
        WriteMode::EqualityDeletes if !schema.partition_by.is_empty() => WriteMode::MergeOnRead,
        mode => mode,
    }
}

/// Writes what `changes` make of a base. Nothing is committed.
///
/// # Errors
/// When a file cannot be read or written, or the changes do not fit the base; then nothing that was written is left.
///
/// # Cancel safety
/// What a dropped call has written is left to orphan removal.
pub async fn merge(
    into: MergeInto<'_>,
    changes: Changes,
    options: &MergeOptions,
) -> Result<Merged> {
    merge_watched(into, changes, options, &Progress::default()).await
}

/// As [`merge`], telling how far it is: rows that are read of files that are rewritten, and changes of others.
///
/// # Errors
/// As [`merge`].
///
/// # Cancel safety
/// As [`merge`].
pub async fn merge_watched(
    into: MergeInto<'_>,
    changes: Changes,
    options: &MergeOptions,
    progress: &Progress,
) -> Result<Merged> {
    let options = MergeOptions {
        mode: mode_for(into.schema, options.mode),
        ..*options
    };
    let work = Work::begin(into, changes, &options).await?;
    Box::pin(work.run(Steps::Changes, progress)).await
}

/// Writes the rows of these data files anew, without the dead ones: small files become large ones, and rows come in the
/// table's order. Files that are not in the base any more are passed over. Nothing is committed.
///
/// # Errors
/// As [`merge`].
///
/// # Cancel safety
/// As [`merge`].
pub async fn rewrite(
    into: MergeInto<'_>,
    paths: &[String],
    options: &MergeOptions,
) -> Result<Merged> {
    rewrite_watched(into, paths, options, &Progress::default()).await
}

/// As [`rewrite`], telling how far it is in rows.
///
/// # Errors
/// As [`merge`].
///
/// # Cancel safety
/// As [`merge`].
pub async fn rewrite_watched(
    into: MergeInto<'_>,
    paths: &[String],
    options: &MergeOptions,
    progress: &Progress,
) -> Result<Merged> {
    let work = Work::begin(into, none(&into)?, options).await?;
    Box::pin(work.run(Steps::Rewrite(paths), progress)).await
}

/// No changes.
fn none(into: &MergeInto<'_>) -> Result<Changes> {
    let base = arrow_schema(&into.base.table)?;
    let schema = change_schema(into.schema, &base);
    let stream = Box::pin(EmptyRecordBatchStream::new(Arc::clone(&schema)));
    Ok(Changes {
        schema,
        stream,
        counts: ChangeCounts::default(),
    })
}
