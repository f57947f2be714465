//! Columns that come, grow and go.

use lakesync_proto::{ColumnName, TableName};

use super::{changes, evolved, file, refusal, schema};
use crate::error::ClientError;
use crate::schema::Registry;

const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "n", "type": "decimal(4,2)"}]}"#;

fn slot(registry: &Registry, column: &str) -> Option<u32> {
    let table = registry.table(&TableName::parse("todos").unwrap()).unwrap();
    let column = table.column(&ColumnName::parse(column).unwrap())?;
    Some(column.slot)
}

#[test]
fn a_dropped_column_comes_back_empty_under_a_new_slot() {
    let first = schema(TODOS);
    let (connection, mut registry) = file(&[&first]);
    connection
        .execute_batch(
            "INSERT INTO todos VALUES ('r', 'milk', '1.50'); DELETE FROM _lakesync_changes;
             CREATE UNIQUE INDEX n ON todos (n); CREATE INDEX \"t\"\"n\" ON todos (title, N);",
        )
        .unwrap();
    let fewer = evolved(
        &first,
        r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#,
    );
    registry.adopt(&connection, &fewer).unwrap();
    assert_eq!(slot(&registry, "n"), None);
    let again = evolved(
        &fewer,
        r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "n", "type": "long"}]}"#,
    );
    registry.adopt(&connection, &again).unwrap();
    assert_eq!(
        (slot(&registry, "title"), slot(&registry, "n")),
        (Some(0), Some(2))
    );
    connection
        .execute_batch("UPDATE todos SET n = 5 WHERE n IS NULL")
        .unwrap();
    assert_eq!(changes(&connection), ["kind=2 row_id=r n2=5"]);
    let loaded = Registry::load(&connection).unwrap();
    assert_eq!(slot(&loaded, "n"), Some(2));
}

#[test]
fn a_decimal_that_grows_takes_more_digits_and_can_still_go() {
    let first = schema(TODOS);
    let (connection, mut registry) = file(&[&first]);
    connection
        .execute_batch(
            "INSERT INTO todos VALUES ('r', 'milk', '99.99'); DELETE FROM _lakesync_changes",
        )
        .unwrap();
    assert!(
        connection
            .execute_batch("UPDATE todos SET n = '100.00'")
            .is_err()
    );
    let wider = evolved(&first, &TODOS.replace("(4,2)", "(9,2)"));
    registry.adopt(&connection, &wider).unwrap();
    connection
        .execute_batch("UPDATE todos SET n = '100.00'")
        .unwrap();
    assert!(
        connection
            .execute_batch("UPDATE todos SET n = '1.5'")
            .is_err()
    );
    assert_eq!(changes(&connection), ["kind=2 row_id=r n1=100.00 o1=99.99"]);
    connection
        .execute_batch("DELETE FROM _lakesync_changes")
        .unwrap();
    let fewer = evolved(
        &wider,
        r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#,
    );
    registry.adopt(&connection, &fewer).unwrap();
    assert_eq!(slot(&registry, "n"), None);
}

#[test]
fn a_column_that_a_view_uses_is_not_torn_out() {
    let first = schema(TODOS);
    let (connection, mut registry) = file(&[&first]);
    connection
        .execute_batch("CREATE VIEW mine AS SELECT n FROM todos")
        .unwrap();
    let fewer = evolved(
        &first,
        r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#,
    );
    let error = registry.adopt(&connection, &fewer).unwrap_err();
    assert!(
        matches!(error, ClientError::SchemaConflict { .. }),
        "{error:?}"
    );
    assert!(refusal(&error).contains("view mine"), "{error}");
}

#[test]
fn as_many_columns_as_there_can_be_are_captured_and_one_more_is_refused() {
    let body = |count: usize| {
        let columns: Vec<String> = (0..count)
            .map(|n| format!(r#"{{"name": "c{n}", "type": "long"}}"#))
            .collect();
        format!(r#"{{"table": "wide", "columns": [{}]}}"#, columns.join(","))
    };
    let first = schema(&body(900));
    let (connection, mut registry) = file(&[&first]);
    connection
        .execute_batch(
            "INSERT INTO wide (row_id, c899) VALUES ('r', 1); UPDATE wide SET c0 = 7; UPDATE wide SET row_id = 's';
             DELETE FROM wide",
        )
        .unwrap();
    assert_eq!(
        changes(&connection),
        [
            "kind=7 row_id=r",
            "kind=2 row_id=r n0=7",
            "kind=4 row_id=r new_row_id=s n0=7 o0=7 n899=1 o899=1",
            "kind=3 row_id=s o0=7 o899=1",
        ]
    );
    connection
        .execute_batch("DELETE FROM _lakesync_changes")
        .unwrap();
    let error = registry
        .adopt(&connection, &evolved(&first, &body(901)))
        .unwrap_err();
    assert!(
        matches!(error, ClientError::TooWide { columns: 901, .. }),
        "{error}"
    );
}

#[test]
fn numbers_are_not_given_twice() {
    let other = TODOS.replace("todos", "others");
    let (connection, registry) = file(&[&schema(TODOS), &schema(&other)]);
    let mut numbers: Vec<i64> = registry.tables().map(|table| table.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    for number in numbers {
        assert_eq!(registry.numbered(number).unwrap().number, number);
    }
    assert!(registry.numbered(3).is_none());
    drop(connection);
}

#[test]
fn what_the_gateway_has_is_noted_and_holds_up_nothing() {
    let first = schema(TODOS);
    let (connection, mut registry) = file(&[&first]);
    connection.execute_batch("CREATE TABLE mine (a)").unwrap();
    let other_type = schema(&TODOS.replace("decimal(4,2)", "long"));
    let mine = schema(&TODOS.replace("todos", "mine"));
    let new = schema(&TODOS.replace("todos", "fresh"));
    let refused = registry
        .note_gateway(&connection, &[mine, other_type.clone(), new], 7)
        .unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].table, "mine");
    assert!(matches!(refused[0].reason, ClientError::NameTaken { .. }));
    let loaded = Registry::load(&connection).unwrap();
    for registry in [&registry, &loaded] {
        let todos = registry.table(&TableName::parse("todos").unwrap()).unwrap();
        assert_eq!(todos.gateway.as_deref(), Some(&other_type));
        assert!(
            todos.conflict.as_ref().unwrap().contains("column n was"),
            "{todos:?}"
        );
        let fresh = registry.table(&TableName::parse("fresh").unwrap()).unwrap();
        assert!(fresh.gateway.is_some() && fresh.conflict.is_none());
    }
    registry.note_gateway(&connection, &[], 8).unwrap();
    let todos = registry.table(&TableName::parse("todos").unwrap()).unwrap();
    assert!(todos.gateway.is_none() && todos.conflict.is_none());
    assert_eq!(crate::state::schemas_hash(&connection).unwrap(), Some(8));
}

#[test]
fn another_connections_change_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let one = rusqlite::Connection::open(&path).unwrap();
    crate::format::initialise(&one).unwrap();
    let two = rusqlite::Connection::open(&path).unwrap();
    let mut here = Registry::load(&one).unwrap();
    let there = Registry::load(&two).unwrap();
    here.adopt(&one, &schema(TODOS)).unwrap();
    let todos = TableName::parse("todos").unwrap();
    assert!(there.table(&todos).is_err());
    assert!(there.refreshed(&two).unwrap().table(&todos).is_ok());
}
