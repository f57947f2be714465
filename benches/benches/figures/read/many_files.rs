//! Planning a query over a thousand files of which 1 % of the rows are masked.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use lakesync::Lake;
use lakesync_benches::load::config;
use lakesync_benches::{Figure, Figures, median};
use lakesync_proto::{
    ClientId, DeltaKey, GatewayId, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
};
use lakesync_providers::lake::{Commit, Warehouse, WriteOptions, summary, write_data_files};
use tokio::runtime::Runtime;

use super::plain::ms;

const TABLE: &str = r#"{"table": "many", "columns": [{"name": "v", "type": "long"}]}"#;
const FILES: i64 = 1_000;
const FILE_ROWS: i64 = 1_000;
/// One row of so many is deleted.
const DELETED: usize = 100;

pub(super) fn measure(runtime: &Runtime, figures: &mut Figures) {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = runtime.block_on(async {
        let path = folder.path().join("lake");
        base(&path).await;
        let lake = Lake::builder(&path).with_config(config()).open().await;
        let lake = lake.expect("a lake");
        delete(&lake).await;
        lake
    });
    let explain = "explain select sum(v) from many";
    let plan = || {
        runtime.block_on(async {
            let frame = lake.sql(explain).await.expect("planned");
            frame.collect().await.expect("shown")
        })
    };
    // The first finds the rows; what every later plan costs is measured.
    plan();
    let (cost, _) = median(plan);
    figures.0.push(Figure {
        what: format!("planning {FILES} files with 1 % of the rows masked"),
        figure: format!("{:.1} ms ({:.1} ms CPU)", ms(cost.wall), ms(cost.cpu)),
        limit: "no footer read".to_owned(),
        ratio: "-".to_owned(),
        target: "<= 10 ms",
    });
}

fn id(v: i64) -> String {
    format!("row {v:07}")
}

async fn base(path: &std::path::Path) {
    let lake = Lake::open(path).await.expect("a lake");
    lake.create_table(TABLE).await.expect("a table");
    drop(lake);
    let warehouse = Warehouse::open_local(path).await.expect("a warehouse");
    let gateway = GatewayId::parse("public").expect("a name");
    let name = TableName::parse("many").expect("a name");
    let pair = warehouse.load(&gateway, &name).await.expect("it is there");
    let mut files = Vec::new();
    for file in 0..FILES {
        let rows = file * FILE_ROWS..(file + 1) * FILE_ROWS;
        let ids = StringArray::from_iter_values(rows.clone().map(id));
        let values = Int64Array::from_iter_values(rows);
        let batch = RecordBatch::try_from_iter([
            ("row_id", Arc::new(ids) as _),
            ("v", Arc::new(values) as _),
        ]);
        let batches = vec![batch.expect("columns of one length")];
        let written = write_data_files(&pair.base, batches, &WriteOptions::new("bench")).await;
        files.extend(written.expect("written"));
    }
    Commit::append(files)
        .with_property(summary::BASE_SEQ, 1)
        .with_property(summary::MAX_HLC, Hlc::new(1, 0).expect("a stamp"))
        .run(&warehouse, pair.base.identifier())
        .await
        .expect("committed");
}

async fn delete(lake: &Lake) {
    let gateway = lake.gateway("public").expect("it exists");
    let client = ClientId::parse("bench").expect("an id");
    for start in (0..FILES * FILE_ROWS).step_by(1_000_000) {
        let rows = (start..start + 1_000_000).step_by(DELETED);
        let deltas = rows.map(|v| {
            let key = DeltaKey {
                table: TableName::parse("many").expect("a name"),
                row_id: RowId::parse(&id(v)).expect("an id"),
                client_id: client.clone(),
                hlc: Hlc::new(1_700_000_000_000, u16::try_from(v / 100).expect("few"))
                    .expect("a stamp"),
            };
            RowDelta::new(Op::Delete, key, Vec::new())
        });
        let push = Push {
            client_id: client.clone(),
            deltas: deltas.collect(),
            last_seen: Seq::ZERO,
            schemas: None,
        };
        gateway.push(push).await.expect("accepted");
    }
}
