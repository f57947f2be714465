//! The registry: tables that grow, and names that cannot be.

use lakesync_proto::{TableDefinition, TableSchema, Value};

use super::{STOCK, TODOS, client, schema, shown, text};
use crate::ClientError;

fn evolved(from: &TableSchema, body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    from.evolve(&definition).unwrap().schema
}

const MORE_TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "n", "type": "long"},
    {"name": "due", "type": "date"}]}"#;

#[test]
fn an_added_column_joins_rows_that_are_there() {
    let (mut client, _) = client("a");
    let row = client
        .insert("todos", &[("title", text("milk"))])
        .unwrap()
        .row_id;
    client
        .register(&evolved(&schema(TODOS), MORE_TODOS))
        .unwrap();
    client
        .update("todos", row.as_str(), &[("due", Value::Date(0))])
        .unwrap();
    assert_eq!(
        shown(&client, "todos"),
        format!("{row}: due=\"1970-01-01\", title=\"milk\"")
    );
    assert_eq!(
        client.outbox().unwrap().len(),
        2,
        "the edit from before still decodes"
    );
}

#[test]
fn an_older_schema_takes_nothing_away() {
    let (mut client, _) = client("a");
    client
        .register(&evolved(&schema(TODOS), MORE_TODOS))
        .unwrap();
    client.register(&schema(TODOS)).unwrap();
    client.insert("todos", &[("due", Value::Date(0))]).unwrap();
}

const FEWER_TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#;

#[test]
fn a_dropped_column_goes_and_comes_back_empty_and_of_another_type() {
    let (mut client, _) = client("a");
    let row = client
        .insert("todos", &[("title", text("milk")), ("n", Value::Long(1))])
        .unwrap()
        .row_id;
    let fewer = evolved(&schema(TODOS), FEWER_TODOS);
    client.register(&fewer).unwrap();
    assert_eq!(shown(&client, "todos"), format!("{row}: title=\"milk\""));
    client
        .update("todos", row.as_str(), &[("n", Value::Long(2))])
        .unwrap();
    assert_eq!(
        shown(&client, "todos"),
        format!("{row}: title=\"milk\""),
        "such a write is kept and not shown"
    );
    assert_eq!(
        client.outbox().unwrap().len(),
        2,
        "edits of the dropped column still decode"
    );
    let again = evolved(
        &fewer,
        &TODOS.replace(
            r#""name": "n", "type": "long""#,
            r#""name": "n", "type": "string""#,
        ),
    );
    client.register(&again).unwrap();
    assert_eq!(shown(&client, "todos"), format!("{row}: title=\"milk\""));
    client
        .update("todos", row.as_str(), &[("n", text("two"))])
        .unwrap();
    assert_eq!(
        shown(&client, "todos"),
        format!("{row}: n=\"two\", title=\"milk\"")
    );
    client.register(&schema(TODOS)).unwrap();
    assert!(
        shown(&client, "todos").contains("two"),
        "an older schema undoes nothing"
    );
}

#[test]
fn a_column_that_only_this_client_knows_survives_a_newer_schema() {
    let (mut client, _) = client("a");
    client.register(&schema(MORE_TODOS)).unwrap();
    let row = client
        .insert("todos", &[("due", Value::Date(0))])
        .unwrap()
        .row_id;
    let other = TODOS.replace(
        r#"{"name": "n", "type": "long"}"#,
        r#"{"name": "n", "type": "long"}, {"name": "tag", "type": "string"}"#,
    );
    client.register(&evolved(&schema(TODOS), &other)).unwrap();
    client
        .update("todos", row.as_str(), &[("tag", text("x"))])
        .unwrap();
    assert_eq!(
        shown(&client, "todos"),
        format!("{row}: due=\"1970-01-01\", tag=\"x\"")
    );
}

#[test]
fn another_type_or_key_is_a_conflict() {
    let (mut client, _) = client("a");
    let other_type = STOCK.replace(
        r#""name": "count", "type": "long""#,
        r#""name": "count", "type": "string""#,
    );
    let other_key = STOCK.replace(r#""primaryKey": ["code"]"#, r#""primaryKey": ["count"]"#);
    for body in [other_type, other_key] {
        let error = client.register(&schema(&body)).unwrap_err();
        assert!(
            matches!(error, ClientError::SchemaConflict { .. }),
            "{error}"
        );
    }
    client
        .insert("stock", &[("code", text("x")), ("count", Value::Long(1))])
        .unwrap();
}

#[test]
fn names_that_sqlite_cannot_tell_apart_are_refused() {
    let (mut client, _) = client("a");
    for name in ["Todos", "_lakesync_state", "sqlite_x"] {
        let error = client
            .register(&schema(&TODOS.replace("todos", name)))
            .unwrap_err();
        assert!(
            matches!(error, ClientError::NameTaken { .. }),
            "{name}: {error}"
        );
    }
    let twins = r#"{"table": "twins", "columns": [{"name": "a", "type": "long"}, {"name": "b", "type": "long"}]}"#;
    let mut twins = schema(twins);
    twins.columns[1].name = lakesync_proto::ColumnName::parse("A").unwrap();
    let error = client.register(&twins).unwrap_err();
    assert!(
        matches!(error, ClientError::SchemaConflict { .. }),
        "{error}"
    );
    assert!(client.rows("twins").is_err(), "nothing is left of it");
}
