//! ★ Flush: the hot deltas of each table become Parquet in its log, one Iceberg snapshot a table.
//!
//! Steps: pin views at one seq → per table: sort, split by arrival day and lateness, write, commit with
//! the max seq in the summary → publish the new log → trim what every table has flushed and pulls no
//! longer need → mark how far the lake holds everything.
//!
//! **Crash windows.** After writing, before the commit: orphan files, nothing else. After the commit,
//! before publishing, trimming or marking: the next open reads the max seq from the summary.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lakesync_proto::{ErrorCode, Hlc, Seq, SeqDelta, TableName};
use lakesync_providers::lake::{
    Commit, CommitError, CommitErrorKind, WriteOptions, arrow_schema, day_partition, summary,
    write_data_files,
};
use lakesync_providers::{ReadView, log_batches};

use crate::config::FlushFormat;
use crate::error::{Error, Refusal, Result};
use crate::flushed_mark::{self, FlushedMark};
use crate::gateway::Gateway;
use crate::ndjson::TableFiles;

/// A delta is late when it is stamped this far below the newest stamp of the flushes before; late deltas
/// get files of their own, so that the HLC bounds of the others stay narrow.
const LATE_MS: u64 = 5 * 60 * 1000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What a flush did for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushReport {
    /// The table.
    pub table: TableName,
    /// How many deltas were written.
    pub deltas: usize,
    /// How many files they are in.
    pub files: usize,
    /// The size of the files, in bytes.
    pub bytes: u64,
    /// Everything up to this seq has been flushed.
    pub max_seq: Seq,
    /// The Iceberg snapshot of the log.
    pub snapshot_id: Option<i64>,
}

impl Gateway {
    /// Flushes one table, or all: those with nothing to flush are left out of the answer.
    ///
    /// # Errors
    /// When files cannot be written or a commit fails; tables before it stay flushed, nothing is lost.
    ///
    /// # Cancel safety
    /// A flush goes on to its end when the future is dropped.
    pub async fn flush(self: &Arc<Self>, only: Option<&str>) -> Result<Vec<FlushReport>> {
        let only = only.map(str::to_owned);
        self.maintain(|gateway| async move { gateway.flush_tables(only.as_deref()).await })
            .await
    }

    async fn flush_tables(&self, only: Option<&str>) -> Result<Vec<FlushReport>> {
        let began = Instant::now();
        let flushed = self.flush_each(only).await;
        let stats = &self.upkeep.stats;
        match &flushed {
            Ok(reports) if reports.is_empty() => {}
            Ok(reports) => {
                let deltas = reports.iter().map(|report| report.deltas).sum();
                let bytes = reports.iter().map(|report| report.bytes).sum();
                let took = began.elapsed();
                tracing::info!(gateway = %self.id, deltas, bytes, tables = reports.len(), ?took, "flushed");
                stats.flushed(took, deltas, bytes);
                self.upkeep.flushes.send_modify(|flushes| *flushes += 1);
            }
            // Whoever asked for a table that does not exist is told; the flushes are well.
            Err(Error::Refused(_)) => {}
            Err(error) => stats.flush_failed(self.components.clock.now_ms(), error),
        }
        flushed
    }

    async fn flush_each(&self, only: Option<&str>) -> Result<Vec<FlushReport>> {
        let views = self.live.views();
        if let Some(unknown) = only.filter(|only| !views.tables.contains_key(*only)) {
            let text = format!("table `{unknown}` does not exist in `{}`", self.id);
            return Err(Refusal::new(ErrorCode::UnknownTable, text).into());
        }
        let mut reports = Vec::new();
        for (name, view) in &views.tables {
            if only.is_none_or(|only| only == name.as_ref()) {
                reports.extend(self.flush_table(view).await?);
            }
        }
        if !reports.is_empty() {
            self.renew_fence().await?;
        }
        self.trim_flushed().await?;
        if !reports.is_empty() {
            let mark = FlushedMark::of(&self.live.views(), &self.fence());
            self.set_meta(flushed_mark::KEY, mark.to_text()).await?;
        }
        Ok(reports)
    }

    /// What follows a commit that did not go through: another's result is what the next attempt starts from,
    /// and a writer that was taken over stops.
    pub(crate) async fn after_lost_commit(&self, table: &TableName, error: CommitError) -> Error {
        let followed = match error.kind() {
            CommitErrorKind::Conflict | CommitErrorKind::Unknown => self.reload(table).await,
            CommitErrorKind::Fenced => {
                self.yield_to_successor().await;
                Ok(())
            }
            _ => Ok(()),
        };
        followed.err().unwrap_or_else(|| error.into())
    }

    async fn flush_table(&self, view: &ReadView) -> Result<Option<FlushReport>> {
        let deltas: Vec<(&SeqDelta, u64)> = view
            .arrivals(view.log.max_seq)
            .map(|(delta, arrived_ms)| (&**delta, arrived_ms))
            .collect();
        if deltas.is_empty() {
            return Ok(None);
        }
        self.write_ndjson(view).await?;
        let stamps = || deltas.iter().map(|(delta, _)| delta.delta.hlc);
        let min_hlc = stamps().min().unwrap_or(Hlc::ZERO);
        let max_hlc = stamps().max().unwrap_or(Hlc::ZERO).max(view.log.max_hlc);
        let count = deltas.len();
        let log = &view.log.table;
        let schema = arrow_schema(log)?;
        let mut files = Vec::new();
        for ((day, _), part) in parts(deltas, view.log.max_hlc) {
            let micros = i64::try_from(day * DAY_MS * 1_000).unwrap_or(i64::MAX);
            let options = WriteOptions::new("log")
                .with_partition(day_partition(micros))
                .with_bloom_column(lakesync_proto::columns::ROW_ID);
            let batches = log_batches(&view.schema, &schema, &part)?;
            files.extend(write_data_files(log, batches, &options).await?);
        }
        let (file_count, bytes) = (
            files.len(),
            files.iter().map(|f| f.file_size_in_bytes()).sum(),
        );
        // Only on top of the log that was looked at: what another commit has flushed is not flushed again.
        let before = view.log.snapshot_id.map(|_| view.log.max_seq.to_string());
        let fence = self.fence();
        let commit = Commit::append(files)
            .expecting(summary::MAX_SEQ, before)
            .with_property(summary::MAX_SEQ, view.seq)
            .with_property(summary::MIN_HLC, min_hlc)
            .with_property(summary::MAX_HLC, max_hlc)
            .with_fence(&fence);
        let warehouse = &self.components.warehouse;
        let committed = match commit.run(warehouse, log.identifier()).await {
            Ok(committed) => committed,
            Err(error) => return Err(self.after_lost_commit(view.table(), error).await),
        };
        let snapshot_id = committed.metadata().current_snapshot_id();
        self.live.flushed(view.table(), committed)?;
        Ok(Some(FlushReport {
            table: view.table().clone(),
            deltas: count,
            files: file_count,
            bytes,
            max_seq: view.seq,
            snapshot_id,
        }))
    }
}

impl Gateway {
    /// The deltas that are about to be flushed as NDJSON, when that is the gateway's format.
    async fn write_ndjson(&self, view: &ReadView) -> Result<()> {
        let FlushFormat::Ndjson { folder } = &self.config.flush_format else {
            return Ok(());
        };
        let folder = folder.join(self.id.as_ref()).join(view.table().as_ref());
        let flushed = view.log.max_seq;
        let files = TableFiles::new(folder, flushed, view.arrivals(flushed));
        let failed = |folder: &Path, reason: String| Error::Maintenance {
            gateway: self.id.clone(),
            reason: format!(
                "NDJSON files in {} could not be written: {reason}",
                folder.display()
            ),
        };
        let written = tokio::task::spawn_blocking(move || {
            let written = files.write();
            (files.folder, written)
        });
        match written.await {
            Ok((_, Ok(()))) => Ok(()),
            Ok((folder, Err(error))) => Err(failed(&folder, error.to_string())),
            Err(error) => Err(failed(Path::new(""), error.to_string())),
        }
    }
}

/// Deltas by arrival day and lateness, each part sorted by (row id, HLC).
fn parts(
    deltas: Vec<(&SeqDelta, u64)>,
    flushed_max: Hlc,
) -> BTreeMap<(u64, bool), Vec<(&SeqDelta, u64)>> {
    let late_below_ms = flushed_max.wall_ms().saturating_sub(LATE_MS);
    let mut parts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (delta, arrived_ms) in deltas {
        let late = delta.delta.hlc.wall_ms() < late_below_ms;
        let part = parts.entry((arrived_ms / DAY_MS, late)).or_default();
        part.push((delta, arrived_ms));
    }
    for part in parts.values_mut() {
        part.sort_by(|(a, _), (b, _)| {
            (&a.delta.row_id, a.delta.hlc, a.seq).cmp(&(&b.delta.row_id, b.delta.hlc, b.seq))
        });
    }
    parts
}
