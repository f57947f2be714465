//! Schemas that differ here and at the gateway: never a stuck loop, always said.

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, RowId, TableName, Value,
};

use super::world::{Device, START_MS, STOCK, TODOS, World, evolved, schema};
use crate::sync::{SchemaState, SessionOptions, Step, Updates, Wish};

pub(super) const COLOURED: &str = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "note", "type": "string"},
    {"name": "colour", "type": "string"}]}"#;

fn poll() -> SessionOptions {
    SessionOptions::default().with_updates(Updates::Poll)
}

pub(super) fn coloured(code: &str) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("stock").unwrap(),
        row_id: RowId::parse(code).unwrap(),
        client_id: ClientId::parse("elsewhere").unwrap(),
        hlc: Hlc::new(START_MS, 0).unwrap(),
    };
    let change = |name: &str| ColumnChange {
        column: ColumnName::parse(name).unwrap(),
        value: Value::String(code.to_owned()),
    };
    RowDelta::new(Op::Insert, key, vec![change("code"), change("colour")])
}

fn state_of(device: &Device, table: &str) -> Option<SchemaState> {
    let status = device.status();
    let found = status
        .schema
        .into_iter()
        .find(|state| state.table.as_str() == table);
    found.map(|found| found.state)
}

#[test]
fn a_column_of_the_gateway_comes_with_the_first_edit_that_has_one() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    world.gateway.schemas = vec![evolved(&schema(STOCK), COLOURED)];
    world.arrive(coloured("red"));
    device.session.wish(Wish::SyncNow);
    device.run(&mut world.gateway);
    assert_eq!(
        device.rows("SELECT colour FROM stock"),
        [["red".to_owned().into()]]
    );
    assert_eq!(
        (device.status().last_error, state_of(&device, "stock")),
        (None, None)
    );
}

#[test]
fn a_column_that_nobody_has_written_yet_is_only_told() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    world.gateway.schemas = vec![evolved(&schema(STOCK), COLOURED)];
    device.run(&mut world.gateway);
    assert_eq!(state_of(&device, "stock"), Some(SchemaState::GatewayAhead));
    assert!(device.db.query("SELECT colour FROM stock", []).is_err());
}

#[test]
fn a_table_of_the_gateway_is_made_here() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    world.gateway.schemas.push(schema(TODOS));
    device.session.wish(Wish::SyncNow);
    device.run(&mut world.gateway);
    device.sql("INSERT INTO todos (title) VALUES ('milk')");
    device.settle(&mut world.gateway);
    assert_eq!(world.gateway.deltas().count(), 1);
}

#[test]
fn edits_of_a_column_that_the_gateway_lacks_wait_and_hold_up_nothing() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    let newer = evolved(&schema(STOCK), COLOURED);
    device.db.register(&newer).unwrap();
    device.sql("INSERT INTO stock (code, colour) VALUES ('first', 'red')");
    device.sql("INSERT INTO stock (code, count) VALUES ('second', 2)");
    let wait = device.run(&mut world.gateway);
    assert!(matches!(wait, Step::Wait { .. }));
    assert_eq!(world.stock(), "second=2");
    assert_eq!(
        state_of(&device, "stock"),
        Some(SchemaState::GatewayBehind { waiting: 1 })
    );
    assert_eq!(device.stock(), "first=, second=2");
    let pushes = world.gateway.pushes.len();
    for _ in 0..5 {
        device.clock.advance(10_000);
        device.run(&mut world.gateway);
    }
    assert_eq!(
        world.gateway.pushes.len(),
        pushes,
        "what waits is not tried in vain"
    );

    world.gateway.schemas = vec![newer];
    device.session.wish(Wish::SyncNow);
    device.settle(&mut world.gateway);
    assert_eq!(
        (world.gateway.deltas().count(), state_of(&device, "stock")),
        (2, None)
    );
}

#[test]
fn edits_of_a_table_that_the_gateway_lacks_wait_for_it() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.db.register(&schema(TODOS)).unwrap();
    device.sql("INSERT INTO todos (title) VALUES ('milk')");
    device.sql("INSERT INTO stock (code) VALUES ('x')");
    device.run(&mut world.gateway);
    assert_eq!(world.gateway.deltas().count(), 1);
    assert_eq!(
        state_of(&device, "todos"),
        Some(SchemaState::UnknownToGateway { waiting: 1 })
    );
    world.gateway.schemas.push(schema(TODOS));
    device.session.wish(Wish::SyncNow);
    device.settle(&mut world.gateway);
    assert_eq!(
        (world.gateway.deltas().count(), state_of(&device, "todos")),
        (2, None)
    );
}

#[test]
fn a_gateway_that_has_forgotten_a_table_costs_no_edit() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    world.gateway.schemas.clear();
    device.sql("INSERT INTO stock (code) VALUES ('x')");
    device.run(&mut world.gateway);
    let counts = device.status().counts;
    assert_eq!((counts.pending, counts.rejected), (1, 0));
    world.gateway.schemas = vec![schema(STOCK)];
    device.session.wish(Wish::SyncNow);
    device.settle(&mut world.gateway);
    assert_eq!(world.stock(), "x=");
}

#[test]
fn a_type_that_does_not_go_with_the_one_here_is_a_conflict_and_no_loop() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    let other = STOCK.replace(r#""count", "type": "long""#, r#""count", "type": "string""#);
    world.gateway.schemas = vec![schema(&other)];
    device.sql("INSERT INTO stock (code, count) VALUES ('x', 1)");
    device.run(&mut world.gateway);
    let conflict = state_of(&device, "stock");
    assert!(
        matches!(&conflict, Some(SchemaState::Conflict { reason }) if reason.contains("count")),
        "{conflict:?}"
    );
    assert_eq!(
        (device.status().counts.pending, world.gateway.pushes.len()),
        (1, 0)
    );
    world.gateway.schemas = vec![schema(STOCK)];
    device.session.wish(Wish::SyncNow);
    device.settle(&mut world.gateway);
    assert_eq!(
        (world.stock().as_str(), state_of(&device, "stock")),
        ("x=1", None)
    );
}

#[test]
fn a_page_that_no_schema_explains_waits_ever_longer_and_comes_when_one_does() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    // The gateway sends a column that it does not tell of.
    world.arrive(coloured("red"));
    device.session.wish(Wish::SyncNow);
    device.steps.clear();
    let start_ms = device.now_ms();
    while device.now_ms() < start_ms + 600_000 {
        let Step::Wait {
            until_ms: Some(until_ms),
        } = device.run(&mut world.gateway)
        else {
            panic!("it waits");
        };
        device.clock.set(until_ms);
    }
    assert!(device.steps.len() < 100, "{}", device.steps.len());
    let error = device.status().last_error.unwrap();
    assert!(error.message.contains("colour"), "{error:?}");
    device.sql("INSERT INTO stock (code) VALUES ('sent all the same')");
    device.run(&mut world.gateway);
    assert_eq!(world.gateway.deltas().count(), 2);
    world.gateway.schemas = vec![evolved(&schema(STOCK), COLOURED)];
    device.settle(&mut world.gateway);
    assert_eq!(device.rows("SELECT count(*) FROM stock")[0][0], 2.into());
}
