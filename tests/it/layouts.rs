//! Partitioned and sorted tables: every read is the oracle's, and compaction writes the files that the table asks for.

use std::collections::BTreeSet;

use arrow::array::AsArray as _;
use lakesync_compactor::CompactionConfig;
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
    let files = view.base.data_files(&view.warehouse).await.unwrap();
    let dead = view.base.dead(&view.warehouse).await.unwrap();
    let mut seen = BTreeSet::new();
    for file in files.iter() {
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
        let ids = rows.column_by_name("row_id").unwrap().as_string::<i32>();
        let gone = dead.of(&file.path);
        let lives = |(at, _): &(u32, &str)| gone.is_none_or(|gone| !gone.contains(*at));
        for (_, id) in (0..).zip(ids.iter().flatten()).filter(lives) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_in_little_memory_is_sorted_as_a_whole() {
    let world = Sql::open().await;
    let rows = 2_000;
    world
        .run(
            "create table wide (id bigint primary key, v bigint, at timestamp) \
             partitioned by (bucket(3, id), year(at)) sorted by (v desc nulls last, id)",
        )
        .await
        .unwrap();
    let sql = format!(
        "insert into wide (id, v, at) select value, nullif(value % 7, 3), \
         to_timestamp((value % 2) * 40000000) from generate_series(1, {rows})"
    );
    world.check(&sql, &["2000"]).await;
    world.run("call system.flush('wide')").await.unwrap();
    let gateway = world.lake.gateway("public").unwrap();
    let config = CompactionConfig {
        memory_bytes: 1 << 20,
        ..CompactionConfig::default()
    };
    let shown = lakesync_compactor::explain(gateway.live(), "wide", &config)
        .await
        .unwrap();
    let of = |kind: &str| {
        let found = shown.iter().find(|(known, _)| known == kind);
        found.map(|(_, text)| text.as_str()).unwrap()
    };
    assert_eq!(
        (of("mode"), of("seqs"), of("deltas"), of("late")),
        ("merge-on-read", "above 0 to 2000", "2000", "none")
    );
    let plan = of("physical_plan of changes");
    assert!(
        plan.contains("ordering_mode=PartiallySorted") && !plan.contains("RepartitionExec"),
        "{plan}"
    );

    lakesync_compactor::compact(gateway.live(), "wide", Some(&gateway.fence()), &config)
        .await
        .unwrap();
    let view = gateway.live().view("wide").unwrap();
    let files = live_files(&view.base.table, view.base.snapshot_id)
        .await
        .unwrap();
    assert_eq!(files.len(), 6, "a file a partition");
    for file in &files {
        let path = view.warehouse.object_path(&file.path).unwrap();
        let rows = rows_of(std::path::Path::new(&format!("/{path}")));
        assert!(is_sorted(&view.schema, &rows), "{}", file.path);
    }
    world
        .check(
            "select count(*), count(distinct id), sum(id) from wide",
            &["2000|2000|2001000"],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_evolves_while_its_rows_are_hot_and_cold() {
    let world = Sql::open().await;
    for sql in [
        "create table moves (id bigint primary key, price decimal(4, 2)) partitioned by (price, bucket(2, price)) \
         sorted by (price)",
        "insert into moves (id, price) values (1, 1.5), (2, -99.99), (3, null)",
        "call system.flush('moves')",
        "call system.compact('moves')",
        "insert into moves (id, price) values (4, 99.99)",
        "alter table moves alter column price type decimal(12, 2)",
        "alter table moves add column note text",
        "insert into moves (id, price, note) values (5, 1234567.89, 'dear'), (6, 1.5, 'again')",
    ] {
        world
            .run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let expected = [
        "1|1.50|",
        "2|-99.99|",
        "3||",
        "4|99.99|",
        "5|1234567.89|dear",
        "6|1.50|again",
    ];
    for _ in 0..3 {
        world
            .check("select id, price, note from moves order by id", &expected)
            .await;
        world
            .check(
                "select id from moves where price = cast(1.5 as decimal(12, 2)) order by id",
                &["1", "6"],
            )
            .await;
        world
            .check(
                "select id from moves where price in (cast(-99.99 as decimal(12, 2)), cast('1234567.89' as decimal(12, 2))) order by id",
                &["2", "5"],
            )
            .await;
        world
            .check("select id from moves where price is null", &["3"])
            .await;
        upkeep(&world).await;
    }
    assert_eq!(folders(&world).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_a_bucket_opens_the_files_of_that_bucket() {
    let world = Sql::open().await;
    for sql in [
        "create table moves (id bigint primary key, country text) partitioned by (bucket(8, country))",
        "insert into moves (id, country) select value, 'c' || (value % 50) from generate_series(1, 200)",
    ] {
        world.run(sql).await.unwrap();
    }
    upkeep(&world).await;
    assert_eq!(folders(&world).await.len(), 8);
    let files = async |condition: &str| {
        let sql = format!("explain select id from moves where {condition}");
        let plan = world.run(&sql).await.unwrap();
        plan.matches(".parquet").count()
    };
    assert_eq!(files("country = 'c7'").await, 1);
    assert_eq!(files("id > 0").await, 8);
    // A row that moves out of the bucket is masked there, and one that moves in is found.
    move_row(&world, "7", "c8").await;
    move_row(&world, "9", "c7").await;
    world
        .check(
            "select id from moves where country = 'c7' order by id",
            &["9", "57", "107", "157"],
        )
        .await;
    world
        .check(
            "select id from moves where country = 'c8' and id < 60 order by id",
            &["7", "8", "58"],
        )
        .await;
}
