//! More between two flushes than one Arrow batch should hold: by rows, and by bytes.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use lakesync::Lake;
use lakesync_gateway::GatewayConfig;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value,
};

const TABLE: &str = r#"{"table": "t", "columns": [{"name": "text", "type": "string"}]}"#;

async fn lake(folder: &tempfile::TempDir) -> Lake {
    // The stamps are of 1970.
    let config = GatewayConfig {
        late_window: None,
        ..GatewayConfig::default()
    };
    let lake = Lake::builder(folder.path()).with_config(config);
    let lake = lake.open().await.unwrap();
    lake.create_table(TABLE).await.unwrap();
    lake
}

async fn push(lake: &Lake, rows: std::ops::Range<usize>, text: &str) {
    let deltas = rows.map(|row| {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse(&format!("row {row}")).unwrap(),
            client_id: ClientId::parse("ana").unwrap(),
            hlc: Hlc::new(1_000, 0).unwrap(),
        };
        let change = ColumnChange {
            column: ColumnName::parse("text").unwrap(),
            value: Value::from(text),
        };
        RowDelta::new(Op::Insert, key, vec![change])
    });
    let push = Push {
        client_id: ClientId::parse("ana").unwrap(),
        deltas: deltas.collect(),
        last_seen: Seq::ZERO,
        schemas: None,
    };
    lake.gateway("public").unwrap().push(push).await.unwrap();
}

async fn number(lake: &Lake, sql: &str) -> i64 {
    let frame = lake.sql(sql).await.unwrap();
    let batches = frame.collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// The rows of each batch of the overlay, and of each batch of ids.
async fn overlay(lake: &Lake) -> (Vec<usize>, Vec<usize>) {
    let view = lake.gateway("public").unwrap().live().view("t").unwrap();
    let resolved = view.resolved().await.unwrap();
    let rows = |batches: &[arrow::array::RecordBatch]| {
        batches.iter().map(|batch| batch.num_rows()).collect()
    };
    (
        rows(&resolved.rows().unwrap()),
        rows(&resolved.touched().unwrap()),
    )
}

async fn check(lake: &Lake, rows: i64, characters: i64) {
    assert_eq!(
        number(lake, "select count(distinct row_id) from t").await,
        rows
    );
    let sum = "select sum(length(text)) from";
    assert_eq!(number(lake, &format!("{sum} t")).await, characters);
    assert_eq!(
        number(lake, &format!(r#"{sum} "t$deltas""#)).await,
        characters
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_a_batch_has_are_read_hot_flushed_and_folded() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(&folder).await;
    for from in [0, 9_000] {
        push(&lake, from..from + 9_000, "abc").await;
    }
    let batches = vec![8_192, 8_192, 1_616];
    assert_eq!(overlay(&lake).await, (batches.clone(), batches));
    check(&lake, 18_000, 54_000).await;
    for maintenance in ["flush", "compact"] {
        let sql = format!("call system.{maintenance}('t')");
        lake.sql(&sql).await.unwrap().collect().await.unwrap();
        check(&lake, 18_000, 54_000).await;
    }
    // Over a base: its rows that are touched are completed and left out.
    push(&lake, 9_000..18_000, "abc").await;
    assert_eq!(number(&lake, "select count(*) from t").await, 18_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_text_than_a_batch_has_is_read_hot_flushed_and_folded() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(&folder).await;
    let text = "x".repeat(4_000_000);
    for row in 0..17 {
        push(&lake, row..row + 1, &text).await;
    }
    assert_eq!(overlay(&lake).await, (vec![16, 1], vec![16, 1]));
    check(&lake, 17, 68_000_000).await;
    for maintenance in ["flush", "compact"] {
        let sql = format!("call system.{maintenance}('t')");
        lake.sql(&sql).await.unwrap().collect().await.unwrap();
        check(&lake, 17, 68_000_000).await;
    }
}
