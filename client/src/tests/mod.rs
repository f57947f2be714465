//! Tests of the client against a gateway in memory.

mod convergence;
mod edits;
mod fake_gateway;
mod files;
mod schemas;
mod syncing;

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema, Value};

use crate::Client;

/// The wall clock at which tests start, in milliseconds since 1970.
const START_MS: u64 = 1_700_000_000_000;

const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "n", "type": "long"}]}"#;

const STOCK: &str = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "note", "type": "string"}]}"#;

fn schema(body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

fn client_id(name: &str) -> ClientId {
    ClientId::parse(name).unwrap()
}

/// A client in memory with both tables, and the clock in its hand.
fn client(name: &str) -> (Client, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START_MS));
    let wall_clock: Arc<dyn lakesync_proto::WallClock> = Arc::<ManualClock>::clone(&clock);
    let mut client = Client::open(":memory:", client_id(name), wall_clock).unwrap();
    client.register(&schema(TODOS)).unwrap();
    client.register(&schema(STOCK)).unwrap();
    (client, clock)
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// Row id, column, canonical text.
type Plain = BTreeMap<String, BTreeMap<String, String>>;

fn plain(client: &Client, table: &str) -> Plain {
    let rows = client.rows(table).unwrap();
    rows.into_iter()
        .map(|(row_id, values)| {
            let cells = values
                .iter()
                .map(|(column, value)| (column.to_string(), canonical(value)))
                .collect();
            (row_id.to_string(), cells)
        })
        .collect()
}

fn canonical(value: &Value) -> String {
    let mut text = String::new();
    value.write_canonical(&mut text);
    text
}

/// `row: column=value, …; …`, to compare at a glance.
fn shown(client: &Client, table: &str) -> String {
    let rows = plain(client, table).into_iter().map(|(row_id, cells)| {
        let cells: Vec<String> = cells
            .iter()
            .map(|(column, value)| format!("{column}={value}"))
            .collect();
        format!("{row_id}: {}", cells.join(", "))
    });
    rows.collect::<Vec<_>>().join("; ")
}
