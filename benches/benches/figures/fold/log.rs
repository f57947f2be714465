//! What a flush costs, and a log of many small files.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use lakesync::Lake;
use lakesync_benches::load::{TABLE, config, push};
use lakesync_benches::{Figure, Figures, cpu_time, median};
use lakesync_compactor::{CompactionConfig, compact};
use lakesync_gateway::Gateway;
use lakesync_proto::{GatewayId, Seq, SeqDelta, TableDefinition, TableSchema, columns};
use lakesync_providers::lake::{
    Commit, Warehouse, WriteOptions, arrow_schema, summary, write_data_files,
};
use lakesync_providers::{ReadView, log_batches, session};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::lake::Restored;

/// Deltas of the flush.
const FLUSHED: usize = 1_000_000;
/// Deltas of one push.
const PUSH_DELTAS: usize = 10_000;
/// Deltas of a small file.
const SMALL: usize = 100;
/// So many small files, and a fourth of them.
const FILES: usize = 10_000;

pub(super) fn flush(runtime: &Runtime, figures: &mut Figures) {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = runtime.block_on(async {
        let lake = open(&folder.path().join("lake")).await;
        lake.create_table(TABLE).await.expect("a table");
        let gateway = lake.gateway("public").expect("it exists");
        for n in 0..FLUSHED / PUSH_DELTAS {
            let pushed = gateway.push(push(0, PUSH_DELTAS, 0, n)).await;
            pushed.expect("accepted");
        }
        lake
    });
    drop(lake);
    let kept = Restored::keep(folder);
    let ours = kept.measure(runtime, async |lake| {
        let gateway = lake.gateway("public").expect("it exists");
        gateway.flush(None).await.expect("flushed");
        gateway
    });
    let (rows, view) = runtime.block_on(flushed(&ours.last));
    let options = WriteOptions::new("bench").with_bloom_column(columns::ROW_ID);
    let (limit, written) = median(|| {
        let files = write_data_files(&view.log.table, rows.clone(), &options);
        runtime.block_on(files).expect("written")
    });
    let found: u64 = written.iter().map(|file| file.record_count()).sum();
    assert_eq!(found, u64::try_from(FLUSHED).expect("a million"));
    let [wall, cpu] = [ours.cost.wall, ours.cost.cpu].map(|time| time.as_secs_f64());
    let [limit_wall, limit_cpu] = [limit.wall, limit.cpu].map(|time| time.as_secs_f64());
    figures.0.push(Figure {
        what: format!("flush of {FLUSHED} deltas"),
        figure: format!(
            "{wall:.2} s, {cpu:.2} s CPU, {} MiB of memory",
            ours.memory_mib
        ),
        limit: format!("writing the same rows: {limit_wall:.2} s, {limit_cpu:.2} s CPU"),
        ratio: format!(
            "{:.2}x wall, {:.2}x CPU",
            wall / limit_wall,
            cpu / limit_cpu
        ),
        target: "<= 1.3x",
    });
}

/// The rows that a flush has written, and their table.
async fn flushed(gateway: &Gateway) -> (Vec<RecordBatch>, Arc<ReadView>) {
    let view = gateway.live().view("t").expect("it exists");
    let log = view.log.scan(&view.warehouse).await.expect("read");
    let ctx = session(&view.warehouse);
    let rows = ctx.read_table(Arc::new(log)).expect("a plan");
    let rows = rows.collect().await.expect("read");
    (rows, view)
}

pub(super) fn small_files(runtime: &Runtime, figures: &mut Figures) {
    let few = folded_from(runtime, FILES / 4);
    let many = folded_from(runtime, FILES);
    let (few_ms, many_ms) = (few * 1e3, many * 1e3);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each = |milliseconds: f64, files: usize| milliseconds / files as f64;
    figures.0.push(Figure {
        what: format!("fold of {FILES} log files of {SMALL} deltas in one pass"),
        figure: format!("{:.2} s CPU, {:.2} ms a file", many, each(many_ms, FILES)),
        limit: format!(
            "of {} files: {:.2} ms a file",
            FILES / 4,
            each(few_ms, FILES / 4)
        ),
        ratio: format!(
            "{:.2}x a file",
            each(many_ms, FILES) / each(few_ms, FILES / 4)
        ),
        target: "linear",
    });
}

/// CPU seconds of a fold of so many small log files.
fn folded_from(runtime: &Runtime, files: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(small(&folder, files));
    runtime.block_on(async {
        let lake = open(folder.path()).await;
        let gateway = lake.gateway("public").expect("it exists");
        let fence = gateway.fence();
        let (cpu, wall) = (cpu_time(), Instant::now());
        let config = CompactionConfig::default();
        let folded = compact(gateway.live(), "t", Some(&fence), &config).await;
        let folded = folded.expect("folded");
        assert_eq!(folded.rows, u64::try_from(files * SMALL).expect("few"));
        eprintln!("{files} files: {:?}", wall.elapsed());
        cpu_time().saturating_sub(cpu).as_secs_f64()
    })
}

/// A lake with so many small log files, in one snapshot: flushing them one by one would take hours.
async fn small(folder: &TempDir, files: usize) {
    let lake = open(folder.path()).await;
    lake.create_table(TABLE).await.expect("a table");
    drop(lake);
    let warehouse = Warehouse::open_local(folder.path())
        .await
        .expect("a warehouse");
    let gateway = GatewayId::parse("public").expect("a name");
    let definition = TableDefinition::from_json(TABLE.as_bytes()).expect("a definition");
    let schema = TableSchema::from_definition(&definition).expect("a schema");
    let pair = warehouse
        .load(&gateway, &schema.table)
        .await
        .expect("it is there");
    let log_schema = arrow_schema(&pair.log).expect("a schema");
    let options = WriteOptions::new("log").with_bloom_column(columns::ROW_ID);
    let (mut written, mut seq) = (Vec::with_capacity(files), Seq::ZERO);
    let mut last = lakesync_proto::Hlc::ZERO;
    for n in 0..files {
        let deltas = push(0, SMALL, 0, n).deltas.into_iter().map(|delta| {
            seq = seq.next();
            last = last.max(delta.hlc);
            SeqDelta { seq, delta }
        });
        let deltas: Vec<SeqDelta> = deltas.collect();
        let rows: Vec<(&SeqDelta, u64)> = deltas
            .iter()
            .map(|delta| (delta, 1_700_000_000_000))
            .collect();
        let rows = log_batches(&schema, &log_schema, &rows).expect("rows");
        written.extend(
            write_data_files(&pair.log, rows, &options)
                .await
                .expect("written"),
        );
    }
    Commit::append(written)
        .with_property(summary::MAX_SEQ, seq)
        .with_property(summary::MAX_HLC, last)
        .run(&warehouse, pair.log.identifier())
        .await
        .expect("committed");
}

async fn open(path: &Path) -> Lake {
    let lake = Lake::builder(path).with_config(config()).open().await;
    lake.expect("a lake")
}
