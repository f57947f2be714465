//! Bases with delete files: what is dead in them, and that nobody is given it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use iceberg::table::Table;
use lakesync_proto::{RowId, TableName};
use parquet::arrow::ArrowWriter;

use super::*;
use crate::foreign::Layout;
use crate::lake::{
    Commit, PositionDeletes, WriteOptions, live_files, write_data_files, write_position_deletes,
};
use crate::resolve::base_rows;
use crate::scan::tests::{
    Scene, filters_inside, numbers, plan, row_id, scene, scene_in_order, scene_of,
};
use crate::session::session;
use crate::union::Touched;

/// Rows `row <v>`; a row may be of any `v`.
fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    let ids = rows.iter().map(|(row, _)| row_id(*row).to_string());
    let v = rows.iter().map(|(_, v)| *v);
    let texts = rows.iter().map(|(_, v)| format!("text {}", v % 7));
    let columns: [(&str, ArrayRef); 3] = [
        ("row_id", Arc::new(StringArray::from_iter_values(ids))),
        ("v", Arc::new(Int64Array::from_iter_values(v))),
        ("s", Arc::new(StringArray::from_iter_values(texts))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

impl Scene {
    async fn base(&self) -> Table {
        let t = TableName::parse("t").unwrap();
        let live = &self.live;
        live.warehouse()
            .load(live.gateway(), &t)
            .await
            .unwrap()
            .base
    }

    async fn data(&self) -> Vec<DataFileInfo> {
        let files = live_files(&self.base().await, None).await.unwrap();
        let data = |file: &DataFileInfo| file.content == DataContentType::Data;
        files.into_iter().filter(data).collect()
    }

    /// Commits files and publishes the base.
    async fn commit(&self, commit: Commit<'_>) {
        let live = &self.live;
        let base = self.base().await;
        let base = commit.run(live.warehouse(), base.identifier()).await;
        let t = TableName::parse("t").unwrap();
        live.compacted(&t, base.unwrap()).unwrap();
    }

    /// Adds a file of rows, and takes away rows by position, in one commit.
    async fn replace(&self, new: &[(i64, i64)], dead: &[(&DataFileInfo, Vec<u64>)]) {
        let base = self.base().await;
        let options = WriteOptions::new("test");
        let data = match new {
            [] => Vec::new(),
            new => write_data_files(&base, vec![rows(new)], &options)
                .await
                .unwrap(),
        };
        let dead = dead.iter().map(|(file, positions)| PositionDeletes {
            path: file.path.clone(),
            partition: file.partition.clone(),
            positions: positions.iter().copied().collect(),
        });
        let dead: Vec<_> = dead.collect();
        let deletes = write_position_deletes(&base, &dead, &options)
            .await
            .unwrap();
        self.commit(Commit::row_delta(data, deletes)).await;
    }

    /// A file with these columns that no manifest names yet.
    async fn file(&self, name: &str, columns: Vec<(Arc<Field>, ArrayRef)>) -> DataFileBuilder {
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let path = format!(
            "{}/data/{name}.parquet",
            self.base().await.metadata().location()
        );
        let file = File::create(path.strip_prefix("file://").unwrap()).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = {
            writer.finish().unwrap();
            writer.bytes_written()
        };
        let mut built = DataFileBuilder::default();
        built
            .file_path(path)
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .partition_spec_id(0)
            .record_count(u64::try_from(batch.num_rows()).unwrap())
            .file_size_in_bytes(u64::try_from(bytes).unwrap());
        built
    }

    /// An equality-delete file with these rows' ids.
    async fn equality(&self, name: &str, dead: &[i64]) -> DataFile {
        let base = self.base().await;
        let schema = base.metadata().current_schema();
        let id = schema.field_id_by_name("row_id").unwrap();
        let ids = dead.iter().map(|row| row_id(*row).to_string());
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        let column = Layout::column(id, "row_id", DataType::Utf8);
        let mut file = self.file(name, vec![(column, ids)]).await;
        file.content(DataContentType::EqualityDeletes)
            .equality_ids(Some(vec![id]))
            .build()
            .unwrap()
    }

    async fn dead(&self) -> Arc<Dead> {
        let view = self.view();
        view.base.dead(&view.warehouse).await.unwrap()
    }

    /// All rows by id, in every way in which the base is read; and how many they are, without a scan.
    async fn says(&self, expected: &BTreeMap<i64, i64>) {
        let view = self.view();
        let ctx = session(&view.warehouse);
        for ctx in [&ctx, &filters_inside(&view)] {
            for touched in [Touched::Patched, Touched::Masked, Touched::Joined] {
                said(self.frame(ctx, touched), expected).await;
            }
        }
        self.base_says(expected, &ctx).await;
    }

    /// The base's own rows, read by id, are no others than those that a scan of the base gives.
    async fn base_says(&self, expected: &BTreeMap<i64, i64>, ctx: &SessionContext) {
        let view = self.view();
        let base = view.base.scan(&view.warehouse).await.unwrap();
        let scanned = by_id(ctx.read_table(Arc::new(base)).unwrap()).await;
        let ids: Vec<RowId> = expected
            .keys()
            .chain(scanned.keys())
            .copied()
            .map(row_id)
            .collect();
        let found = base_rows(ctx, &view, ids.iter()).await.unwrap();
        let mut by_ids: Vec<&str> = found.keys().map(RowId::as_str).collect();
        let scanned: Vec<RowId> = scanned.keys().copied().map(row_id).collect();
        let mut scanned: Vec<&str> = scanned.iter().map(RowId::as_str).collect();
        by_ids.sort_unstable();
        scanned.sort_unstable();
        assert_eq!(by_ids, scanned);
    }
}

/// Whether a filter keeps a row, by its number and its value.
type Holds<'a> = &'a dyn Fn(i64, i64) -> bool;

/// That a frame has these rows, whatever is asked of it.
async fn said(all: DataFrame, expected: &BTreeMap<i64, i64>) {
    let shown = plan(all.clone()).await;
    assert_eq!(by_id(all.clone()).await, *expected, "{shown}");
    assert_eq!(all.clone().count().await.unwrap(), expected.len());
    let mut values: Vec<i64> = expected.values().copied().collect();
    values.sort_unstable();
    let middle = values.get(values.len() / 2).copied().unwrap_or(0);
    let holds: [(Expr, Holds<'_>); 3] = [
        (col("v").gt_eq(lit(middle)), &|_, v| v >= middle),
        (
            col("v").lt(lit(middle)).and(col("v").gt(lit(middle - 40))),
            &|_, v| v < middle && v > middle - 40,
        ),
        (col("row_id").eq(lit(row_id(middle).as_str())), &|row, _| {
            row == middle
        }),
    ];
    for (filter, holds) in holds {
        let by_hand = expected.iter().filter(|(row, v)| holds(**row, **v));
        let by_hand: BTreeMap<i64, i64> = by_hand.map(|(row, v)| (*row, *v)).collect();
        let some = all.clone().filter(filter.clone()).unwrap();
        assert_eq!(by_id(some.clone()).await, by_hand, "{filter}: {shown}");
        let few = by_id(some.limit(0, Some(7)).unwrap()).await;
        assert_eq!(few.len(), by_hand.len().min(7), "{filter}: {shown}");
        assert!(
            few.iter().all(|row| by_hand.contains_key(row.0)),
            "{filter}: {shown}"
        );
    }
    let few = by_id(all.clone().limit(0, Some(7)).unwrap()).await;
    assert!(few.len() == expected.len().min(7), "{shown}");
    assert!(
        few.iter().all(|row| expected.contains_key(row.0)),
        "{shown}"
    );
    for (extreme, is) in [
        (min(col("v")), values.first()),
        (max(col("v")), values.last()),
    ] {
        let found = all.clone().aggregate(vec![], vec![extreme.alias("v")]);
        assert_eq!(numbers(found.unwrap()).await.first(), is, "{shown}");
    }
    let first = all.sort(vec![col("v").sort(true, false)]).unwrap();
    let first = numbers(first.limit(0, Some(9)).unwrap()).await;
    assert_eq!(first, values[..values.len().min(9)], "{shown}");
}

/// The rows of a frame: the number of each, and its `v`; no row comes twice.
async fn by_id(frame: DataFrame) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    for batch in frame.collect().await.unwrap() {
        let ids = cast(batch.column_by_name("row_id").unwrap(), &DataType::Utf8).unwrap();
        let ids = ids.as_string::<i32>();
        let v = batch.column_by_name("v").unwrap();
        let v = v.as_primitive::<Int64Type>();
        for (id, v) in ids.iter().zip(v) {
            let row = id.unwrap().strip_prefix("row ").unwrap().parse().unwrap();
            let before = found.insert(row, v.unwrap());
            assert_eq!(before, None, "row {row} came twice");
        }
    }
    found
}

/// So many rows `v = 0 ..`, each in its place.
fn all(rows: i64) -> BTreeMap<i64, i64> {
    (0..rows).map(|row| (row, row)).collect()
}

/// A small random number generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[tokio::test]
async fn dead_rows_are_in_no_answer_few_or_many_scattered_or_together() {
    for dead in [
        // Few, which the reader skips; many, which are filtered out; a row group and more; the ends.
        vec![7, 20_999, 21_000],
        (0..50_000).step_by(3).collect(),
        (30_000..42_000).collect(),
        vec![0, 49_999],
    ] {
        let mut scene = scene().await;
        let [_, large] = &scene.data().await[..] else {
            panic!("two files");
        };
        let positions = dead.iter().map(|at| u64::try_from(*at).unwrap());
        let large = large.clone();
        scene.replace(&[], &[(&large, positions.collect())]).await;
        let mut expected = all(51_000);
        dead.iter().for_each(|at| {
            expected.remove(&(1_000 + at));
        });
        assert_eq!(
            scene.dead().await.rows(),
            u64::try_from(dead.len()).unwrap()
        );
        scene.says(&expected).await;
        // Over it, deltas of living rows, of dead ones, and of others.
        let living = expected.keys().rev().nth(3).copied().unwrap();
        for (row, to) in [
            (living, Some(-5)),
            (1_000 + dead[0], Some(-6)),
            (90_000, Some(-7)),
        ] {
            scene.edit(row, to);
            expected.extend(to.map(|to| (row, to)));
        }
        scene.edit(5, None);
        expected.remove(&5);
        scene.says(&expected).await;
    }
}

#[tokio::test]
async fn a_row_may_be_dead_in_several_files_and_live_in_one() {
    let mut scene = scene_of(&[(0..100, 30), (100..200, 100)], row_id).await;
    let mut expected = all(200);
    let [first, second] = &scene.data().await[..] else {
        panic!("two files");
    };
    let (first, second) = (first.clone(), second.clone());
    scene
        .replace(
            &[(3, 1_003), (150, 1_150)],
            &[(&first, vec![3]), (&second, vec![50])],
        )
        .await;
    expected.extend([(3, 1_003), (150, 1_150)]);
    scene.says(&expected).await;
    let data = scene.data().await;
    let third = data.iter().find(|file| file.rows == 2).unwrap().clone();
    // Once more, and this time in the newest file; its other row stays.
    scene.replace(&[(3, 2_003)], &[(&third, vec![0])]).await;
    expected.insert(3, 2_003);
    scene.says(&expected).await;
    let dead = scene.dead().await;
    assert_eq!(dead.of(&first.path).unwrap().positions(), [3]);
    assert_eq!(dead.deletes_of(&first.path).count(), 1);
    assert_eq!(dead.delete_files().len(), 3);
    // It is patched where it lives.
    scene.edit(3, Some(7));
    scene.edit(150, None);
    scene.edit(4, Some(8));
    expected.extend([(3, 7), (4, 8)]);
    expected.remove(&150);
    scene.says(&expected).await;
    let view = scene.view();
    let resolved = view.resolved().await.unwrap();
    assert!(resolved.masks.is_some(), "every place is known");
    let work = resolved.work;
    assert_eq!(work.rows_read, 3, "{work:?}");
}

#[tokio::test]
async fn random_dead_rows_under_random_deltas_are_a_models() {
    let mut dice = Dice(0x5eed);
    for round in 0..3_i64 {
        let mut scene = scene_of(&[(0..400, 64), (400..500, 100), (500..2_000, 700)], row_id).await;
        let mut expected = all(2_000);
        let mut next = 10_000;
        for _ in 0..4 {
            let mut dead: Vec<(DataFileInfo, Vec<u64>)> = Vec::new();
            let share = [2, 5, 50, 400][usize::try_from(dice.below(4)).unwrap()];
            let known = scene.dead().await;
            for file in scene.data().await {
                let living = (0..file.rows).filter(|at| {
                    let at = u32::try_from(*at).unwrap();
                    known.of(&file.path).is_none_or(|dead| !dead.contains(at))
                });
                let positions: Vec<u64> = living.filter(|_| dice.below(share) == 0).collect();
                if !positions.is_empty() {
                    dead.push((file, positions));
                }
            }
            let mut new = Vec::new();
            for (file, positions) in &dead {
                let ids = ids_of_file(&scene, file).await;
                for at in positions {
                    let row = ids[usize::try_from(*at).unwrap()];
                    if dice.below(3) == 0 {
                        expected.remove(&row);
                    } else {
                        next += 1;
                        new.push((row, next));
                        expected.insert(row, next);
                    }
                }
            }
            let dead: Vec<_> = dead.iter().map(|(file, at)| (file, at.clone())).collect();
            scene.replace(&new, &dead).await;
            scene.says(&expected).await;
        }
        for _ in 0..40 {
            let row = i64::try_from(dice.below(2_100)).unwrap();
            let to = (dice.below(3) > 0).then_some(-row - round);
            scene.edit(row, to);
            expected.remove(&row);
            expected.extend(to.map(|to| (row, to)));
        }
        scene.says(&expected).await;
    }
}

/// The rows of a file, dead ones too, in its order.
async fn ids_of_file(scene: &Scene, file: &DataFileInfo) -> Vec<i64> {
    let view = scene.view();
    let files = Arc::from([file.clone()]);
    let table = ParquetTable::open(&view.warehouse, &view.base.table, files).unwrap();
    let ctx = session(&view.warehouse);
    ctx.state_ref()
        .write()
        .config_mut()
        .options_mut()
        .execution
        .target_partitions = 1;
    let frame = ctx.read_table(Arc::new(table)).unwrap();
    let mut rows = Vec::new();
    for batch in frame.collect().await.unwrap() {
        let ids = batch.column_by_name("row_id").unwrap().as_string::<i32>();
        let ids = ids.iter().flatten();
        rows.extend(ids.map(|id| id.strip_prefix("row ").unwrap().parse::<i64>().unwrap()));
    }
    rows
}

#[tokio::test]
async fn equality_deletes_take_rows_of_older_files_only() {
    let mut scene = scene_of(&[(0..100, 30), (100..12_000, 5_000)], row_id).await;
    let mut expected = all(12_000);
    let base = scene.base().await;
    let options = WriteOptions::new("test");
    let new = write_data_files(&base, vec![rows(&[(5, -5), (200, -200)])], &options).await;
    let deletes = scene.equality("eq-1", &[5, 6, 200, 11_999, 77_777]).await;
    scene
        .commit(Commit::row_delta(new.unwrap(), vec![deletes]))
        .await;
    expected.extend([(5, -5), (200, -200)]);
    expected.retain(|row, _| *row != 6 && *row != 11_999);
    assert_eq!(scene.dead().await.rows(), 4);
    scene.says(&expected).await;
    // The next one takes the replacement too, and leaves what comes with it.
    let base = scene.base().await;
    let new = write_data_files(&base, vec![rows(&[(5, -55)])], &options).await;
    let deletes = scene.equality("eq-2", &[5, 200]).await;
    scene
        .commit(Commit::row_delta(new.unwrap(), vec![deletes]))
        .await;
    expected.insert(5, -55);
    expected.remove(&200);
    assert_eq!(scene.dead().await.rows(), 6);
    scene.says(&expected).await;
    scene.edit(5, Some(1));
    scene.edit(6, Some(2));
    scene.edit(200, Some(3));
    expected.extend([(5, 1), (6, 2), (200, 3)]);
    scene.says(&expected).await;
    let dead = scene.dead().await;
    assert_eq!(dead.delete_files().len(), 2);
}

#[tokio::test]
async fn equality_deletes_by_other_columns_than_the_row_id_are_refused_by_name() {
    let scene = scene_of(&[(0..100, 100)], row_id).await;
    let base = scene.base().await;
    let id = base
        .metadata()
        .current_schema()
        .field_id_by_name("v")
        .unwrap();
    let column = Layout::column(id, "v", DataType::Int64);
    let v: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let mut file = scene.file("eq", vec![(column, v)]).await;
    file.content(DataContentType::EqualityDeletes)
        .equality_ids(Some(vec![id]));
    scene
        .commit(Commit::row_delta(vec![], vec![file.build().unwrap()]))
        .await;
    let view = scene.view();
    let error = view
        .base
        .scan(&view.warehouse)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("eq.parquet"), "{error}");
    assert!(error.contains("other columns than row_id"), "{error}");
}

#[tokio::test]
async fn a_delete_file_of_many_data_files_applies_to_each_by_its_paths() {
    let scene = scene_of(&[(0..100, 30), (100..200, 100)], row_id).await;
    let data = scene.data().await;
    let gone = "file:///gone.parquet";
    let paths = [
        &data[0].path,
        gone,
        &data[1].path,
        &data[0].path,
        &data[0].path,
    ];
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(paths));
    // One position is beyond the file, one row is named twice.
    let pos: ArrayRef = Arc::new(Int64Array::from(vec![3, 1, 99, 3, 100]));
    let columns = vec![
        (
            Layout::column(2_147_483_546, "file_path", DataType::Utf8),
            paths,
        ),
        (Layout::column(2_147_483_545, "pos", DataType::Int64), pos),
    ];
    let mut file = scene.file("many", columns).await;
    file.content(DataContentType::PositionDeletes);
    scene
        .commit(Commit::row_delta(vec![], vec![file.build().unwrap()]))
        .await;
    let mut expected = all(200);
    expected.retain(|row, _| *row != 3 && *row != 199);
    scene.says(&expected).await;
    let dead = scene.dead().await;
    assert_eq!(dead.rows(), 2);
    assert_eq!(dead.deletes_of(&data[0].path).count(), 0);
}

#[tokio::test]
async fn a_file_that_is_all_dead_is_not_opened_and_a_base_of_such_files_is_empty() {
    let mut scene = scene_of(&[(0..100, 30), (100..200, 100)], row_id).await;
    let data = scene.data().await;
    scene.replace(&[], &[(&data[0], (0..100).collect())]).await;
    let mut expected = all(200);
    expected.retain(|row, _| *row >= 100);
    scene.says(&expected).await;
    let ctx = session(&scene.view().warehouse);
    let shown = plan(scene.frame(&ctx, Touched::Patched)).await;
    let file = data[0].path.rsplit('/').next().unwrap();
    assert!(!shown.contains(file), "{shown}");
    scene.replace(&[], &[(&data[1], (0..100).collect())]).await;
    expected.clear();
    scene.says(&expected).await;
    scene.edit(4, Some(1));
    expected.insert(4, 1);
    scene.says(&expected).await;
}

#[tokio::test]
async fn a_view_keeps_the_dead_rows_of_its_snapshot() {
    let mut scene = scene_of(&[(0..100, 30)], row_id).await;
    scene.edit(7, Some(70));
    let before = scene.view();
    let file = scene.data().await.remove(0);
    scene.replace(&[(8, 80)], &[(&file, vec![8])]).await;
    let after = scene.view();
    let rows = |view: &Arc<crate::view::ReadView>| {
        let table = crate::union::UnionTable::new(Arc::clone(view), None).unwrap();
        by_id(
            session(&view.warehouse)
                .read_table(Arc::new(table))
                .unwrap(),
        )
    };
    let mut expected = all(100);
    expected.insert(7, 70);
    assert_eq!(rows(&before).await, expected);
    expected.insert(8, 80);
    assert_eq!(rows(&after).await, expected);
    assert_eq!(rows(&after).await, expected);
}

#[tokio::test]
async fn the_plan_says_how_many_rows_are_dead_and_counts_without_a_scan() {
    let mut scene = scene().await;
    let data = scene.data().await;
    let small = data.iter().find(|file| file.rows == 1_000).unwrap();
    scene.replace(&[], &[(small, vec![1, 2, 3])]).await;
    let ctx = session(&scene.view().warehouse);
    let all = scene.frame(&ctx, Touched::Patched);
    let shown = plan(all.clone()).await;
    assert!(
        shown.contains("files_plain=1, files_masked=1, dead_rows=3"),
        "{shown}"
    );
    let counted = all
        .aggregate(vec![], vec![count(lit(1_i64)).alias("v")])
        .unwrap();
    let shown = plan(counted.clone()).await;
    assert!(!shown.contains("DataSourceExec"), "{shown}");
    assert_eq!(numbers(counted).await, [50_997]);
    scene.edit(9, Some(90));
    let shown = plan(scene.frame(&ctx, Touched::Patched)).await;
    let said = "files_plain=1, files_patched=1, files_masked=0, masked_rows=0, patched_rows=1, dead_rows=3, \
                overlay_rows=0, view_seq=8, base_seq=7";
    assert!(shown.contains(said), "{shown}");
    let shown = plan(scene.frame(&ctx, Touched::Joined)).await;
    assert!(shown.contains("dead_rows=3"), "{shown}");
}

#[tokio::test]
async fn files_keep_their_order_without_their_dead_rows() {
    let definition = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}, {"name": "s", "type": "string"}]}"#;
    let files = [0..500, 500..1_000].map(|span| {
        let some: Vec<(i64, i64)> = span.map(|v| (v, v)).collect();
        (rows(&some), 100)
    });
    let scene = scene_in_order(definition, Some("v"), files.into()).await;
    let data = scene.data().await;
    let dead: Vec<_> = data
        .iter()
        .map(|file| (file, (0..file.rows).step_by(2).collect()))
        .collect();
    scene.replace(&[], &dead).await;
    let ctx = session(&scene.view().warehouse);
    let sorted = scene.frame(&ctx, Touched::Patched);
    let sorted = sorted.sort(vec![col("v").sort(true, false)]).unwrap();
    let shown = plan(sorted.clone()).await;
    assert!(!shown.contains("SortExec"), "{shown}");
    let batches = sorted.collect().await.unwrap();
    let found = batches.iter().flat_map(|batch| {
        let v = batch.column_by_name("v").unwrap();
        v.as_primitive::<Int64Type>().values().to_vec()
    });
    let odd: Vec<i64> = (0..1_000).filter(|v| v % 2 == 1).collect();
    assert_eq!(found.collect::<Vec<i64>>(), odd);
}

#[tokio::test]
async fn a_base_that_is_told_late_changes_nothing_and_other_files_of_the_same_rows_keep_what_is_hot()
 {
    let mut scene = scene_of(&[(0..100, 30)], row_id).await;
    scene.edit(7, Some(70));
    scene.edit(8, None);
    let mut expected = all(100);
    expected.insert(7, 70);
    expected.remove(&8);
    scene.says(&expected).await;
    let t = TableName::parse("t").unwrap();
    let (base, file) = (scene.base().await, scene.data().await.remove(0));
    let snapshot = base.metadata().current_snapshot_id().unwrap();
    // The same rows in other files, in another order: every position is another one.
    let backwards: Vec<(i64, i64)> = (0..100).rev().map(|row| (row, row)).collect();
    let options = WriteOptions::new("test");
    let new = write_data_files(&base, vec![rows(&backwards)], &options)
        .await
        .unwrap();
    let rewrite = Commit::rewrite(snapshot, [file.path.clone()], new);
    let warehouse = scene.live.warehouse().clone();
    let rewritten = rewrite.run(&warehouse, base.identifier()).await.unwrap();
    scene.live.compacted(&t, rewritten.clone()).unwrap();
    scene.says(&expected).await;
    let folded = Commit::append(vec![]).with_property(crate::lake::summary::BASE_SEQ, 8);
    let folded = folded.run(&warehouse, base.identifier()).await.unwrap();
    scene.live.compacted(&t, folded.clone()).unwrap();
    let newest = scene.view().base.snapshot_id;
    assert_eq!(newest, folded.metadata().current_snapshot_id());
    assert_eq!(
        scene.view().hot_deltas().count(),
        1,
        "the first is in the base"
    );
    for late in [rewritten, base] {
        scene.live.compacted(&t, late).unwrap();
        assert_eq!(scene.view().base.snapshot_id, newest);
    }
}

#[test]
fn positions_beyond_the_file_are_none_and_the_dead_are_taken_from_what_is_sought() {
    assert_eq!(DeadRows::new(vec![9, 10, 11], 9), None);
    let dead = DeadRows::new(vec![9, 3, 3, 11, 5], 10).unwrap();
    assert_eq!(dead.positions(), [3, 5, 9]);
    assert!(dead.contains(5) && !dead.contains(4));
    for (sought, left) in [
        (vec![], vec![]),
        (vec![0, 3, 4, 5, 6, 9, 10], vec![0, 4, 6, 10]),
        (vec![4, 6], vec![4, 6]),
        (vec![9], vec![]),
        (vec![10, 12], vec![10, 12]),
    ] {
        let mut some = sought.clone();
        dead.take_from(&mut some);
        assert_eq!(some, left, "{sought:?}");
    }
}
