//! The patched, the masked and the joined read against the oracle, on random histories and random queries: filters on every
//! column, limits, the first rows by a column, aggregates, counts and joins.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, JoinType, col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_proto::TableSchema;
use lakesync_providers::{Touched, UnionTable, session};
use lakesync_tests::cells;
use lakesync_tests::history::{History, Rng, Shape, Step};
use lakesync_tests::layouts::give;
use lakesync_tests::oracle::AsOf;
use lakesync_tests::scattered::scatter;
use lakesync_tests::world::World;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn patched_masked_and_joined_reads_agree_with_the_oracle_whatever_is_asked() {
    let shape = Shape {
        rows: 16,
        push_deltas: 8,
        ..Shape::default()
    };
    let (mut patched, mut masked, mut dead) = (0, 0, 0);
    for seed in 0..seeds() {
        let mut history = History::generate(seed, shape);
        if seed % 2 == 1 {
            give(&mut history, &mut Rng::new(seed));
        }
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        let mut rng = Rng::new(seed);
        for step in &history.steps {
            world.step(step).await;
            if matches!(step, Step::Compact) && rng.chance(60) {
                for schema in &world.schemas {
                    let percent = rng.pick(&[10, 60]).to_owned();
                    let gateway = world.gateway();
                    dead += scatter(gateway.live(), schema.table.as_str(), percent, &mut rng).await;
                }
            }
            let mut asks = matches!(step, Step::Push(_)) && rng.chance(40);
            if rng.chance(20) {
                world.chore(&mut rng).await;
                asks = true;
            }
            for schema in world.schemas.iter().filter(|_| asks) {
                let asked = Asked::new(&world, schema, &mut rng).await;
                patched += said(&asked.ways[0], "patched_rows=").await;
                masked += said(&asked.ways[1], "masked_rows=").await;
                asked.all().await;
            }
        }
    }
    assert!(dead > 0, "some rows of a base were dead");
    assert!(masked > 0, "some rows of a base were masked");
    assert!(patched > 0, "some rows of a base were patched");
}

/// One table at one moment, read in three ways.
struct Asked<'a> {
    seed: u64,
    schema: &'a TableSchema,
    rng: &'a mut Rng,
    ways: [DataFrame; 3],
    /// What the oracle says, as a plain table.
    truth: DataFrame,
    rows: RecordBatch,
}

impl<'a> Asked<'a> {
    /// All rows, in every way, are the oracle's.
    async fn new(world: &World, schema: &'a TableSchema, rng: &'a mut Rng) -> Asked<'a> {
        let view = world.gateway().live().view(schema.table.as_str()).unwrap();
        let ctx = session(&view.warehouse);
        inside(&ctx, rng.chance(50), rng.pick(&[3, 8_192, 8_192]));
        let frame = |touched| {
            let table = UnionTable::new(Arc::clone(&view), None).unwrap();
            ctx.read_table(Arc::new(table.with_touched(touched)))
                .unwrap()
        };
        let ways = [Touched::Patched, Touched::Masked, Touched::Joined].map(frame);
        let expected = world.expected(schema, AsOf::NOW);
        for way in &ways {
            let batches = way.clone().collect().await.unwrap();
            let found = cells::rows(schema, &batches);
            assert_eq!(found, expected, "seed {}, {}", world.seed, schema.table);
        }
        let all = ways[0].clone().collect().await.unwrap();
        let arrow = Arc::clone(ways[0].schema().inner());
        let rows = arrow::compute::concat_batches(&arrow, &all).unwrap();
        Asked {
            seed: world.seed,
            schema,
            rng,
            truth: ctx.read_batch(rows.clone()).unwrap(),
            ways,
            rows,
        }
    }

    /// Asks about one column.
    async fn all(mut self) {
        let column = self.rng.pick(&self.schema.columns).name.to_string();
        let filter = self.filter(&column);
        let k = usize::try_from(self.rng.between(1, 6)).unwrap();
        let by = |rows: DataFrame| {
            let order = vec![
                col(&column).sort(k % 2 == 0, k % 3 == 0),
                col("row_id").sort(true, false),
            ];
            rows.sort(order)?.limit(0, Some(k))
        };
        let counted = || {
            let cell = || col(&column);
            vec![
                count(lit(1_i64)).alias("all"),
                count(cell()).alias("known"),
                min(cell()).alias("least"),
                max(cell()).alias("greatest"),
                max(col("row_id")).alias("last"),
            ]
        };
        self.same(|rows| rows.filter(filter.clone())).await;
        self.same(|rows| rows.select(vec![col(&column)])).await;
        self.same(by).await;
        self.same(|rows| by(rows.filter(filter.clone())?)).await;
        self.same(|rows| rows.aggregate(vec![], vec![count(lit(1_i64))]))
            .await;
        self.same(|rows| rows.aggregate(vec![], counted())).await;
        self.same(|rows| rows.filter(filter.clone())?.aggregate(vec![], counted()))
            .await;
        self.same(|rows| rows.aggregate(vec![col(&column)], vec![count(lit(1_i64))]))
            .await;
        self.same(|rows| joined(rows, &column, &filter)).await;
        self.limited(&filter, k).await;
    }

    /// A filter on a column, with the value of a row for a bound.
    fn filter(&mut self, column: &str) -> Expr {
        let cell = col(column);
        let some = self.value(column);
        let other = self.value(column);
        match self.rng.below(8) {
            0 => cell.is_null(),
            1 => cell.is_not_null(),
            2 => cell.eq(some),
            3 => cell.not_eq(some),
            4 => cell.lt(some),
            5 => cell.gt_eq(some),
            6 => cell.in_list(vec![some, other], false),
            _ => cell.gt_eq(some).or(col("row_id").eq(self.value("row_id"))),
        }
    }

    fn value(&mut self, column: &str) -> Expr {
        let values = self.rows.column_by_name(column).unwrap();
        let null = ScalarValue::try_from(values.data_type()).unwrap();
        let rows = u64::try_from(values.len()).unwrap();
        let row = usize::try_from(self.rng.below(rows.max(1))).unwrap();
        let value = (rows > 0).then(|| ScalarValue::try_from_array(values, row).unwrap());
        lit(value.unwrap_or(null))
    }

    /// The question has one answer, in every way of reading.
    async fn same(&self, ask: impl Fn(DataFrame) -> datafusion::error::Result<DataFrame>) {
        let truth = self.answer(&ask, &self.truth).await;
        for way in &self.ways {
            let found = self.answer(&ask, way).await;
            let plan = ask(way.clone()).unwrap().into_optimized_plan().unwrap();
            assert_eq!(found, truth, "seed {}: {plan}", self.seed);
        }
    }

    async fn answer(
        &self,
        ask: impl Fn(DataFrame) -> datafusion::error::Result<DataFrame>,
        rows: &DataFrame,
    ) -> Vec<String> {
        let frame = ask(rows.clone()).unwrap();
        let batches = frame.collect().await;
        lines(&batches.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)))
    }

    /// A limit without an order may give any rows, but only those of the table, each once, and no fewer than there are.
    async fn limited(&self, filter: &Expr, k: usize) {
        let matching = self
            .answer(|rows| rows.filter(filter.clone()), &self.truth)
            .await;
        let few = |rows: DataFrame| rows.filter(filter.clone())?.limit(0, Some(k));
        for way in &self.ways {
            let found = self.answer(few, way).await;
            assert_eq!(found.len(), k.min(matching.len()), "seed {}", self.seed);
            let mut rest = matching.clone();
            for row in &found {
                let at = rest.iter().position(|other| other == row);
                rest.remove(at.unwrap_or_else(|| panic!("seed {}: {row}", self.seed)));
            }
        }
    }
}

/// Rows whose cell equals that of a row that matches the filter.
fn joined(rows: DataFrame, column: &str, filter: &Expr) -> datafusion::error::Result<DataFrame> {
    let left = rows
        .clone()
        .filter(filter.clone())?
        .select(vec![col("row_id").alias("one"), col(column).alias("cell")])?;
    left.join(rows, JoinType::Inner, &["cell"], &[column], None)
}

/// Whether the Parquet reader itself filters, and how many rows a batch has.
fn inside(ctx: &SessionContext, filters: bool, batch_rows: &usize) {
    let state = ctx.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    options.execution.parquet.pushdown_filters = filters;
    options.execution.batch_size = *batch_rows;
    options.optimizer.repartition_file_min_size = 1;
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

/// The number that EXPLAIN tells behind this word.
async fn said(way: &DataFrame, word: &str) -> u64 {
    let plan = way.clone().explain(false, false).unwrap();
    let shown = lines(&plan.collect().await.unwrap()).join("\n");
    let said = shown.split_once(word);
    said.map_or(0, |(_, after)| {
        let digits = after.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap()
    })
}
