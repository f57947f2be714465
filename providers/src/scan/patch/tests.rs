//! Patched scans of files with many row groups, against joined reads: every type, every setting, whatever is asked.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as QueryResult;
use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::logical_expr::{Expr, JoinType, col, lit};
use datafusion::physical_expr::expressions as physical;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{
    ExecutionPlan, ExecutionPlanProperties as _, collect, displayable,
};
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, Decimal, DeltaKey, GatewayId, Hlc, Op, RowDelta, RowId,
    Seq, SeqDelta, TableDefinition, TableName, TableSchema, Value,
};
use tempfile::TempDir;

use crate::columnar::column;
use crate::lake::{Commit, TablePair, Warehouse, WriteOptions, summary, write_data_files};
use crate::live::Live;
use crate::scan::{Division, Moment, PatchSource, Patching, Split};
use crate::session::session;
use crate::union::{Touched, UnionTable};
use crate::view::{HotPush, ReadView};

/// Rows of each file of the base.
const ROWS: u64 = 600;
/// Rows of a row group.
const GROUP_ROWS: usize = 64;

const COLUMNS: &str = r#"{"name": "a", "type": "long"}, {"name": "b", "type": "string"},
    {"name": "c", "type": "number"}, {"name": "d", "type": "boolean"}, {"name": "e", "type": "date"},
    {"name": "f", "type": "timestamp"}, {"name": "g", "type": "decimal(20,4)"}, {"name": "h", "type": "binary"},
    {"name": "i", "type": "json"}, {"name": "k", "type": "long"}"#;

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(u64::try_from(items.len()).unwrap())).unwrap()]
    }

    /// A value of a column. Columns `a` and `k` follow the row's number, so that statistics tell row groups apart.
    fn value(&mut self, column: &str, row: u64) -> Value {
        if column != "k" && self.chance(10) {
            return Value::Null;
        }
        let n = i64::try_from(row).unwrap();
        let small = i64::try_from(self.below(5)).unwrap();
        match column {
            "a" => Value::Long(n + small),
            "b" => Value::String("x".repeat(usize::try_from(self.below(40)).unwrap())),
            "c" => Value::Number(f64::from(i32::try_from(n).unwrap()) / 4.0),
            "d" => Value::Boolean(small > 2),
            "e" => Value::Date(i32::try_from(n / 10).unwrap()),
            "f" => Value::Timestamp(n * 1_000_000),
            "g" => Value::Decimal(Decimal {
                unscaled: i128::from(n * 100 + small),
                scale: 4,
            }),
            "h" => Value::Binary(vec![7; usize::try_from(small).unwrap()]),
            "i" => Value::json(&format!("{{\"n\":{small}}}")).unwrap(),
            "k" => Value::Long(n),
            _ => Value::String(format!("late {small}")),
        }
    }
}

struct Scene {
    live: Live,
    schema: Arc<TableSchema>,
    seq: u64,
    _folder: TempDir,
}

fn row_id(row: u64) -> RowId {
    RowId::parse(&format!("row {row:05}")).unwrap()
}

fn definition(columns: &str) -> TableDefinition {
    let text = format!(r#"{{"table": "t", "columns": [{columns}]}}"#);
    TableDefinition::from_json(text.as_bytes()).unwrap()
}

async fn append(
    warehouse: &Warehouse,
    pair: &TablePair,
    rows: std::ops::Range<u64>,
    dice: &mut Dice,
) {
    let mut arrays = vec![];
    let schema = crate::lake::arrow_schema(&pair.base).unwrap();
    for field in schema.fields() {
        let name = field.name().as_str();
        let array = match pair.schema.column(name) {
            None => Arc::new(
                rows.clone()
                    .map(|row| Some(row_id(row).to_string()))
                    .collect::<arrow::array::StringArray>(),
            ) as _,
            Some(known) => {
                let values: Vec<Value> = rows.clone().map(|row| dice.value(name, row)).collect();
                column(known.column_type, values.iter().map(Some)).unwrap()
            }
        };
        arrays.push(array);
    }
    let batch = RecordBatch::try_new(schema, arrays).unwrap();
    let options = WriteOptions {
        row_group_rows: GROUP_ROWS,
        ..WriteOptions::new("test")
    };
    let files = write_data_files(&pair.base, vec![batch], &options);
    Commit::append(files.await.unwrap())
        .with_property(summary::BASE_SEQ, 7)
        .with_property(summary::MAX_HLC, Hlc::new(1, 0).unwrap())
        .run(warehouse, pair.base.identifier())
        .await
        .unwrap();
}

/// A base of three files; the first two were written before the table had its last column.
async fn scene(dice: &mut Dice) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = Warehouse::open_local(folder.path()).await.unwrap();
    let gateway = GatewayId::parse("public").unwrap();
    warehouse.create_namespace(&gateway).await.unwrap();
    let schema = TableSchema::from_definition(&definition(COLUMNS)).unwrap();
    warehouse.create_table(&gateway, &schema).await.unwrap();
    for file in 0..2 {
        let pair = warehouse.load(&gateway, &schema.table).await.unwrap();
        append(&warehouse, &pair, file * ROWS..(file + 1) * ROWS, dice).await;
    }
    let later = definition(&format!(
        r#"{COLUMNS}, {{"name": "late", "type": "string"}}"#
    ));
    let evolution = schema.evolve(&later).unwrap();
    let pair = warehouse.evolve(&gateway, &evolution, None).await.unwrap();
    append(&warehouse, &pair, 2 * ROWS..3 * ROWS, dice).await;
    let live = Live::new(
        warehouse.clone(),
        gateway.clone(),
        Seq::from_u64(7).unwrap(),
    );
    let pair = warehouse.load(&gateway, &schema.table).await.unwrap();
    let schema = Arc::clone(&pair.schema);
    live.put_table(pair).unwrap();
    Scene {
        live,
        schema,
        seq: 7,
        _folder: folder,
    }
}

impl Scene {
    fn write(&mut self, op: Op, row: u64, changes: Vec<(&str, Value)>) {
        self.seq += 1;
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: row_id(row),
            client_id: ClientId::parse("ana").unwrap(),
            hlc: Hlc::new(1_000 + self.seq, 0).unwrap(),
        };
        let changes = changes.into_iter().map(|(column, value)| ColumnChange {
            column: ColumnName::parse(column).unwrap(),
            value,
        });
        let delta = RowDelta::new(op, key, changes.collect());
        let seq = Seq::from_u64(self.seq).unwrap();
        let push = HotPush {
            arrived_ms: 0,
            deltas: vec![Arc::new(SeqDelta { seq, delta })],
        };
        self.live.append(&push, seq);
    }

    fn set(&mut self, row: u64, column: &str, value: Value) {
        self.write(Op::Update, row, vec![(column, value)]);
    }

    fn delete(&mut self, row: u64) {
        self.write(Op::Delete, row, vec![]);
    }

    /// Writes to rows by chance, or to runs of them; some are deleted, some of these come back.
    fn touch(&mut self, dice: &mut Dice) {
        let schema = Arc::clone(&self.schema);
        let columns: Vec<&str> = schema
            .columns
            .iter()
            .map(|column| column.name.as_ref())
            .collect();
        let writes = dice.pick(&[1, 10, 60]);
        for _ in 0..writes {
            let row = dice.below(3 * ROWS + 20);
            let run = dice.pick(&[1, 1, 1, 70]);
            let (deletes, column) = (dice.chance(30), dice.pick(&columns));
            for row in row..row + run {
                if deletes && row < 3 * ROWS {
                    self.delete(row);
                }
                if !deletes || dice.chance(20) {
                    let elsewhere = dice.below(3 * ROWS);
                    let value = dice.value(column, elsewhere);
                    self.set(row, column, value);
                }
            }
        }
    }

    fn view(&self) -> Arc<ReadView> {
        self.live.view("t").unwrap()
    }

    fn frame(&self, ctx: &SessionContext, touched: Touched) -> DataFrame {
        let table = UnionTable::new(self.view(), None).unwrap();
        ctx.read_table(Arc::new(table.with_touched(touched)))
            .unwrap()
    }

    fn session(&self, dice: &mut Dice) -> SessionContext {
        let ctx = session(&self.view().warehouse);
        let state = ctx.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.execution.parquet.pushdown_filters = dice.chance(50);
        options.execution.batch_size = dice.pick(&[3, 64, 100, 8_192]);
        options.execution.target_partitions = dice.pick(&[1, 2, 5]);
        options.optimizer.repartition_file_min_size = dice.pick(&[1, 10 << 20]);
        drop(state);
        ctx
    }
}

/// The rows as texts, sorted.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter();
            let cells = cells.map(|cells| array_value_to_string(cells, row).unwrap());
            rows.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    rows.sort();
    rows
}

async fn plan(frame: &DataFrame) -> String {
    let plan = frame.clone().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// What is asked of a table.
const ASKED: [&str; 10] = [
    "all",
    "rows",
    "column",
    "expression",
    "first",
    "first of some",
    "count",
    "counts",
    "counts of some",
    "join",
];

/// Questions that have one answer each.
#[derive(Debug)]
struct Questions {
    filter: Expr,
    name: String,
    other: String,
    few: usize,
    up: bool,
    first: bool,
}

impl Questions {
    fn new(dice: &mut Dice, rows: &RecordBatch) -> Self {
        let fields = rows.schema_ref().fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
        let [name, other] = [dice.pick(&names).to_owned(), dice.pick(&names).to_owned()];
        let mut value = |name: &str| {
            let cells = rows.column_by_name(name).unwrap();
            let row = dice.below(u64::try_from(cells.len()).unwrap());
            lit(ScalarValue::try_from_array(cells, usize::try_from(row).unwrap()).unwrap())
        };
        let (one, two, there) = (value(&name), value(&name), value(&other));
        let filter = match dice.below(6) {
            0 => col(&name).is_null(),
            1 => col(&name).eq(one),
            2 => col(&name).lt(one),
            3 => col(&name).gt_eq(one).and(col(&other).lt_eq(there)),
            4 => col(&name).in_list(vec![one, two], false),
            _ => col(&name).gt(one).or(col(&other).eq(there)),
        };
        Self {
            filter,
            name,
            other,
            few: usize::try_from(dice.below(6) + 1).unwrap(),
            up: dice.chance(50),
            first: dice.chance(50),
        }
    }

    fn ask(&self, what: &str, rows: DataFrame) -> QueryResult<DataFrame> {
        let (name, filter) = (self.name.as_str(), self.filter.clone());
        match what {
            "rows" => rows.filter(filter),
            "column" => rows.select(vec![col(name)]),
            "expression" => {
                let null = col(name).is_null().alias("null");
                let more = (col("k") + lit(1_i64)).alias("more");
                rows.filter(filter)?
                    .select(vec![more, null, col(&self.other)])
            }
            "first" => self.first(rows, name),
            "first of some" => self.first(rows.filter(filter)?, &self.other),
            "count" => rows.aggregate(vec![], vec![count(lit(1_i64))]),
            "counts" => rows.aggregate(vec![], counts(name)),
            "counts of some" => rows.filter(filter)?.aggregate(vec![], counts(name)),
            "join" => {
                let left = rows.clone().filter(filter)?;
                let left = left.select(vec![col("k").alias("one")])?;
                left.join(rows, JoinType::Inner, &["one"], &["a"], None)
            }
            _ => Ok(rows),
        }
    }

    fn first(&self, rows: DataFrame, name: &str) -> QueryResult<DataFrame> {
        let id = col("row_id").sort(true, true);
        let order = vec![col(name).sort(self.up, self.first), id];
        rows.sort(order)?.limit(0, Some(self.few))
    }
}

fn counts(name: &str) -> Vec<Expr> {
    vec![
        count(lit(1_i64)).alias("all"),
        count(col(name)).alias("known"),
        min(col(name)).alias("least"),
        max(col(name)).alias("greatest"),
        sum(col("k")).alias("sum"),
    ]
}

async fn answer(frame: &DataFrame) -> Vec<String> {
    let found = frame.clone().collect().await;
    match found {
        Ok(batches) => lines(&batches),
        Err(error) => panic!("{error}\n{}", plan(frame).await),
    }
}

fn seeds() -> u64 {
    let asked = std::env::var("LAKESYNC_SEEDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn patched_rows_answer_as_joined_ones_whatever_is_asked() {
    let mut patched = 0;
    for seed in 0..seeds() {
        let mut dice = Dice(seed);
        let mut scene = scene(&mut dice).await;
        for _ in 0..4 {
            scene.touch(&mut dice);
            let ctx = scene.session(&mut dice);
            let [fast, masked, joined] = [Touched::Patched, Touched::Masked, Touched::Joined]
                .map(|way| scene.frame(&ctx, way));
            let truth = joined.clone().collect().await.unwrap();
            let schema = Arc::clone(joined.schema().inner());
            let truth = arrow::compute::concat_batches(&schema, &truth).unwrap();
            let truth_frame = ctx.read_batch(truth.clone()).unwrap();
            patched += usize::from(!plan(&fast).await.contains("files_patched=0"));
            let questions = Questions::new(&mut dice, &truth);
            for what in ASKED {
                let ask = |rows: &DataFrame| questions.ask(what, rows.clone()).unwrap();
                let expected = answer(&ask(&truth_frame)).await;
                for way in [&fast, &masked] {
                    let asked = ask(way);
                    let found = answer(&asked).await;
                    if found != expected {
                        let plan = plan(&asked).await;
                        assert_eq!(
                            found, expected,
                            "seed {seed}, {what}: {questions:?}\n{plan}"
                        );
                    }
                }
            }
        }
    }
    assert!(patched > 0, "files were patched");
}

async fn metrics(frame: &DataFrame) -> (Vec<RecordBatch>, impl Fn(&str) -> usize) {
    let ctx = frame.task_ctx();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let rows = collect(Arc::clone(&plan), Arc::new(ctx)).await.unwrap();
    let sum = move |name: &str| {
        let mut found = 0;
        let mut below: Vec<Arc<dyn ExecutionPlan>> = vec![Arc::clone(&plan)];
        while let Some(node) = below.pop() {
            below.extend(node.children().into_iter().map(Arc::clone));
            for metric in node.metrics().iter().flat_map(|metrics| metrics.iter()) {
                let value = metric.value();
                if value.name() == name {
                    found += match value {
                        MetricValue::PruningMetrics {
                            pruning_metrics, ..
                        } => pruning_metrics.pruned(),
                        other => other.as_usize(),
                    };
                }
            }
        }
        found
    };
    (rows, sum)
}

fn numbers(batches: &[RecordBatch], name: &str) -> Vec<i64> {
    let columns = batches
        .iter()
        .map(|batch| batch.column_by_name(name).unwrap());
    columns
        .flat_map(|column| {
            column
                .as_primitive::<Int64Type>()
                .iter()
                .flatten()
                .collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn a_row_group_that_a_filter_leaves_out_gives_its_rows_that_match_now() {
    let mut scene = scene(&mut Dice(1)).await;
    // Row 10 is in the first row group, whose `k` ends at 63; now it has another.
    scene.set(10, "k", Value::Long(300));
    scene.set(11, "b", Value::String("no part of the filter".to_owned()));
    scene.set(320, "k", Value::Long(5));
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    let some = all
        .filter(col("k").gt_eq(lit(290_i64)).and(col("k").lt(lit(330_i64))))
        .unwrap();
    let some = some
        .select(vec![col("row_id"), col("k"), col("b")])
        .unwrap();
    let (rows, metric) = metrics(&some).await;
    let mut found = numbers(&rows, "k");
    found.sort_unstable();
    let expected: Vec<i64> = (290..330).filter(|k| *k != 320).chain([300]).collect();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(found, expected);
    // One row group of ten is read of the file, and none of the two others.
    assert!(
        metric("row_groups_pruned_statistics") >= 8,
        "{}",
        plan(&some).await
    );
    assert!(metric("bytes_skipped") > 0);
    assert_eq!(metric("patched_rows"), 2);
}

#[tokio::test]
async fn the_first_rows_are_found_where_the_overlay_has_put_them() {
    let mut scene = scene(&mut Dice(2)).await;
    scene.set(3, "k", Value::Long(1_000_000));
    scene.set(1_799, "k", Value::Long(-1));
    scene.set(700, "k", Value::Long(900_000));
    scene.delete(1_798);
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    for (up, expected) in [(false, [1_000_000, 900_000, 1_797]), (true, [-1, 0, 1])] {
        let first = all.clone().sort(vec![col("k").sort(up, false)]).unwrap();
        let first = first.limit(0, Some(3)).unwrap();
        let shown = plan(&first).await;
        assert!(shown.contains("DynamicFilter"), "{shown}");
        let rows = first.collect().await.unwrap();
        assert_eq!(numbers(&rows, "k"), expected);
    }
}

#[tokio::test]
async fn a_column_that_nothing_decides_is_read_plain() {
    let mut scene = scene(&mut Dice(3)).await;
    for row in (0..600).step_by(7) {
        scene.set(row, "b", Value::String("changed".to_owned()));
    }
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    let plain = plan(&all.clone().select(vec![col("a"), col("c")]).unwrap()).await;
    assert!(plain.contains("files_plain=3, files_patched=0"), "{plain}");
    assert!(plain.starts_with("DataSourceExec"), "{plain}");
    for asked in [
        all.clone().select(vec![col("a"), col("b")]).unwrap(),
        all.filter(col("b").eq(lit("x")))
            .unwrap()
            .select(vec![col("a")])
            .unwrap(),
    ] {
        let patched = plan(&asked).await;
        assert!(
            patched.contains("files_plain=2, files_patched=1"),
            "{patched}"
        );
        assert!(patched.contains("patched_rows=86"), "{patched}");
        assert!(!patched.contains("Union"), "{patched}");
    }
}

#[tokio::test]
async fn rows_are_counted_from_metadata_and_extremes_are_read() {
    let mut scene = scene(&mut Dice(4)).await;
    scene.set(0, "k", Value::Long(5));
    scene.delete(1_799);
    scene.set(1_800, "k", Value::Long(7));
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    let counted = all
        .clone()
        .aggregate(vec![], vec![count(lit(1_i64)).alias("n")])
        .unwrap();
    let shown = plan(&counted).await;
    assert!(!shown.contains("DataSourceExec"), "{shown}");
    assert_eq!(numbers(&counted.collect().await.unwrap(), "n"), [1_800]);
    let extremes = vec![min(col("k")).alias("least"), max(col("k")).alias("most")];
    let extremes = all.aggregate(vec![], extremes).unwrap();
    let rows = extremes.collect().await.unwrap();
    assert_eq!(numbers(&rows, "least"), [1]);
    assert_eq!(numbers(&rows, "most"), [1_798]);
}

#[tokio::test]
async fn a_file_that_a_filter_leaves_out_whole_is_masked_and_one_of_which_much_is_deleted() {
    let mut scene = scene(&mut Dice(5)).await;
    scene.set(10, "k", Value::Long(900));
    scene.set(700, "k", Value::Long(901));
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    let some = all
        .filter(col("k").gt_eq(lit(895_i64)).and(col("k").lt(lit(905_i64))))
        .unwrap();
    let shown = plan(&some).await;
    let said = "files_plain=1, files_patched=1, files_masked=1, masked_rows=1, patched_rows=1, overlay_rows=1";
    assert!(shown.contains(said), "{shown}");
    let mut found = numbers(&some.collect().await.unwrap(), "k");
    found.sort_unstable();
    let expected: Vec<i64> = (895..905).chain([900, 901]).collect();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(found, expected);
    (1_200..1_300).for_each(|row| scene.delete(row));
    let all = scene.frame(&ctx, Touched::Patched);
    let shown = plan(&all).await;
    assert!(
        shown.contains("files_plain=0, files_patched=2, files_masked=1, masked_rows=100"),
        "{shown}"
    );
    assert_eq!(all.count().await.unwrap(), 1_700);
}

#[tokio::test]
async fn a_limit_takes_no_deleted_row_and_stops_the_scan() {
    let mut scene = scene(&mut Dice(6)).await;
    (0..40).for_each(|row| scene.delete(row));
    scene.set(50, "k", Value::Long(-50));
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    let few = all.clone().limit(0, Some(30)).unwrap();
    let shown = plan(&few).await;
    assert!(shown.contains("limit=30"), "{shown}");
    let found = numbers(&few.collect().await.unwrap(), "k");
    assert_eq!(found.len(), 30);
    assert!(found.iter().all(|k| *k >= 40 || *k == -50), "{found:?}");
    let none = all.limit(1_760, Some(30)).unwrap();
    assert_eq!(none.count().await.unwrap(), 0);
}

/// The scan of one file in its order, which is that of `k`.
async fn in_order(scene: &Scene, filter: Expr) -> (Vec<i64>, Arc<dyn ExecutionPlan>) {
    let view = scene.view();
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await.unwrap();
    let resolved = view.resolved().await.unwrap();
    let split = Split {
        seq: view.seq,
        base_seq: view.base.base_seq,
        moment: Moment::Present,
        overlay_rows: 0,
        freshness_ms: None,
    };
    let masks = resolved.masks.as_ref().unwrap();
    let choice = (Patching::WhereBest, [].as_slice());
    let division = Division::choose(split, resolved, masks, &base, choice);
    let file = (0..base.files().len()).find(|at| division.extension(*at).is_some());
    let mut file_of = base.partitioned_file(file.unwrap()).unwrap();
    file_of.extensions = division.extension(file.unwrap());
    let source = base.source(TableParquetOptions::default());
    let source: Arc<dyn FileSource> = PatchSource::new(source, Arc::new(division)).into();
    let arrow = Arc::clone(source.table_schema().table_schema());
    let k = physical::col("k", &arrow).unwrap();
    let order = LexOrdering::new([PhysicalSortExpr::new_default(k)]).unwrap();
    let filter = ctx
        .state()
        .create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&arrow)).unwrap());
    let pushed = source.try_pushdown_filters(vec![filter.unwrap()], ctx.state().config_options());
    let source = pushed.unwrap().updated_node.unwrap();
    let config = base
        .config(source, vec![vec![file_of].into()])
        .with_output_ordering(vec![order])
        .with_batch_size(Some(16))
        .build();
    let leaf = DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>;
    let rows = collect(Arc::clone(&leaf), ctx.task_ctx()).await.unwrap();
    (numbers(&rows, "k"), leaf)
}

#[tokio::test]
async fn rows_from_the_overlay_take_their_place_where_order_matters() {
    let mut scene = scene(&mut Dice(7)).await;
    for row in [10, 11, 70, 310, 500, 599] {
        scene.set(row, "a", Value::Long(300));
    }
    scene.delete(305);
    scene.set(20, "b", Value::String("no part of the filter".to_owned()));
    let within = col("a").gt_eq(lit(290_i64)).and(col("a").lt(lit(330_i64)));
    let (found, leaf) = in_order(&scene, within).await;
    let read = found.iter().filter(|k| (256..384).contains(*k)).count();
    assert!(
        read >= 40,
        "the row groups that may have a row are read: {found:?}"
    );
    let elsewhere: Vec<i64> = found
        .iter()
        .copied()
        .filter(|k| !(192..448).contains(k))
        .collect();
    assert_eq!(elsewhere, [10, 11, 70, 500, 599]);
    assert!(found.is_sorted(), "{found:?}");
    assert!(!found.contains(&305));
    assert!(leaf.output_ordering().is_some());
}

#[tokio::test]
async fn ranges_of_a_file_give_each_row_to_one_partition() {
    let mut scene = scene(&mut Dice(8)).await;
    (0..600)
        .step_by(3)
        .for_each(|row| scene.set(row, "k", Value::Long(300)));
    (1..600).step_by(50).for_each(|row| scene.delete(row));
    let left = (0..600_i64).filter(|row| row % 50 != 1);
    let matching = left.filter(|row| row % 3 == 0 || (290..310).contains(row));
    let expected = i64::try_from(matching.count()).unwrap();
    let ctx = session(&scene.view().warehouse);
    let state = ctx.state_ref();
    state
        .write()
        .config_mut()
        .options_mut()
        .optimizer
        .repartition_file_min_size = 1;
    let ids = scene
        .frame(&ctx, Touched::Patched)
        .select(vec![col("row_id"), col("k")])
        .unwrap();
    for parts in [1, 2, 3, 7] {
        let state = ctx.state_ref();
        state
            .write()
            .config_mut()
            .options_mut()
            .execution
            .target_partitions = parts;
        let table = UnionTable::new(scene.view(), None).unwrap();
        let all = ctx.read_table(Arc::new(table)).unwrap();
        let few = all
            .filter(col("k").gt_eq(lit(290_i64)).and(col("k").lt(lit(310_i64))))
            .unwrap();
        let counted = few
            .aggregate(vec![], vec![count(lit(1_i64)).alias("n")])
            .unwrap();
        let shown = plan(&counted).await;
        assert!(
            parts == 1 || shown.contains(&format!("{{{parts} groups")),
            "{shown}"
        );
        let rows = counted.collect().await.unwrap();
        assert_eq!(numbers(&rows, "n"), [expected], "{shown}");
    }
    assert_eq!(ids.count().await.unwrap(), 1_788);
}
