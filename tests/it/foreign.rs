//! Another program on a base: what it rewrites is read on, what it changes is refused by name and undone there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use iceberg::spec::{
    DataFile, MAIN_BRANCH, Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary,
};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{TableIdent, TableUpdate};
use lakesync::Lake;
use lakesync_compactor::expire::RollbackTo;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value,
};
use lakesync_providers::lake::{Commit, WriteOptions, arrow_schema, live_files, write_data_files};

const TABLES: [&str; 2] = [
    r#"{"table": "t", "primaryKey": ["id"], "columns": [{"name": "id", "type": "long"}, {"name": "v", "type": "long"}]}"#,
    r#"{"table": "other", "primaryKey": ["id"], "columns": [{"name": "id", "type": "long"}]}"#,
];

async fn open(folder: &Path) -> Lake {
    let lake = Lake::open(folder).await.unwrap();
    for table in TABLES {
        lake.create_table(table).await.unwrap();
    }
    lake
}

async fn run(lake: &Lake, sql: &str) -> Result<Vec<arrow::array::RecordBatch>, String> {
    let frame = lake.sql(sql).await.map_err(|error| error.to_string())?;
    frame.collect().await.map_err(|error| error.to_string())
}

async fn ok(lake: &Lake, sql: &str) -> Vec<arrow::array::RecordBatch> {
    run(lake, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The sum of `v`, which is another one for every state in here.
async fn sum(lake: &Lake) -> Result<i64, String> {
    let batches = run(lake, "select sum(v) as v from t").await?;
    Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
}

async fn fold(lake: &Lake) -> Result<(), String> {
    run(lake, "call system.flush('t')").await?;
    run(lake, "call system.compact('t')").await.map(drop)
}

/// Client `ana` sets `v` of a row, or deletes the row, later than any INSERT in here.
async fn push(lake: &Lake, id: u32, v: Option<i64>) {
    let gateway = lake.gateway("public").unwrap();
    let view = gateway.live().view("t").unwrap();
    let newest = view.hot_deltas().map(|delta| delta.delta.hlc).max();
    let newest = newest.unwrap_or(view.base.max_hlc).max(view.base.max_hlc);
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(&id.to_string()).unwrap(),
        client_id: ClientId::parse("ana").unwrap(),
        hlc: Hlc::new(newest.wall_ms() + 1, 0).unwrap(),
    };
    let change = v.map(|v| ColumnChange {
        column: ColumnName::parse("v").unwrap(),
        value: Value::Long(v),
    });
    let op = if v.is_some() { Op::Update } else { Op::Delete };
    let push = Push {
        client_id: key.client_id.clone(),
        deltas: vec![RowDelta::new(op, key, change.into_iter().collect())],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    gateway.push(push).await.unwrap();
}

fn base() -> TableIdent {
    TableIdent::from_strs(["public", "t"]).unwrap()
}

async fn table(lake: &Lake) -> Table {
    let warehouse = lake.gateway("public").unwrap().live().warehouse().clone();
    warehouse.catalog().load_table(&base()).await.unwrap()
}

fn current(table: &Table) -> i64 {
    table.metadata().current_snapshot_id().unwrap()
}

async fn update(lake: &Lake, updates: Vec<TableUpdate>) -> Table {
    let warehouse = lake.gateway("public").unwrap().live().warehouse().clone();
    let catalog = warehouse.catalog();
    catalog
        .commit(&base(), Vec::new(), updates, None)
        .await
        .unwrap()
}

fn main_at(snapshot_id: i64) -> TableUpdate {
    TableUpdate::SetSnapshotRef {
        ref_name: MAIN_BRANCH.to_owned(),
        reference: SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None)),
    }
}

async fn copied(table: &Table) -> Vec<DataFile> {
    let scan = table.scan().build().unwrap();
    let rows: Vec<_> = futures::TryStreamExt::try_collect(scan.to_arrow().await.unwrap())
        .await
        .unwrap();
    let schema = arrow_schema(table).unwrap();
    let rows = rows.iter().map(|rows: &arrow::array::RecordBatch| {
        rows.clone().with_schema(Arc::clone(&schema)).unwrap()
    });
    write_data_files(table, rows.collect(), &WriteOptions::new("theirs"))
        .await
        .unwrap()
}

/// Another program writes the rows into other files: its snapshot has what a rewrite of ours makes, and no word of ours.
async fn replace(lake: &Lake) -> i64 {
    let warehouse = lake.gateway("public").unwrap().live().warehouse().clone();
    let before = table(lake).await;
    let old = live_files(&before, None).await.unwrap();
    let old = old.into_iter().map(|file| file.path);
    let rewritten = Commit::rewrite(current(&before), old, copied(&before).await)
        .run(&warehouse, &base())
        .await
        .unwrap();
    let metadata = rewritten.metadata();
    let like = metadata.current_snapshot().unwrap();
    let id = like.snapshot_id() ^ 1;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(Some(current(&before)))
        .with_sequence_number(metadata.next_sequence_number())
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(like.manifest_list().to_owned())
        .with_schema_id(metadata.current_schema_id())
        .with_summary(Summary {
            operation: Operation::Replace,
            additional_properties: HashMap::new(),
        })
        .build();
    update(
        lake,
        vec![TableUpdate::AddSnapshot { snapshot }, main_at(id)],
    )
    .await;
    id
}

/// Another program adds every row of the table once more.
async fn append(lake: &Lake) -> i64 {
    let warehouse = lake.gateway("public").unwrap().live().warehouse().clone();
    let table = table(lake).await;
    let transaction = Transaction::new(&table);
    let append = transaction
        .fast_append()
        .add_data_files(copied(&table).await);
    let transaction = append.apply(transaction).unwrap();
    let catalog = warehouse.catalog();
    current(&transaction.commit(catalog.as_ref()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_files_another_program_rewrote_is_read_and_folded_on() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    ok(&lake, "insert into t (id, v) values (1, 1), (2, 10)").await;
    fold(&lake).await.unwrap();
    let theirs = replace(&lake).await;
    assert_eq!(sum(&lake).await, Ok(11));
    push(&lake, 2, Some(100)).await;
    ok(&lake, "insert into t (id, v) values (3, 1000)").await;
    fold(&lake).await.unwrap();
    assert_eq!(sum(&lake).await, Ok(1101));
    assert_ne!(current(&table(&lake).await), theirs);

    // Found at the next opening, with deltas above it.
    replace(&lake).await;
    push(&lake, 1, None).await;
    drop(lake);
    let lake = open(folder.path()).await;
    assert_eq!(sum(&lake).await, Ok(1100));
    fold(&lake).await.unwrap();
    assert_eq!(sum(&lake).await, Ok(1100));
    let past = ok(
        &lake,
        &format!("select sum(v) from t version as of {theirs}"),
    )
    .await;
    assert_eq!(past[0].column(0).as_primitive::<Int64Type>().value(0), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_another_program_changed_is_refused_until_it_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    ok(&lake, "insert into t (id, v) values (1, 1), (2, 10)").await;
    ok(&lake, "insert into other (id) values (1)").await;
    fold(&lake).await.unwrap();
    let ours = current(&table(&lake).await);
    let theirs = append(&lake).await;
    ok(&lake, "insert into t (id, v) values (3, 100)").await;
    let error = fold(&lake).await.unwrap_err();
    for part in [&theirs.to_string(), &ours.to_string(), "append", "roll"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(sum(&lake).await, Ok(111), "what was read before is read on");

    drop(lake);
    let lake = open(folder.path()).await;
    let error = sum(&lake).await.unwrap_err();
    assert!(error.contains(&theirs.to_string()), "{error}");
    ok(&lake, "select * from other").await;
    ok(&lake, r#"select * from "t$snapshots""#).await;
    let past = ok(&lake, &format!("select sum(v) from t version as of {ours}")).await;
    assert_eq!(past[0].column(0).as_primitive::<Int64Type>().value(0), 11);
    fold(&lake).await.unwrap_err();

    update(&lake, vec![main_at(ours)]).await;
    fold(&lake).await.unwrap();
    assert_eq!(sum(&lake).await, Ok(111));
    drop(lake);
    let lake = open(folder.path()).await;
    assert_eq!(sum(&lake).await, Ok(111));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_another_program_rolled_back_is_read_whole_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    ok(&lake, "insert into t (id, v) values (1, 1)").await;
    fold(&lake).await.unwrap();
    let first = current(&table(&lake).await);
    ok(&lake, "insert into t (id, v) values (2, 10)").await;
    fold(&lake).await.unwrap();
    update(&lake, vec![main_at(first)]).await;
    ok(&lake, "insert into t (id, v) values (3, 100)").await;
    let error = fold(&lake).await.unwrap_err();
    assert!(error.contains("restart"), "{error}");
    assert_eq!(sum(&lake).await, Ok(111));
    let wider = TABLES[0].replace("}]}", r#"}, {"name": "w", "type": "long"}]}"#);
    lake.create_table(&wider).await.unwrap();
    assert_eq!(
        sum(&lake).await,
        Ok(111),
        "a schema change publishes no older base"
    );
    drop(lake);
    let lake = open(folder.path()).await;
    assert_eq!(sum(&lake).await, Ok(111));
    fold(&lake).await.unwrap();
    assert_eq!(sum(&lake).await, Ok(111));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_another_program_changed_or_rolled_back_is_mended_by_a_rollback_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    ok(&lake, "insert into t (id, v) values (1, 1)").await;
    fold(&lake).await.unwrap();
    let first = current(&table(&lake).await);
    ok(&lake, "insert into t (id, v) values (2, 10)").await;
    fold(&lake).await.unwrap();
    let second = current(&table(&lake).await);
    let theirs = append(&lake).await;
    let gateway = lake.gateway("public").unwrap();
    let roll = async |to| {
        let done = lakesync::expiry::rollback(&gateway, "t", RollbackTo::Snapshot(to)).await;
        done.map_err(|error| error.to_string())
    };
    let error = roll(theirs).await.unwrap_err();
    assert!(error.contains("another program made it"), "{error}");
    assert_eq!(roll(second).await.unwrap().reloaded, 0);
    fold(&lake).await.unwrap();
    assert_eq!(sum(&lake).await, Ok(11));

    update(&lake, vec![main_at(first)]).await;
    ok(&lake, "insert into t (id, v) values (3, 100)").await;
    fold(&lake).await.unwrap_err();
    assert_eq!(
        roll(first).await.unwrap().reloaded,
        1,
        "no restart is needed"
    );
    assert_eq!(sum(&lake).await, Ok(111));
    fold(&lake).await.unwrap();
    assert_eq!(sum(&lake).await, Ok(111));
}
