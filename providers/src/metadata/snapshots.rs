//! `t$snapshots`: the snapshots of base and log, with what each one covers.
//!
//! | column | is |
//! |---|---|
//! | `kind` | `base` (a compaction) or `log` (a flush) |
//! | `snapshot_id` | what `VERSION AS OF` takes |
//! | `committed_at` | when, UTC |
//! | `operation` | Iceberg's word for it |
//! | `seq` | the base seq or the log's max seq: a state of the table holds deltas up to it |
//! | `max_hlc` | the greatest HLC among them |
//! | `total_rows`, `total_files` | of that snapshot |

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemTable;
use iceberg::table::Table;

use crate::error::Result;
use crate::lake::summary;
use crate::view::ReadView;

struct SnapshotRow {
    kind: &'static str,
    snapshot_id: i64,
    committed_at_ms: i64,
    operation: String,
    seq: Option<i64>,
    max_hlc: Option<i64>,
    total_rows: Option<i64>,
    total_files: Option<i64>,
}

/// The table `t$snapshots` of a view, oldest first.
pub(super) fn snapshots(view: &ReadView) -> Result<MemTable> {
    let mut rows = rows_of("log", &view.log.table)?;
    rows.extend(rows_of("base", &view.base.table)?);
    rows.sort_by_key(|row| (row.committed_at_ms, row.seq, row.kind == "base"));
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("kind", DataType::Utf8, false),
        Field::new("snapshot_id", DataType::Int64, false),
        Field::new("committed_at", utc, false),
        Field::new("operation", DataType::Utf8, false),
        Field::new("seq", DataType::Int64, true),
        Field::new("max_hlc", DataType::Int64, true),
        Field::new("total_rows", DataType::Int64, true),
        Field::new("total_files", DataType::Int64, true),
    ]));
    let longs = |of: fn(&SnapshotRow) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let committed =
        TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.committed_at_ms));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.kind))),
        longs(|r| Some(r.snapshot_id)),
        Arc::new(committed.with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|r| &r.operation),
        )),
        longs(|r| r.seq),
        longs(|r| r.max_hlc),
        longs(|r| r.total_rows),
        longs(|r| r.total_files),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(MemTable::try_new(schema, vec![vec![batch]])?)
}

fn rows_of(kind: &'static str, table: &Table) -> Result<Vec<SnapshotRow>> {
    let mut rows = Vec::new();
    for snapshot in table.metadata().snapshots() {
        let marks = summary::watermarks(table, Some(snapshot.snapshot_id()))?;
        let number = |key: &str| {
            let properties = &snapshot.summary().additional_properties;
            properties.get(key).and_then(|text| text.parse().ok())
        };
        let seq = if kind == "base" {
            marks.base_seq
        } else {
            marks.max_seq
        };
        rows.push(SnapshotRow {
            kind,
            snapshot_id: snapshot.snapshot_id(),
            committed_at_ms: snapshot.timestamp_ms(),
            operation: snapshot.summary().operation.as_str().to_owned(),
            seq: seq.map(|seq| seq.as_i64()),
            max_hlc: marks.max_hlc.map(|hlc| hlc.as_i64()),
            total_rows: number("total-records"),
            total_files: number("total-data-files"),
        });
    }
    Ok(rows)
}
