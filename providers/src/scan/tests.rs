//! Masked scans of files with several row groups and pages: rows, limits, statistics, and what EXPLAIN says.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{DataFrame, SessionContext};
use iceberg::TableUpdate;
use iceberg::spec::{
    DataFile, DataFileBuilder, NullOrder, SortDirection, SortField, SortOrder, Transform,
};
use iceberg::table::Table;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, GatewayId, Hlc, Op, RowDelta, RowId, Seq,
    SeqDelta, TableDefinition, TableName, TableSchema, Value,
};
use tempfile::TempDir;

use crate::lake::{Commit, Warehouse, WriteOptions, summary, write_data_files};
use crate::live::Live;
use crate::session::session;
use crate::union::{Touched, UnionTable};
use crate::view::{HotPush, ReadView};

/// A small file of ten row groups, then one of one row group with three pages.
const GROUPED: i64 = 1_000;
const PAGED: i64 = 50_000;

pub(crate) struct Scene {
    pub(crate) live: Live,
    seq: u64,
    pub(crate) folder: TempDir,
}

pub(crate) fn row_id(v: i64) -> RowId {
    RowId::parse(&format!("row {v}")).unwrap()
}

/// A base with the rows `v = 0 .. 51,000` in two files.
pub(crate) async fn scene() -> Scene {
    let files = [(0..GROUPED, 100), (GROUPED..GROUPED + PAGED, 60_000)];
    scene_of(&files, row_id).await
}

/// A base of these files: the rows of each, and how many of them a row group has.
pub(super) async fn scene_of(files: &[(Range<i64>, usize)], row_id: fn(i64) -> RowId) -> Scene {
    let definition = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}, {"name": "s", "type": "string"}]}"#;
    let batches = files.iter().cloned().map(|(rows, row_group_rows)| {
        let ids = rows.clone().map(|v| row_id(v).to_string());
        let texts = rows.clone().map(|v| Some(format!("text {}", v % 7)));
        let batch = RecordBatch::try_from_iter([
            ("row_id", Arc::new(StringArray::from_iter_values(ids)) as _),
            ("v", Arc::new(Int64Array::from_iter_values(rows)) as _),
            ("s", Arc::new(texts.collect::<StringArray>()) as _),
        ]);
        (batch.unwrap(), row_group_rows)
    });
    scene_with(definition, batches.collect()).await
}

/// A base of a table with this definition: the rows of each file, and how many of them a row group has.
pub(super) async fn scene_with(definition: &str, files: Vec<(RecordBatch, usize)>) -> Scene {
    scene_in_order(definition, None, files).await
}

/// The same, with every file said to be in an order, `<column>` or `<column> desc`, with nulls at the end.
pub(super) async fn scene_in_order(
    definition: &str,
    order: Option<&str>,
    files: Vec<(RecordBatch, usize)>,
) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = Warehouse::open_local(folder.path()).await.unwrap();
    let gateway = GatewayId::parse("public").unwrap();
    warehouse.create_namespace(&gateway).await.unwrap();
    let definition = TableDefinition::from_json(definition.as_bytes()).unwrap();
    let schema = TableSchema::from_definition(&definition).unwrap();
    warehouse.create_table(&gateway, &schema).await.unwrap();
    let mut pair = warehouse.load(&gateway, &schema.table).await.unwrap();
    let mut order_id = None;
    if let Some(order) = order {
        pair.base = with_order(&warehouse, &pair.base, order).await;
        order_id = i32::try_from(pair.base.metadata().default_sort_order_id()).ok();
    }
    let mut data_files = Vec::new();
    for (batch, row_group_rows) in files {
        let options = WriteOptions {
            row_group_rows,
            ..WriteOptions::new("test")
        };
        let written = write_data_files(&pair.base, vec![batch], &options).await;
        let written = written.unwrap().into_iter();
        data_files.extend(written.map(|file| match order_id {
            Some(order) => in_order(&file, order),
            None => file,
        }));
    }
    Commit::append(data_files)
        .with_property(summary::BASE_SEQ, 7)
        .with_property(summary::MAX_HLC, Hlc::new(1, 0).unwrap())
        .run(&warehouse, pair.base.identifier())
        .await
        .unwrap();
    let live = Live::new(
        warehouse.clone(),
        gateway.clone(),
        Seq::from_u64(7).unwrap(),
    );
    live.put_table(warehouse.load(&gateway, &schema.table).await.unwrap())
        .unwrap();
    Scene {
        live,
        seq: 7,
        folder,
    }
}

/// The table, its rows to be sorted so from now on.
async fn with_order(warehouse: &Warehouse, table: &Table, order: &str) -> Table {
    let (column, direction) = match order.split_once(' ') {
        None => (order, SortDirection::Ascending),
        Some((column, _)) => (column, SortDirection::Descending),
    };
    let schema = table.metadata().current_schema();
    let order = SortOrder::builder()
        .with_sort_field(SortField {
            source_id: schema.field_id_by_name(column).unwrap(),
            transform: Transform::Identity,
            direction,
            null_order: NullOrder::Last,
        })
        .build(schema);
    let updates = vec![
        TableUpdate::AddSortOrder {
            sort_order: order.unwrap(),
        },
        TableUpdate::SetDefaultSortOrder { sort_order_id: -1 },
    ];
    let catalog = warehouse.catalog();
    let ident = table.identifier();
    catalog.commit(ident, vec![], updates, None).await.unwrap()
}

/// The same file, said to be in this order.
fn in_order(file: &DataFile, order: i32) -> DataFile {
    DataFileBuilder::default()
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .null_value_counts(file.null_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .sort_order_id(order)
        .build()
        .unwrap()
}

impl Scene {
    /// Sets `v` of a row to `to`, or deletes the row.
    pub(crate) fn edit(&mut self, row: i64, to: Option<i64>) {
        self.change(row_id(row).as_str(), to);
    }

    /// The same of many rows, in one push.
    pub(crate) fn push(&mut self, edits: &[(i64, Option<i64>)]) {
        let ids = edits.iter().map(|(row, to)| (row_id(*row), *to));
        self.change_all(ids.collect());
    }

    /// The same of a row with this id.
    pub(super) fn change(&mut self, id: &str, to: Option<i64>) {
        self.change_all(vec![(RowId::parse(id).unwrap(), to)]);
    }

    fn change_all(&mut self, edits: Vec<(RowId, Option<i64>)>) {
        let mut deltas = Vec::new();
        for (row_id, to) in edits {
            self.seq += 1;
            let key = DeltaKey {
                table: TableName::parse("t").unwrap(),
                row_id,
                client_id: ClientId::parse("ana").unwrap(),
                hlc: Hlc::new(1_000 + self.seq, 0).unwrap(),
            };
            let change = to.map(|v| ColumnChange {
                column: ColumnName::parse("v").unwrap(),
                value: Value::Long(v),
            });
            let op = if to.is_some() { Op::Update } else { Op::Delete };
            let delta = RowDelta::new(op, key, change.into_iter().collect());
            let seq = Seq::from_u64(self.seq).unwrap();
            deltas.push(Arc::new(SeqDelta { seq, delta }));
        }
        let push = HotPush {
            arrived_ms: 0,
            deltas,
        };
        self.live.append(&push, Seq::from_u64(self.seq).unwrap());
    }

    pub(crate) fn view(&self) -> Arc<ReadView> {
        self.live.view("t").unwrap()
    }

    pub(super) fn frame(&self, ctx: &SessionContext, touched: Touched) -> DataFrame {
        let table = UnionTable::new(self.view(), None).unwrap();
        ctx.read_table(Arc::new(table.with_touched(touched)))
            .unwrap()
    }
}

/// A session whose filters run inside the Parquet reader, so that nothing stands between it and a limit.
pub(super) fn filters_inside(view: &ReadView) -> SessionContext {
    let ctx = session(&view.warehouse);
    let state = ctx.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    options.execution.parquet.pushdown_filters = true;
    drop(state);
    ctx
}

pub(super) async fn numbers(frame: DataFrame) -> Vec<i64> {
    let batches = frame.collect().await.unwrap();
    let mut numbers = Vec::new();
    for batch in &batches {
        let column = batch.column_by_name("v").unwrap();
        numbers.extend(column.as_primitive::<Int64Type>().iter().flatten());
    }
    numbers.sort_unstable();
    numbers
}

pub(super) async fn plan(frame: DataFrame) -> String {
    let plan = frame.create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn touched_rows_come_once_and_changed_whatever_row_group_and_page_they_are_in() {
    let mut scene = scene().await;
    let mut expected: BTreeSet<i64> = (0..GROUPED + PAGED).collect();
    // First and last of files, groups and pages, neighbours, one whole group, and every 997th.
    let edges = [
        0, 1, 99, 100, 555, 999, 1_000, 20_999, 21_000, 21_001, 50_999,
    ];
    let touched = edges.into_iter().chain(700..800);
    let touched: BTreeSet<i64> = touched.chain((0..51_000).step_by(997)).collect();
    for (n, row) in touched.iter().enumerate() {
        let to = (n % 3 > 0).then_some(1_000_000 + row);
        scene.edit(*row, to);
        expected.remove(row);
        expected.extend(to);
    }
    scene.edit(60_000, Some(60_000));
    expected.insert(60_000);
    let expected: Vec<i64> = expected.into_iter().collect();
    for ctx in [
        session(&scene.view().warehouse),
        filters_inside(&scene.view()),
    ] {
        for touched in [Touched::Patched, Touched::Masked, Touched::Joined] {
            let all = scene.frame(&ctx, touched);
            assert_eq!(numbers(all.clone()).await, expected, "{touched:?}");
            for (low, high) in [
                (95, 105),
                (700, 801),
                (20_990, 21_010),
                (1_000_000, 1_000_990),
            ] {
                let within = col("v").gt_eq(lit(low)).and(col("v").lt(lit(high)));
                let rows = expected.iter().copied();
                let rows: Vec<i64> = rows.filter(|v| (low..high).contains(v)).collect();
                let found = numbers(all.clone().filter(within).unwrap()).await;
                assert_eq!(found, rows, "{touched:?}, {low} to {high}");
            }
        }
    }
}

#[tokio::test]
async fn a_limit_over_a_row_group_that_a_filter_matches_whole_brings_no_masked_row_back() {
    let mut scene = scene().await;
    scene.edit(250, None);
    let ctx = filters_inside(&scene.view());
    let group = col("v").gt_eq(lit(200)).and(col("v").lt(lit(300)));
    for limit in [1, 60, 99, 100, 1_000] {
        let all = scene.frame(&ctx, Touched::Masked);
        let few = all.filter(group.clone()).unwrap();
        let few = few.limit(0, Some(limit)).unwrap();
        let shown = plan(few.clone()).await;
        let found = numbers(few).await;
        assert_eq!(found.len(), limit.min(99), "{shown}");
        assert!(!found.contains(&250), "{shown}");
        assert!(found.iter().all(|v| (200..300).contains(v)), "{shown}");
    }
}

#[tokio::test]
async fn rows_are_counted_from_metadata_and_extremes_are_not() {
    let mut scene = scene().await;
    for (row, to) in [(0, None), (50_999, None), (5, Some(6)), (60_000, Some(1))] {
        scene.edit(row, to);
    }
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Masked);
    let counted = all
        .clone()
        .aggregate(vec![], vec![count(lit(1_i64)).alias("v")]);
    let counted = counted.unwrap();
    let shown = plan(counted.clone()).await;
    assert!(!shown.contains("DataSourceExec"), "{shown}");
    assert_eq!(numbers(counted).await, [50_999]);
    for (extreme, is) in [(min(col("v")), 1), (max(col("v")), 50_998)] {
        let found = all.clone().aggregate(vec![], vec![extreme.alias("v")]);
        assert_eq!(numbers(found.unwrap()).await, [is]);
    }
}

#[tokio::test]
async fn the_plan_names_view_files_masks_and_overlay() {
    let mut scene = scene().await;
    let ctx = session(&scene.view().warehouse);
    let plain = plan(scene.frame(&ctx, Touched::Masked)).await;
    assert!(plain.starts_with("DataSourceExec"), "{plain}");
    assert_eq!(plain.lines().count(), 1, "{plain}");
    assert!(!plain.contains("view_seq"), "{plain}");
    for (row, to) in [(3, None), (4, Some(9)), (60_000, Some(1))] {
        scene.edit(row, to);
    }
    let masked = plan(scene.frame(&ctx, Touched::Masked)).await;
    let said = "files_plain=1, files_patched=0, files_masked=1, masked_rows=2, patched_rows=0, \
                overlay_rows=2, view_seq=10, base_seq=7";
    assert!(masked.contains(said), "{masked}");
    let patched = plan(scene.frame(&ctx, Touched::Patched)).await;
    let said = "files_plain=1, files_patched=1, files_masked=0, masked_rows=1, patched_rows=1, \
                overlay_rows=1, view_seq=10, base_seq=7";
    assert!(patched.contains(said), "{patched}");
    assert!(!masked.contains("Join"), "{masked}");
    let joined = plan(scene.frame(&ctx, Touched::Joined)).await;
    let said = "files_joined=2, overlay_rows=2, view_seq=10, base_seq=7";
    assert!(joined.contains(said), "{joined}");
    assert!(joined.contains("Anti"), "{joined}");
}

#[tokio::test]
async fn filters_projections_and_first_rows_reach_the_reader_of_masked_files() {
    let mut scene = scene().await;
    scene.edit(3, None);
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Masked);
    let leaf = |shown: &str| {
        let mut leaves = shown.lines().filter(|line| line.contains("masked_rows=1"));
        leaves.next().unwrap().trim().to_owned()
    };
    let filtered = all.clone().filter(col("v").gt(lit(50_000_i64))).unwrap();
    let filtered = filtered.select(vec![col("s")]).unwrap();
    let shown = leaf(&plan(filtered).await);
    assert!(
        shown.contains("projection=[s]") || shown.contains("projection=[v, s]"),
        "{shown}"
    );
    assert!(shown.contains("predicate=v@"), "{shown}");
    let first = all.sort(vec![col("v").sort(false, false)]).unwrap();
    let first = first.limit(0, Some(2)).unwrap();
    let shown = plan(first.clone()).await;
    assert!(leaf(&shown).contains("DynamicFilter"), "{shown}");
    assert_eq!(numbers(first).await, [50_998, 50_999]);
}

#[tokio::test]
async fn a_query_that_needs_no_column_counts_no_masked_row() {
    let mut scene = scene().await;
    // Runs so short that the reader takes the mask for a bitmap, and one so long that it takes it for ranges.
    let deleted = (0..300).step_by(3).chain([40_000]);
    for row in deleted.clone() {
        scene.edit(row, None);
    }
    let left = 51_000 - deleted.count();
    for ctx in [
        session(&scene.view().warehouse),
        filters_inside(&scene.view()),
    ] {
        let all = scene.frame(&ctx, Touched::Masked);
        let ones = all.clone().select(vec![lit(1_i64).alias("v")]).unwrap();
        assert_eq!(numbers(ones.clone()).await.len(), left);
        for (skipped, limit) in [(0, 150), (90, 20), (left - 5, 20), (left, 1)] {
            let some = ones.clone().limit(skipped, Some(limit)).unwrap();
            assert_eq!(numbers(some).await.len(), limit.min(left - skipped));
        }
        let counted = all.filter(col("v").lt(lit(300_i64))).unwrap();
        let counted = counted.aggregate(vec![], vec![count(lit(1_i64)).alias("v")]);
        assert_eq!(numbers(counted.unwrap()).await, [200]);
    }
}

/// How many files the scans of a plan have left out by their bounds, and how many not.
pub(super) async fn files_left_out(frame: DataFrame) -> (usize, usize) {
    let ctx = frame.task_ctx();
    let plan = frame.create_physical_plan().await.unwrap();
    collect(Arc::clone(&plan), Arc::new(ctx)).await.unwrap();
    let mut found = (0, 0);
    let mut below = vec![plan];
    while let Some(node) = below.pop() {
        below.extend(node.children().into_iter().map(Arc::clone));
        for metric in node.metrics().iter().flat_map(|metrics| metrics.iter()) {
            if let MetricValue::PruningMetrics {
                name,
                pruning_metrics,
            } = metric.value()
                && name == "files_ranges_pruned_statistics"
            {
                found.0 += pruning_metrics.pruned();
                found.1 += pruning_metrics.matched();
            }
            if let MetricValue::Gauge { name, gauge } = metric.value()
                && name == "files_left_out"
            {
                found.0 += gauge.value();
            }
        }
    }
    found
}

#[tokio::test]
async fn files_whose_bounds_exclude_a_filter_are_not_opened() {
    let mut scene = scene().await;
    scene.edit(3, None);
    scene.edit(1_500, Some(2_000_000));
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Masked);
    for (v, left_out, rows) in [
        (3, (1, 1), 0),
        (4, (1, 1), 1),
        (1_500, (1, 1), 0),
        (1_501, (1, 1), 1),
        (2_000_000, (2, 0), 1),
    ] {
        let one = all.clone().filter(col("v").eq(lit(v))).unwrap();
        assert_eq!(numbers(one.clone()).await.len(), rows, "{v}");
        assert_eq!(files_left_out(one).await, left_out, "{v}");
    }
    let ids = all.filter(col("row_id").eq(lit("row 1500"))).unwrap();
    assert_eq!(numbers(ids).await, [2_000_000]);
}
