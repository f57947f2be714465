//! The HTTP transport against a server that says what the test tells it to.

#![cfg(feature = "http")]

mod addresses;
mod checkpoints;
mod exchanges;
mod foreigners;
#[cfg(feature = "live")]
mod live;
#[cfg(feature = "live")]
mod proxies;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Epoch, GatewayId, Hlc, Notes, Op, PullPage, Push,
    RowDelta, RowId, Schemas, Seq, SeqDelta, TableDefinition, TableName, TableSchema, Value,
};

use crate::sync::Pull;
use crate::transport::{HttpTransport, Timeouts};

const EPOCH: &str = "00000000-0000-4000-8000-000000000000";

const STOCK: &str = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "note", "type": "string"}]}"#;

type AllSchemas = Arc<dyn Schemas + Send + Sync>;

fn stock() -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(STOCK).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

fn schemas() -> AllSchemas {
    let schema = stock();
    Arc::new(BTreeMap::from([(schema.table.clone(), Arc::new(schema))]))
}

fn no_schemas() -> AllSchemas {
    Arc::new(BTreeMap::<TableName, Arc<TableSchema>>::new())
}

fn transport(url: &str) -> HttpTransport {
    HttpTransport::new(url, GatewayId::parse("public").unwrap())
        .unwrap()
        .with_timeouts(Timeouts {
            connect: Duration::from_secs(5),
            exchange: Duration::from_secs(20),
            silence: Duration::from_secs(20),
        })
}

/// Timeouts that a test can wait for.
fn brief() -> Timeouts {
    Timeouts {
        connect: Duration::from_millis(200),
        exchange: Duration::from_millis(200),
        silence: Duration::from_millis(200),
    }
}

fn client_id() -> ClientId {
    ClientId::parse("a b/ü").unwrap()
}

fn pull() -> Pull {
    Pull {
        client_id: client_id(),
        cursor: "AbC_-1".to_owned(),
        limit: 10,
        schemas_hash: Some(77),
        schemas: schemas(),
    }
}

fn push(deltas: u32) -> Push {
    Push {
        client_id: client_id(),
        deltas: (1..=deltas).map(delta).collect(),
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

fn delta(number: u32) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("stock").unwrap(),
        row_id: RowId::parse(&format!("code {number}")).unwrap(),
        client_id: client_id(),
        hlc: Hlc::new(1_700_000_000_000 + u64::from(number), 0).unwrap(),
    };
    let note = ColumnChange {
        column: ColumnName::parse("note").unwrap(),
        value: Value::String(format!("note of {number}")),
    };
    RowDelta::new(Op::Update, key, vec![note])
}

/// A page of one delta, at this seq.
fn page(number: u32, has_more: bool) -> PullPage {
    let seq = Seq::from_u64(u64::from(number)).unwrap();
    let delta = delta(number);
    PullPage {
        deltas: vec![Arc::new(SeqDelta { seq, delta })],
        cursor: seq,
        removed: Vec::new(),
        has_more,
        epoch: Epoch::parse(EPOCH).unwrap(),
        notes: Notes {
            resume: Some(format!("after {number}")),
            ..Notes::default()
        },
    }
}
