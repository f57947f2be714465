//! Partitioned and sorted tables: every read is the oracle's, and compaction writes the files that the table asks for.

use std::collections::BTreeSet;

use arrow::array::AsArray as _;
use lakesync_proto::{Op, TableSchema, Value};
use lakesync_providers::lake::{live_files, sort_order_id};
use lakesync_tests::history::{History, Rng, Shape, Step};
use lakesync_tests::layouts::{give, is_sorted, partition, rows_of};
use lakesync_tests::world::World;

use crate::sql::{NOW_MS, World as Sql, change};

fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_partitioned_and_sorted_tables_agree_with_the_oracle() {
    let shape = Shape {
        rows: 12,
        push_deltas: 8,
        ..Shape::default()
    };
    let mut partitions = 0;
    for seed in 0..seeds() {
        let mut history = History::generate(seed, shape);
        give(&mut history, &mut Rng::new(seed));
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        for step in &history.steps {
            world.step(step).await;
            if matches!(step, Step::Compact | Step::Flush) {
                world.check_now("after upkeep").await;
            }
            if matches!(step, Step::Compact) {
                for schema in &world.schemas {
                    partitions += check_files(&world, schema).await;
                }
            }
        }
        world.check_now("at the end").await;
        world.check_past().await;
    }
    assert!(partitions > 10, "only {partitions} files have a partition");
}

/// Every file of the base holds rows of one partition, in order, and no row is in two; the number of files with a
/// partition.
async fn check_files(world: &World, schema: &TableSchema) -> usize {
    let seed = world.seed;
    let view = world.gateway().live().view(schema.table.as_str()).unwrap();
    let table = &view.base.table;
    let files = live_files(table, view.base.snapshot_id).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut known = Vec::new();
    for file in &files {
        let path = view.warehouse.object_path(&file.path).unwrap();
        let rows = rows_of(std::path::Path::new(&format!("/{path}")));
        let case = format!("seed {seed}, {}: {}", schema.to_json(), file.path);
        assert_eq!(u64::try_from(rows.num_rows()).unwrap(), file.rows, "{case}");
        assert!(is_sorted(schema, &rows), "{case}");
        assert_eq!(file.sort_order_id, sort_order_id(table, schema), "{case}");
        assert_eq!(
            file.sort_order_id.is_some(),
            !schema.sort_by.is_empty(),
            "{case}"
        );
        let first = partition(schema, &rows, 0);
        let is_first = |row| partition(schema, &rows, row) == first;
        assert!((0..rows.num_rows()).all(is_first), "{case}");
        let nulls: Vec<bool> = file.partition.iter().map(|value| value.is_none()).collect();
        let expected: Vec<bool> = first.iter().map(Option::is_none).collect();
        assert_eq!(nulls, expected, "{case}");
        // Small tables have one file a partition.
        assert!(!known.contains(&file.partition), "{case}");
        known.push(file.partition.clone());
        let ids = rows.column_by_name("row_id").unwrap().as_string::<i32>();
        for id in ids.iter().flatten() {
            assert!(seen.insert(id.to_owned()), "{case}: {id} is there twice");
        }
    }
    match schema.partition_by.is_empty() {
        true => 0,
        false => files.len(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_between_partitions_is_where_it_belongs_once() {
    let world = Sql::open().await;
    world
        .check(
            "create table moves (id bigint primary key, country text, at timestamp) \
             partitioned by (country, month(at)) sorted by (id)",
            &["moves|1|true"],
        )
        .await;
    world
        .check(
            "insert into moves (id, country, at) values (1, 'at', '2026-01-01T00:00:00Z'), \
             (2, 'de', '2026-01-01T00:00:00Z'), (3, null, null), (4, '../..', '0001-01-01T00:00:00Z')",
            &["4"],
        )
        .await;
    let all = [
        "1|at|2026-01-01T00:00:00Z",
        "2|de|2026-01-01T00:00:00Z",
        "3||",
        "4|../..|0001-01-01T00:00:00Z",
    ];
    let query = "select id, country, at from moves order by id";
    world.check(query, &all).await;
    upkeep(&world).await;
    world.check(query, &all).await;
    assert_eq!(folders(&world).await.len(), 4);

    // Hot: the old place is masked, the new one is the overlay's.
    move_row(&world, "1", "de").await;
    for _ in 0..2 {
        world
            .check("select count(*) from moves where country = 'de'", &["2"])
            .await;
        world
            .check("select count(*) from moves where country = 'at'", &["0"])
            .await;
        world.check("select count(*) from moves", &["4"]).await;
        upkeep(&world).await;
    }
    let found = folders(&world).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        !found.iter().any(|folder| folder.contains("country=at")),
        "{found:?}"
    );
}

async fn upkeep(world: &Sql) {
    for call in ["call system.flush('moves')", "call system.compact('moves')"] {
        world.run(call).await.unwrap();
    }
}

async fn move_row(world: &Sql, row: &str, country: &str) {
    let change = change("country", Value::from(country));
    let edit = (Op::Update, Some(change));
    world.push("moves", row, NOW_MS + 1_000, edit).await;
}

/// The folders that the base's files are in.
async fn folders(world: &Sql) -> BTreeSet<String> {
    let view = world
        .lake
        .gateway("public")
        .unwrap()
        .live()
        .view("moves")
        .unwrap();
    let files = live_files(&view.base.table, view.base.snapshot_id)
        .await
        .unwrap();
    let folder = |path: &str| {
        let (folder, _) = path.rsplit_once('/').unwrap();
        folder.split_once("/data/").unwrap().1.to_owned()
    };
    files.iter().map(|file| folder(&file.path)).collect()
}
