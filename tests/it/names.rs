//! User columns that are called like names in plans of ours.

use arrow::util::pretty::pretty_format_batches;
use lakesync::Lake;
use lakesync_gateway::GatewayConfig;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value,
};

/// Every name that a fold, an overlay or a lookup gives to a column or a table of its own.
const NAMES: [&str; 26] = [
    "deleted",
    "deleted_now",
    "written",
    "seq",
    "stamp",
    "is_delete",
    "set_1",
    "value_1",
    "seq_1",
    "stamp_1",
    "set_2",
    "value_2",
    "seq_2",
    "stamp_2",
    "base",
    "log",
    "touched",
    "deltas",
    "folded",
    "wanted",
    "overlay",
    "newest",
    "lake",
    "t",
    "public",
    "hot",
];

fn table() -> String {
    let columns = NAMES.map(|name| format!(r#"{{"name": "{name}", "type": "string"}}"#));
    format!(
        r#"{{"table": "t", "primaryKey": ["id"], "columns": [{}, {{"name": "id", "type": "long"}}]}}"#,
        columns.join(",")
    )
}

/// Pushes one delta of row `id`, stamped at `wall_ms`, that sets these columns.
async fn push(lake: &Lake, (op, id, wall_ms): (Op, u32, u64), columns: &[(&str, &str)]) {
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(&id.to_string()).unwrap(),
        client_id: ClientId::parse("ana").unwrap(),
        hlc: Hlc::new(wall_ms, 0).unwrap(),
    };
    let mut changes: Vec<ColumnChange> = columns
        .iter()
        .map(|(column, text)| ColumnChange {
            column: ColumnName::parse(column).unwrap(),
            value: Value::from(*text),
        })
        .collect();
    if op == Op::Insert {
        changes.push(ColumnChange {
            column: ColumnName::parse("id").unwrap(),
            value: Value::Long(id.into()),
        });
    }
    let push = Push {
        client_id: key.client_id.clone(),
        deltas: vec![RowDelta::new(op, key, changes)],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    lake.gateway("public").unwrap().push(push).await.unwrap();
}

async fn run(lake: &Lake, sql: &str) -> String {
    let planned = lake.sql(sql).await;
    let frame = planned.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches = frame.collect().await;
    let batches = batches.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_may_be_called_like_names_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    // The stamps are of 1970.
    let config = GatewayConfig {
        late_window: None,
        ..GatewayConfig::default()
    };
    let lake = Lake::builder(folder.path()).with_config(config);
    let lake = lake.open().await.unwrap();
    lake.create_table(&table()).await.unwrap();
    let all = NAMES.map(|name| (name, name));
    for id in 1..=3 {
        push(&lake, (Op::Insert, id, 100), &all).await;
    }
    for (round, wall_ms) in [("first", 200), ("second", 300)] {
        let some = [("deleted", round), ("value_1", round), ("stamp_2", round)];
        push(&lake, (Op::Update, 2, wall_ms), &some).await;
        // Late: above all that was written first, below what was folded last.
        push(&lake, (Op::Update, 1, wall_ms - 50), &some[..2]).await;
        push(&lake, (Op::Delete, 3, wall_ms), &[]).await;
        push(&lake, (Op::Insert, 3, wall_ms + 1), &some[1..]).await;
        let query = "select * from t order by id";
        let hot = run(&lake, query).await;
        let written: usize = hot.matches(&format!(" {round} ")).count();
        assert_eq!(written, 3 + 2 + 2, "{hot}");
        let kept: usize = hot.matches(" written ").count();
        assert_eq!(
            kept, 3,
            "as heading, and in the rows that were not deleted: {hot}"
        );
        run(&lake, "call system.flush('t')").await;
        run(&lake, "explain call system.compact('t')").await;
        run(&lake, "call system.compact('t')").await;
        assert_eq!(run(&lake, query).await, hot, "{round}");
        let view = lake.gateway("public").unwrap().live().view("t").unwrap();
        assert_eq!(view.base.base_seq, view.log.max_seq, "{round}");
    }
}
