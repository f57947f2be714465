//! The metadata tables against what iceberg itself says of the same tables.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt as _;
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use iceberg::table::Table;
use lakesync_providers::lake::change_table;
use lakesync_tests::history::{History, Shape, Step};
use lakesync_tests::world::World;

async fn world(folder: &std::path::Path) -> World {
    let history = History::generate(5, Shape::default());
    let mut world = World::open(folder.join("lake"), &history).await;
    for step in &history.steps {
        world.step(step).await;
    }
    world.step(&Step::Flush).await;
    world.step(&Step::Compact).await;
    world
}

/// Base and log of a table with the words that tell them apart.
fn both(world: &World, table: &str) -> [(&'static str, Table); 2] {
    let view = world.gateway().live().view(table).unwrap();
    [
        ("base", view.base.table.clone()),
        ("log", view.log.table.clone()),
    ]
}

fn texts(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let columns = batches
        .iter()
        .map(|batch| batch.column_by_name(name).unwrap());
    let texts = columns.flat_map(|column| column.as_string::<i32>().iter());
    texts.map(|text| text.unwrap().to_owned()).collect()
}

fn numbers(batches: &[RecordBatch], name: &str) -> Vec<i64> {
    let columns = batches
        .iter()
        .map(|batch| batch.column_by_name(name).unwrap());
    let numbers = columns.flat_map(|column| column.as_primitive::<Int64Type>().iter());
    numbers.map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_manifests_are_those_that_iceberg_finds() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path()).await;
    for schema in &world.schemas {
        let name = schema.table.as_str();
        for (kind, table) in both(&world, name) {
            let inspected = table.inspect().snapshots().scan().await.unwrap();
            let inspected: Vec<RecordBatch> = inspected.try_collect().await.unwrap();
            let sql = format!("select snapshot_id from {name}$snapshots where kind = '{kind}'");
            let ours = numbers(&world.sql(&sql).await, "snapshot_id");
            let theirs = numbers(&inspected, "snapshot_id");
            assert!(!theirs.is_empty(), "{name} {kind}");
            assert_eq!(BTreeSet::from_iter(ours), BTreeSet::from_iter(theirs));

            let inspected = table.inspect().manifests().scan().await.unwrap();
            let inspected: Vec<RecordBatch> = inspected.try_collect().await.unwrap();
            let sql = format!("select path, length from {name}$manifests where kind = '{kind}'");
            let ours = world.sql(&sql).await;
            assert_eq!(texts(&ours, "path"), texts(&inspected, "path"));
            assert_eq!(numbers(&ours, "length"), numbers(&inspected, "length"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_the_rows_that_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path()).await;
    for schema in &world.schemas {
        let name = schema.table.as_str();
        for (kind, table) in [("base", name.to_owned()), ("log", format!("{name}$deltas"))] {
            let sql = format!("select count(*) as n from \"{table}\"");
            let expected = numbers(&world.sql(&sql).await, "n");
            for of in ["files", "partitions"] {
                let sql = format!(
                    "select coalesce(sum(rows), 0) as n from {name}.{of} where kind = '{kind}'"
                );
                let found = numbers(&world.sql(&sql).await, "n");
                // A base without partitions has no row in `t$partitions`.
                if of == "files" || kind == "log" {
                    assert_eq!(found, expected, "{name} {kind} {of}");
                }
            }
            let sql = format!("select path from {name}$files where kind = '{kind}'");
            for path in texts(&world.sql(&sql).await, "path") {
                let path = path.strip_prefix("file://").unwrap();
                assert!(std::path::Path::new(path).is_file(), "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_are_listed_whoever_made_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(folder.path()).await;
    let view = world.gateway().live().view("one_key").unwrap();
    let snapshot_id = view.base.snapshot_id.unwrap();
    let tag = |_: &Table| {
        let retention = SnapshotRetention::Tag {
            max_ref_age_ms: Some(7),
        };
        Ok(vec![TableUpdate::SetSnapshotRef {
            ref_name: "audit".to_owned(),
            reference: SnapshotReference::new(snapshot_id, retention),
        }])
    };
    let ident = view.base.table.identifier();
    change_table(&view.warehouse, ident, None, tag)
        .await
        .unwrap();
    world.restart().await;
    let sql = "select * from one_key$refs where kind = 'base' order by name";
    let refs = world.sql(sql).await;
    assert_eq!(texts(&refs, "name"), ["audit", "main"]);
    assert_eq!(texts(&refs, "type"), ["TAG", "BRANCH"]);
    assert_eq!(numbers(&refs, "snapshot_id"), [snapshot_id, snapshot_id]);
    let ages = refs[0].column_by_name("max_reference_age_in_ms").unwrap();
    assert_eq!(ages.as_primitive::<Int64Type>().value(0), 7);
    assert!(ages.is_null(1));
}
