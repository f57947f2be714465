//! Merges of random changes into random bases, held against a map of rows and read back by iceberg's own reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakesync_providers::lake::{
    Warehouse, WriteOptions, arrow_schema, live_files, summary, write_data_files,
};
use lakesync_providers::proto::{GatewayId, TableDefinition, TableSchema};
use lakesync_providers::{BaseSnapshot, FileRows, session};
use tempfile::TempDir;

use super::*;
use crate::fold::change_schema;

/// A row's `a`, `b` and `c`.
type Values = (Option<i64>, Option<String>, Option<f64>);

/// The rows of a table by their id.
type Model = BTreeMap<String, Values>;

/// Chance by a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    fn values(&mut self) -> Values {
        let a = (!self.percent(10)).then(|| i64::try_from(self.below(50)).unwrap());
        let b = (!self.percent(10)).then(|| format!("b{}", self.below(4)));
        let c = (!self.percent(10)).then(|| f64::from(u32::try_from(self.below(9)).unwrap()));
        (a, b, c)
    }
}

/// How a table lies.
const PLAIN: &str = "";
const SORTED: &str = r#", "sortBy": ["a"]"#;
const PARTITIONED: &str = r#", "partitionBy": ["b"]"#;
const BOTH: &str = r#", "partitionBy": ["b"], "sortBy": ["a desc"]"#;

struct Table {
    dir: TempDir,
    warehouse: Warehouse,
    gateway: GatewayId,
    schema: TableSchema,
    ctx: SessionContext,
    model: Model,
    seq: u64,
}

impl Table {
    async fn new(layout: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open_local(dir.path()).await.unwrap();
        let gateway = GatewayId::parse("public").unwrap();
        warehouse.create_namespace(&gateway).await.unwrap();
        let body = format!(
            r#"{{"table": "t", "columns": [{{"name": "id", "type": "string"}}, {{"name": "a", "type": "long"}},
              {{"name": "b", "type": "string"}}, {{"name": "c", "type": "number"}}], "primaryKey": ["id"]{layout}}}"#
        );
        let definition = TableDefinition::from_json(body.as_bytes()).unwrap();
        let schema = TableSchema::from_definition(&definition).unwrap();
        warehouse.create_table(&gateway, &schema).await.unwrap();
        let ctx = session(&warehouse);
        Self {
            dir,
            warehouse,
            gateway,
            schema,
            ctx,
            model: Model::new(),
            seq: 0,
        }
    }

    async fn base(&self) -> BaseSnapshot {
        let pair = self.warehouse.load(&self.gateway, &self.schema.table).await;
        BaseSnapshot::current(pair.unwrap().base).unwrap()
    }

    fn merge_into<'a>(&'a self, base: &'a BaseSnapshot) -> MergeInto<'a> {
        MergeInto {
            base,
            warehouse: &self.warehouse,
            schema: &self.schema,
            ctx: &self.ctx,
        }
    }

    /// A base of files with so many rows.
    async fn with_files(layout: &str, files: &[u64], chance: &mut Chance) -> Self {
        let mut table = Self::new(layout).await;
        let mut written = Vec::new();
        let base = table.base().await;
        for rows in files {
            let mut rows: Vec<(String, Values)> = (0..*rows)
                .map(|_| (format!("row {}", chance.next()), chance.values()))
                .collect();
            if layout.contains("sortBy") {
                rows.sort_by_key(|(_, values)| values.0);
            }
            let options = WriteOptions::new("test").with_keys();
            let batch = batch(&rows);
            written.extend(
                write_data_files(&base.table, vec![batch], &options)
                    .await
                    .unwrap(),
            );
            table.model.extend(rows);
        }
        table.seq = 1;
        Commit::append(written)
            .with_property(summary::BASE_SEQ, 1)
            .run(&table.warehouse, base.table.identifier())
            .await
            .unwrap();
        table
    }

    /// Random changes of about so many of a hundred rows, and what they make of the model.
    async fn changes(
        &mut self,
        base: &BaseSnapshot,
        share: u64,
        mode: WriteMode,
        chance: &mut Chance,
    ) -> Changes {
        let mut rows: Vec<Change> = Vec::new();
        let mut counts = ChangeCounts {
            by_file: vec![0; base.data_files(&self.warehouse).await.unwrap().len()],
            ..ChangeCounts::default()
        };
        for (file, position, id) in self.places(base).await {
            if !chance.percent(share) {
                continue;
            }
            let old = self.model[&id].clone();
            let mut change = Change::random(id, chance);
            change.place = Some((i32::try_from(file).unwrap(), position));
            let merged = change.on(&old);
            match change.exists {
                true => self.model.insert(change.id.clone(), merged),
                false => self.model.remove(&change.id),
            };
            let whole = change.set == [true; 3] || !change.exists;
            if mode == WriteMode::EqualityDeletes && whole {
                change.place = None;
                counts.elsewhere += 1;
            } else {
                counts.by_file[file] += 1;
            }
            rows.push(change);
        }
        for _ in 0..chance.below(30) {
            let change = Change::random(format!("row {}", chance.next()), chance);
            if change.exists {
                let merged = change.on(&(None, None, None));
                self.model.insert(change.id.clone(), merged);
            }
            counts.elsewhere += 1;
            rows.push(change);
        }
        rows.sort_by_key(|change| change.place.map_or((i32::MAX, 0), |place| place));
        let schema = change_schema(&self.schema, &arrow_schema(&base.table).unwrap());
        let size = 1 + usize::try_from(chance.below(700)).unwrap();
        let batches: Vec<_> = rows
            .chunks(size)
            .map(|rows| Ok(Change::batch(rows, &schema)))
            .collect();
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::iter(batches));
        Changes {
            schema,
            stream: Box::pin(stream),
            counts,
        }
    }

    /// Where the live rows are, by the order of files and positions.
    async fn places(&self, base: &BaseSnapshot) -> Vec<(usize, u32, String)> {
        let table = base.scan(&self.warehouse).await.unwrap();
        let dead = base.dead(&self.warehouse).await.unwrap();
        let mut places = Vec::new();
        for file in 0..base.data_files(&self.warehouse).await.unwrap().len() {
            let rows = FileRows::open(&table, file, self.ctx.task_ctx())
                .await
                .unwrap();
            let batches: Vec<RecordBatch> = rows.all().unwrap().try_collect().await.unwrap();
            let ids = batches
                .iter()
                .flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten());
            for (position, id) in (0_u32..).zip(ids) {
                if !dead.at(file).is_some_and(|dead| dead.contains(position)) {
                    places.push((file, position, id.to_owned()));
                }
            }
        }
        places
    }

    async fn commit(&mut self, base: &BaseSnapshot, merged: &Merged, kind: Kind) -> Result<()> {
        self.seq += u64::from(kind == Kind::Fold);
        let commit = merged
            .commit(base, kind)
            .with_property(summary::BASE_SEQ, self.seq);
        commit.run(&self.warehouse, base.table.identifier()).await?;
        Ok(())
    }

    /// What iceberg's own reader finds is what the model has.
    async fn check(&self, context: &str) {
        let table = self.base().await.table;
        let scan = table.scan().with_concurrency_limit(1).build().unwrap();
        let batches: Vec<RecordBatch> = scan.to_arrow().await.unwrap().try_collect().await.unwrap();
        let mut found = Model::new();
        for (id, values) in batches.iter().flat_map(rows) {
            assert!(
                found.insert(id.clone(), values).is_none(),
                "{id} is there twice: {context}"
            );
        }
        assert_eq!(found, self.model, "{context}");
        let mut sql = Model::new();
        let base = self.base().await.scan(&self.warehouse).await.unwrap();
        let batches = self
            .ctx
            .read_table(Arc::new(base))
            .unwrap()
            .collect()
            .await
            .unwrap();
        sql.extend(batches.iter().flat_map(rows));
        assert_eq!(sql, self.model, "{context}");
    }
}

/// One row of changes.
struct Change {
    place: Option<(i32, u32)>,
    id: String,
    exists: bool,
    set: [bool; 3],
    values: Values,
}

impl Change {
    fn random(id: String, chance: &mut Chance) -> Self {
        let whole = chance.percent(30);
        Self {
            place: None,
            id,
            exists: !chance.percent(20),
            set: [0; 3].map(|_| whole || chance.percent(50)),
            values: chance.values(),
        }
    }

    fn on(&self, old: &Values) -> Values {
        let [a, b, c] = self.set;
        let new = self.values.clone();
        (
            if a { new.0 } else { old.0 },
            if b { new.1 } else { old.1.clone() },
            if c { new.2 } else { old.2 },
        )
    }

    fn batch(rows: &[Self], schema: &datafusion::arrow::datatypes::SchemaRef) -> RecordBatch {
        let files: Int32Array = rows
            .iter()
            .map(|row| row.place.map(|place| place.0))
            .collect();
        let at: Int64Array = rows
            .iter()
            .map(|row| row.place.map(|place| i64::from(place.1)))
            .collect();
        let ids = StringArray::from_iter_values(rows.iter().map(|row| &row.id));
        let exists: BooleanArray = rows.iter().map(|row| Some(row.exists)).collect();
        let set = |n: usize| -> ArrayRef {
            let set: BooleanArray = rows.iter().map(|row| Some(row.set[n])).collect();
            Arc::new(set)
        };
        let a: Int64Array = rows.iter().map(|row| row.values.0).collect();
        let b: StringArray = rows.iter().map(|row| row.values.1.clone()).collect();
        let c: Float64Array = rows.iter().map(|row| row.values.2).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(files),
            Arc::new(at),
            Arc::new(ids.clone()),
            Arc::new(exists.clone()),
            Arc::new(exists),
            Arc::new(ids),
            set(0),
            Arc::new(a),
            set(1),
            Arc::new(b),
            set(2),
            Arc::new(c),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
    }
}

fn batch(rows: &[(String, Values)]) -> RecordBatch {
    let ids = StringArray::from_iter_values(rows.iter().map(|row| &row.0));
    let a: Int64Array = rows.iter().map(|row| row.1.0).collect();
    let b: StringArray = rows.iter().map(|row| row.1.1.clone()).collect();
    let c: Float64Array = rows.iter().map(|row| row.1.2).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("row_id", Arc::new(ids.clone()) as ArrayRef, false),
        ("id", Arc::new(ids), true),
        ("a", Arc::new(a), true),
        ("b", Arc::new(b), true),
        ("c", Arc::new(c), true),
    ])
    .unwrap()
}

fn rows(batch: &RecordBatch) -> Vec<(String, Values)> {
    let text = |name: &str| {
        batch
            .column_by_name(name)
            .unwrap()
            .as_string::<i32>()
            .clone()
    };
    let (ids, keys, b) = (text("row_id"), text("id"), text("b"));
    let a = batch
        .column_by_name("a")
        .unwrap()
        .as_primitive::<Int64Type>()
        .clone();
    let c = batch
        .column_by_name("c")
        .unwrap()
        .as_primitive::<Float64Type>()
        .clone();
    let row = |row: usize| {
        assert_eq!(ids.value(row), keys.value(row), "the key is the row id");
        let values = (
            a.is_valid(row).then(|| a.value(row)),
            b.is_valid(row).then(|| b.value(row).to_owned()),
            c.is_valid(row).then(|| c.value(row)),
        );
        (ids.value(row).to_owned(), values)
    };
    (0..batch.num_rows()).map(row).collect()
}

const MODES: [WriteMode; 3] = [
    WriteMode::MergeOnRead,
    WriteMode::CopyOnWrite,
    WriteMode::EqualityDeletes,
];

#[tokio::test]
async fn random_changes_in_every_mode_and_layout() {
    let seeds: u64 = std::env::var("LAKESYNC_SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        for layout in [PLAIN, SORTED, PARTITIONED, BOTH] {
            for mode in MODES {
                let context = format!("seed {seed}, {mode:?}, layout {layout:?}");
                history(seed, layout, mode, &context).await;
            }
        }
    }
}

async fn history(seed: u64, layout: &str, mode: WriteMode, context: &str) {
    let mut chance = Chance(seed);
    let sizes = [
        1 + chance.below(300),
        1 + chance.below(1500),
        1 + chance.below(30),
    ];
    let mut table = Table::with_files(layout, &sizes, &mut chance).await;
    table.check(context).await;
    for round in 0..3 {
        let base = table.base().await;
        let mode = mode_for(&table.schema, mode);
        let share = [1, 5, 40, 100][usize::try_from(chance.below(4)).unwrap()];
        let options = MergeOptions {
            mode,
            rewrite_percent: [10, 50, 100][usize::try_from(chance.below(3)).unwrap()],
            bytes_per_run: [1, 1 << 30][usize::try_from(chance.below(2)).unwrap()],
            ..MergeOptions::default()
        };
        let changes = table.changes(&base, share, mode, &mut chance).await;
        let context = format!("{context}, round {round}, {share} %, {options:?}");
        let merged = merge(table.merge_into(&base), changes, &options)
            .await
            .unwrap();
        table.commit(&base, &merged, Kind::Fold).await.unwrap();
        table.check(&context).await;
        no_strays(&table).await;
    }
    let base = table.base().await;
    let all = base.data_files(&table.warehouse).await.unwrap();
    let some: Vec<String> = all
        .iter()
        .filter(|_| chance.percent(60))
        .map(|file| file.path.clone())
        .collect();
    let merged = rewrite(table.merge_into(&base), &some, &MergeOptions::default())
        .await
        .unwrap();
    table.commit(&base, &merged, Kind::Rewrite).await.unwrap();
    table.check(context).await;
}

/// Every data file in the folder is one of the table's, now or before: `remove` names all that went.
async fn no_strays(table: &Table) {
    let base = table.base().await;
    let live = live_files(&base.table, base.snapshot_id).await.unwrap();
    let referenced: BTreeSet<&str> = live
        .iter()
        .filter_map(|file| file.referenced_data_file.as_deref())
        .collect();
    let paths: BTreeSet<&str> = live.iter().map(|file| file.path.as_str()).collect();
    assert!(
        referenced.is_subset(&paths),
        "delete files are of live data files"
    );
    let positional = live
        .iter()
        .filter(|file| file.referenced_data_file.is_some())
        .count();
    assert_eq!(
        positional,
        referenced.len(),
        "one delete file for a data file"
    );
}

/// All files in the table's folder.
fn on_disk(table: &Table) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![table.dir.path().join("warehouse/public/t/data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn of_a_merge_that_fails_no_file_is_left() {
    for layout in [PLAIN, BOTH] {
        for mode in MODES {
            let mut chance = Chance(7);
            let mut table = Table::with_files(layout, &[200, 12_000], &mut chance).await;
            let before = on_disk(&table);
            let base = table.base().await;
            let mode = mode_for(&table.schema, mode);
            let Changes {
                schema,
                stream,
                counts,
            } = table.changes(&base, 60, mode, &mut chance).await;
            let failure = datafusion::error::DataFusionError::Execution("no disk".to_owned());
            let broken = stream.chain(stream::once(std::future::ready(Err(failure))));
            let changes = Changes {
                stream: Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), broken)),
                schema,
                counts,
            };
            let options = MergeOptions {
                mode,
                ..MergeOptions::default()
            };
            let failed = merge(table.merge_into(&base), changes, &options).await;
            let error = failed.unwrap_err().to_string();
            assert!(error.contains("no disk"), "{error}");
            assert_eq!(on_disk(&table), before, "{layout:?} {mode:?}");
        }
    }
}

#[tokio::test]
async fn who_comes_second_plans_again() {
    let mut chance = Chance(3);
    let mut table = Table::with_files(PLAIN, &[500, 400], &mut chance).await;
    let base = table.base().await;
    let options = MergeOptions {
        rewrite_percent: 100,
        ..MergeOptions::default()
    };
    let unchanged = table.model.clone();
    let changes = table.changes(&base, 20, options.mode, &mut chance).await;
    let late = merge(table.merge_into(&base), changes, &options).await;
    table.model = unchanged;
    // The files that it deletes rows from are rewritten meanwhile.
    let all = base.data_files(&table.warehouse).await.unwrap();
    let all: Vec<String> = all.iter().map(|file| file.path.clone()).collect();
    let first = rewrite(table.merge_into(&base), &all, &options)
        .await
        .unwrap();
    table.commit(&base, &first, Kind::Rewrite).await.unwrap();
    let kept = on_disk(&table);
    let late = late.unwrap();
    let refused = table.commit(&base, &late, Kind::Fold).await.unwrap_err();
    assert!(
        refused.to_string().contains("no longer in the table"),
        "{refused}"
    );
    assert!(
        on_disk(&table).len() == kept.len(),
        "they are there until they are discarded"
    );
    let written = late.add.len() + late.deletes.len();
    late.discard(&base).await;
    assert!(on_disk(&table).len() <= kept.len() - written);
    table.check("after the rewrite").await;

    // Two rewrites of the same files, and a rewrite of a file that got rows deleted.
    let base = table.base().await;
    let all = base.data_files(&table.warehouse).await.unwrap();
    let all: Vec<String> = all.iter().map(|file| file.path.clone()).collect();
    let second = rewrite(table.merge_into(&base), &all, &options)
        .await
        .unwrap();
    let changes = table.changes(&base, 20, options.mode, &mut chance).await;
    let fold = merge(table.merge_into(&base), changes, &options)
        .await
        .unwrap();
    table.commit(&base, &fold, Kind::Fold).await.unwrap();
    let refused = table
        .commit(&base, &second, Kind::Rewrite)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("deletes rows of"), "{refused}");
    second.discard(&base).await;
    table.check("after the fold").await;
}

#[tokio::test]
async fn large_new_files_have_a_key_index_beside_them() {
    let mut chance = Chance(5);
    let mut table = Table::with_files(PLAIN, &[12_000, 50], &mut chance).await;
    let base = table.base().await;
    let options = MergeOptions {
        mode: WriteMode::CopyOnWrite,
        ..MergeOptions::default()
    };
    let changes = table.changes(&base, 10, options.mode, &mut chance).await;
    let merged = merge(table.merge_into(&base), changes, &options)
        .await
        .unwrap();
    let largest = merged
        .add
        .iter()
        .max_by_key(|file| file.record_count())
        .unwrap();
    assert!(largest.record_count() >= 10_000);
    let beside = format!("{}.keys", largest.file_path().trim_start_matches("file://"));
    assert!(std::path::Path::new(&beside).exists(), "{beside}");
    assert_eq!(merged.report.files_rewritten, 2);
    table.commit(&base, &merged, Kind::Fold).await.unwrap();
    table.check("after the fold").await;
}
