//! ★ The log's small files become large ones: what many flushes wrote, sorted by row and stamp.
//!
//! Steps: list the log's files → plan which become one (`plan.rs`) → per group: one SQL query over exactly its files,
//! written as it comes → one commit that puts the new files in the place of the old → publish the log.
//!
//! ```sql
//! select * from log order by row_id, _hlc, _seq        -- log: the files of one group
//! ```
//! Memory is that of the sort, which goes on in temporary files, and one row group. Flushes go on meanwhile: they append,
//! and an append is no conflict. A job that dropped one of the files is: then this is planned again.
//!
//! **Invariant**: the log has the same deltas before and after, each with its seq, its stamps and its arrival.
//!
//! **Crash windows.** After writing, before the commit: new files are orphans, the log reads as before. After the commit,
//! before publishing: the process reads the old files, which are still there, until it opens again.

mod plan;

use std::sync::Arc;

use datafusion::prelude::{SessionContext, ident};
use lakesync_providers::lake::{
    Commit, CommitErrorKind, DataFile, DataFileInfo, Fence, WriteOptions, day_partition, log_files,
    write_data_stream,
};
use lakesync_providers::proto::{TableName, columns};
use lakesync_providers::{Live, ParquetTable, ReadView, crash, job_session};

use crate::config::MEMORY_BYTES_MIN;
use crate::error::{Error, Result};

pub use plan::{Effort, LogGroup, LogMoment, plan_log_rewrite};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// How a log is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRewriteOptions {
    /// The size that files are put together to, in bytes as they are written (default 512 MiB).
    pub target_file_bytes: u64,
    /// How many small files of today are worth a rewrite (default 5); fewer wait.
    pub min_files: usize,
    /// How many bytes one run rewrites at most (default 16 GiB), beyond its first group.
    pub bytes_per_run: u64,
    /// What the sort may hold in memory, in bytes (default 512 MiB).
    pub memory_bytes: u64,
    /// How much is written for fewer files (default: as a schedule should).
    pub effort: Effort,
}

impl Default for LogRewriteOptions {
    fn default() -> Self {
        Self {
            target_file_bytes: 512 << 20,
            min_files: 5,
            bytes_per_run: 16 << 30,
            memory_bytes: 512 << 20,
            effort: Effort::default(),
        }
    }
}

/// What a rewrite did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRewriteReport {
    /// The table.
    pub table: TableName,
    /// The files that are no longer in the log.
    pub files_removed: usize,
    /// Those that took their place.
    pub files_added: usize,
    /// The size of the old files, in bytes.
    pub bytes_removed: u64,
    /// The size of the new ones.
    pub bytes_added: u64,
    /// The deltas in them.
    pub rows: u64,
}

/// A rewrite that is written and not committed yet.
struct Written {
    report: LogRewriteReport,
    commit: Commit<'static>,
    /// The new files.
    paths: Vec<String>,
}

/// What is due of a table's log now: the groups of files that [`rewrite_log`] would put together.
///
/// # Errors
/// Unknown table, or manifests that cannot be read.
pub async fn log_rewrite_due(
    live: &Live,
    table: &str,
    options: &LogRewriteOptions,
) -> Result<Vec<LogGroup>> {
    let view = view_of(live, table)?;
    due(&view, options).await
}

/// Puts small files of a table's log together.
///
/// # Errors
/// Unknown table, a failed plan or write, or a lost commit; the log is then as it was, and the job can run again.
///
/// # Cancel safety
/// Run it where it is not dropped: a commit whose publication was cut off is seen at the next opening only.
pub async fn rewrite_log(
    live: &Live,
    table: &str,
    fence: Option<&Fence>,
    options: &LogRewriteOptions,
) -> Result<LogRewriteReport> {
    let view = view_of(live, table)?;
    let groups = due(&view, options).await?;
    let Some(written) = write(&view, groups, options).await? else {
        return Ok(nothing(view.table()));
    };
    crash::point("rewrite_log.after_write");
    let mut commit = written.commit;
    if let Some(fence) = fence {
        commit = commit.with_fence(fence);
    }
    match commit
        .run(live.warehouse(), view.log.table.identifier())
        .await
    {
        Ok(committed) => {
            crash::point("rewrite_log.after_commit");
            live.flushed(view.table(), committed)?;
            Ok(written.report)
        }
        Err(error) => {
            // Whether a commit of unknown fate refers to the files only a later look at the table tells.
            if error.kind() != CommitErrorKind::Unknown {
                live.warehouse().delete_objects(written.paths).await;
            }
            let pair = live.warehouse().load(live.gateway(), view.table()).await?;
            live.flushed(view.table(), pair.log)?;
            Err(error.into())
        }
    }
}

fn view_of(live: &Live, table: &str) -> Result<Arc<ReadView>> {
    live.view(table).ok_or_else(|| Error::UnknownTable {
        gateway: live.gateway().to_string(),
        table: table.to_owned(),
    })
}

/// What is due of the log of a view.
pub(crate) async fn due(view: &ReadView, options: &LogRewriteOptions) -> Result<Vec<LogGroup>> {
    let files = log_files(&view.log.table, view.log.snapshot_id).await?;
    let today = view.warehouse.now_ms() / DAY_MS;
    let at = LogMoment {
        base_seq: view.base.base_seq,
        today: i32::try_from(today).unwrap_or(i32::MAX),
    };
    Ok(plan_log_rewrite(files, &at, options))
}

fn nothing(table: &TableName) -> LogRewriteReport {
    LogRewriteReport {
        table: table.clone(),
        files_removed: 0,
        files_added: 0,
        bytes_removed: 0,
        bytes_added: 0,
        rows: 0,
    }
}

/// Writes the new files of all groups; none without a group. What a failure leaves is deleted.
async fn write(
    view: &ReadView,
    groups: Vec<LogGroup>,
    options: &LogRewriteOptions,
) -> Result<Option<Written>> {
    let Some(snapshot) = view.log.snapshot_id.filter(|_| !groups.is_empty()) else {
        return Ok(None);
    };
    let mut report = nothing(view.table());
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for group in groups {
        report.bytes_removed += group.bytes();
        report.rows += group.rows();
        removed.extend(group.files.iter().map(|file| file.info.path.clone()));
        if let Err(error) = rewritten(view, group, options, &mut added).await {
            view.warehouse.delete_objects(paths(&added)).await;
            return Err(error);
        }
    }
    report.files_removed = removed.len();
    report.files_added = added.len();
    report.bytes_added = added.iter().map(DataFile::file_size_in_bytes).sum();
    Ok(Some(Written {
        report,
        paths: paths(&added),
        commit: Commit::rewrite(snapshot, removed, added),
    }))
}

fn paths(files: &[DataFile]) -> Vec<String> {
    let paths = files.iter().map(|file| file.file_path().to_owned());
    paths.collect()
}

/// Writes the deltas of one group's files, in order, as one file.
async fn rewritten(
    view: &ReadView,
    group: LogGroup,
    options: &LogRewriteOptions,
    added: &mut Vec<DataFile>,
) -> Result<()> {
    let (day, rows) = (group.day, group.rows());
    let files = group.files.into_iter().map(|file| file.info);
    let files: Arc<[DataFileInfo]> = files.collect();
    let table = &view.log.table;
    let log = ParquetTable::open(&view.warehouse, table, files)?;
    let ctx: SessionContext =
        job_session(&view.warehouse, options.memory_bytes.max(MEMORY_BYTES_MIN));
    let deltas = ctx.read_table(Arc::new(log))?;
    let order = [columns::ROW_ID, columns::HLC, columns::SEQ];
    let order = order.map(|column| ident(column).sort(true, false));
    let deltas = deltas.sort(order.into())?.execute_stream().await?;
    let target = options.target_file_bytes.saturating_mul(2);
    let mut written = WriteOptions::new("log")
        .with_partition(day_partition(i64::from(day) * DAY_MICROS))
        .with_bloom_column(columns::ROW_ID);
    // The group is as large as a file should be; a second file would only get what compressed a little worse.
    written.target_file_bytes = usize::try_from(target).unwrap_or(usize::MAX);
    let new = write_data_stream(table, deltas, &written).await?;
    let found: u64 = new.iter().map(DataFile::record_count).sum();
    added.extend(new);
    if found == rows {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the log of `{}` is damaged: files that should hold {rows} deltas gave {found}; the log is as it was. Restore its \
         files from a copy",
        view.table()
    )))
}
