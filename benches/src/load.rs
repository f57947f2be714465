//! The deltas that W3 is measured with: four user columns, about 300 bytes of JSON each.

use lakesync_gateway::GatewayConfig;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value,
};

/// Their table.
pub const TABLE: &str = r#"{"table": "t", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"},
    {"name": "points", "type": "long"}, {"name": "note", "type": "string"}]}"#;

/// A moment in the past: no stamp of the load is refused as drift.
const NOW_MS: u64 = 1_700_000_000_000;

/// What their gateway is told: they are stamped long ago, which an ordinary gateway refuses.
pub fn config() -> GatewayConfig {
    GatewayConfig {
        late_window: None,
        ..GatewayConfig::default()
    }
}

/// The `n`th push of `batch` deltas by a client; another round makes other stamps.
pub fn push(client: usize, batch: usize, round: u64, n: usize) -> Push {
    let client_id = ClientId::parse(&format!("client-{client}")).expect("an id");
    let deltas = (0..batch).map(|i| delta(&client_id, round, n * batch + i));
    Push {
        deltas: deltas.collect(),
        client_id,
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

/// The marker of push `n` in the titles of its deltas: `push-` and eight digits.
pub fn marker(n: usize) -> String {
    format!("push-{n:08}")
}

/// As [`push`], with [`marker`] in every title, so that a reader can tell the push from the bytes.
pub fn marked_push(client: usize, batch: usize, n: usize) -> Push {
    let mut push = push(client, batch, 0, n);
    for delta in &mut push.deltas {
        let mut columns = delta.columns.clone();
        columns[0].value = Value::from(marker(n).as_str());
        let key = DeltaKey {
            table: delta.table.clone(),
            row_id: delta.row_id.clone(),
            client_id: delta.client_id.clone(),
            hlc: delta.hlc,
        };
        *delta = RowDelta::new(Op::Insert, key, columns);
    }
    push
}

fn delta(client_id: &ClientId, round: u64, n: usize) -> RowDelta {
    let change = |name: &str, value| ColumnChange {
        column: ColumnName::parse(name).expect("a name"),
        value,
    };
    let number = u64::try_from(n).expect("a small number");
    let key = DeltaKey {
        table: TableName::parse("t").expect("a name"),
        row_id: RowId::parse(&format!("{client_id}-{n:08}")).expect("an id"),
        client_id: client_id.clone(),
        hlc: Hlc::new(NOW_MS + round * 100_000_000 + number, 0).expect("a stamp"),
    };
    let columns = vec![
        change("title", Value::from("Buy oat milk and a loaf of bread")),
        change("done", Value::Boolean(n.is_multiple_of(2))),
        change(
            "points",
            Value::Long(i64::try_from(n).expect("a small number")),
        ),
        change("note", Value::from("on the way home")),
    ];
    RowDelta::new(Op::Insert, key, columns)
}
