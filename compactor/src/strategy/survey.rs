//! What a table's files are like, read from the manifests of one view.
//!
//! **Invariant:** it reads manifests and nothing else: no data file is opened, and nothing is kept.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{DataContentType, Datum};
use iceberg::table::Table;
use lakesync_providers::ReadView;
use lakesync_providers::lake::{
    DataFileInfo, LakeError, live_files, mergeable_manifests, sort_order_id,
};
use lakesync_providers::proto::columns;

use super::state::{FileSet, FileState, LogDue, Manifests};
use crate::error::Result;
use crate::rewrite_log::{LogGroup, LogRewriteOptions, due};

/// What the manifests of a table say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The base.
    pub base: Arc<FileSet>,
    /// The log.
    pub log: Arc<FileSet>,
    /// What of the log's files is due.
    pub log_due: LogDue,
    /// The log files with deltas above the base seq.
    pub waiting_files: u64,
}

/// Looks at the files of the table that `view` is of; the log's by the plan that `rewrite` makes.
///
/// # Errors
/// When a manifest cannot be read.
pub async fn survey(view: &ReadView, rewrite: &LogRewriteOptions) -> Result<Survey> {
    let (base, log) = (&view.base, &view.log);
    let base_files = match base.snapshot_id {
        Some(id) => live_files(&base.table, Some(id)).await?,
        None => Vec::new(),
    };
    let log_files = match log.snapshot_id {
        Some(id) => live_files(&log.table, Some(id)).await?,
        None => Vec::new(),
    };
    let seq_id = field_id(&log.table, columns::SEQ);
    let waits = |file: &&DataFileInfo| {
        let greatest = seq_id.and_then(|id| file.upper_bounds.get(&id));
        let greatest: Option<i64> = greatest.and_then(|bound| bound.to_string().parse().ok());
        // A file that does not say is one more to open.
        greatest.is_none_or(|seq| seq > base.base_seq.as_i64())
    };
    let waiting_files = log_files.iter().filter(waits).count();
    let order = sort_order_id(&base.table, &view.schema);
    let sorted_by = view.schema.sort_by.first();
    let range_id = sorted_by.and_then(|field| field_id(&base.table, field.column.as_ref()));
    let mut base_set = file_set(&base_files, order, range_id);
    base_set.manifests = manifests(&base.table, base.snapshot_id).await?;
    base_set.snapshots = count(base.table.metadata().snapshots().count());
    let mut log_set = file_set(&log_files, None, None);
    log_set.manifests = manifests(&log.table, log.snapshot_id).await?;
    log_set.snapshots = count(log.table.metadata().snapshots().count());
    Ok(Survey {
        base: Arc::new(base_set),
        log: Arc::new(log_set),
        log_due: log_due(&due(view, rewrite).await?),
        waiting_files: count(waiting_files),
    })
}

fn log_due(groups: &[LogGroup]) -> LogDue {
    LogDue {
        files: groups.iter().map(|group| count(group.files.len())).sum(),
        bytes: groups.iter().map(LogGroup::bytes).sum(),
        rows: groups.iter().map(LogGroup::rows).sum(),
    }
}

/// What the strategy sees of files. `order` is the sort order that they should have, `range_id` the field that it
/// begins with.
fn file_set(infos: &[DataFileInfo], order: Option<i32>, range_id: Option<i32>) -> FileSet {
    let is_data = |info: &&DataFileInfo| info.content == DataContentType::Data;
    let data: Vec<&DataFileInfo> = infos.iter().filter(is_data).collect();
    let dead = dead_rows(infos, data.len());
    let ranges = ranges(&data, range_id);
    let mut partitions: HashMap<String, u32> = HashMap::new();
    let files = data.iter().zip(ranges).map(|(info, range)| {
        let next = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        let name = format!("{} {:?}", info.spec_id, info.partition);
        FileState {
            path: info.path.as_str().into(),
            bytes: info.bytes,
            rows: info.rows,
            dead_rows: dead.of(info),
            partition: *partitions.entry(name).or_insert(next),
            is_ordered: order.is_none() || info.sort_order_id == order,
            range,
        }
    });
    FileSet {
        files: files.collect(),
        delete_files: count(infos.len() - data.len()),
        ..FileSet::default()
    }
}

/// How many rows of each file are dead, by what the delete files' entries say.
struct Dead<'a> {
    by_file: HashMap<&'a str, u64>,
    /// Of every file: what cannot be told apart without reading delete files.
    everywhere: u64,
}

impl Dead<'_> {
    fn of(&self, file: &DataFileInfo) -> u64 {
        let own = self.by_file.get(file.path.as_str()).copied().unwrap_or(0);
        own.saturating_add(self.everywhere).min(file.rows)
    }
}

fn dead_rows(infos: &[DataFileInfo], data_files: usize) -> Dead<'_> {
    let mut by_file: HashMap<&str, u64> = HashMap::new();
    let mut anywhere = 0_u64;
    for info in infos
        .iter()
        .filter(|info| info.content != DataContentType::Data)
    {
        match &info.referenced_data_file {
            Some(file) => *by_file.entry(file).or_default() += info.rows,
            None => anywhere += info.rows,
        }
    }
    Dead {
        by_file,
        everywhere: anywhere / count(data_files).max(1),
    }
}

/// The ranks of each file's bounds among all of them.
fn ranges(files: &[&DataFileInfo], field: Option<i32>) -> Vec<Option<(u32, u32)>> {
    let Some(field) = field else {
        return vec![None; files.len()];
    };
    let bounds = |file: &DataFileInfo| {
        let (least, greatest) = (
            file.lower_bounds.get(&field)?,
            file.upper_bounds.get(&field)?,
        );
        Some((least.clone(), greatest.clone()))
    };
    let bounds: Vec<Option<(Datum, Datum)>> = files.iter().map(|file| bounds(file)).collect();
    let mut all: Vec<&Datum> = bounds
        .iter()
        .flatten()
        .flat_map(|(least, greatest)| [least, greatest])
        .collect();
    // Values of one column compare; those that do not (no number at all) stand where they stand.
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let rank = |value: &Datum| {
        let below = all.partition_point(|other| other.partial_cmp(&value) == Some(Ordering::Less));
        u32::try_from(below).unwrap_or(u32::MAX)
    };
    let ranks = bounds.iter();
    ranks
        .map(|bounds| {
            bounds
                .as_ref()
                .map(|(least, greatest)| (rank(least), rank(greatest)))
        })
        .collect()
}

async fn manifests(table: &Table, snapshot_id: Option<i64>) -> Result<Manifests> {
    let snapshot = snapshot_id.and_then(|id| table.metadata().snapshot_by_id(id));
    let Some(snapshot) = snapshot else {
        return Ok(Manifests::default());
    };
    let list = table.manifest_list_reader(snapshot).load().await;
    let list = list.map_err(|source| LakeError::Iceberg {
        action: "read its manifest list",
        name: table.identifier().to_string(),
        source: Box::new(source),
    })?;
    Ok(Manifests {
        count: count(list.entries().len()),
        mergeable: count(mergeable_manifests(table).await?),
    })
}

fn field_id(table: &Table, name: &str) -> Option<i32> {
    table.metadata().current_schema().field_id_by_name(name)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
