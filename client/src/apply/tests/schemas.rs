//! Tables and columns that come with the first page that needs them.

use lakesync_proto::{Op, TableDefinition, TableSchema, Value};

use crate::error::ClientError;
use crate::rows::tests::world::{TODOS, World, delta, page, schema, settled};

fn evolved(before: &TableSchema, body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    before.evolve(&definition).unwrap().schema
}

const WITH_OWNER: &str = r#"{"table": "todos", "columns": [{"name": "title", "type": "string"},
    {"name": "done", "type": "boolean"}, {"name": "n", "type": "long"}, {"name": "owner", "type": "string"}]}"#;

#[test]
fn a_new_column_comes_with_the_first_delta_that_needs_it() {
    let mut world = World::new(&[TODOS]);
    let newer = evolved(&schema(TODOS), WITH_OWNER);
    let old = settled(("todos", "old"), &[("title", Value::from("x"))]);
    let newer = [newer];
    world.page_with(&page(&[(1, old)], &[], 1), &newer).unwrap();
    let columns = "SELECT count(*) FROM pragma_table_info('todos')";
    assert_eq!(world.count(columns), 4, "no delta has needed it yet");
    let cells = [("owner", Value::from("ann"))];
    let first = delta(Op::Update, ("todos", "old"), ("ann", 0), &cells);
    world
        .page_with(&page(&[(2, first)], &[], 2), &newer)
        .unwrap();
    assert_eq!(world.rows("todos"), "old: owner=\"ann\" title=\"x\"");
    assert_eq!(world.confirmed("todos", "old"), "owner=\"ann\" title=\"x\"");
}

#[test]
fn a_column_and_a_table_come_in_the_transaction_of_the_page_that_needs_them_or_not_at_all() {
    let mut world = World::new(&[TODOS]);
    world
        .connection
        .execute_batch("CREATE UNIQUE INDEX titles ON todos (title)")
        .unwrap();
    let notes = schema(r#"{"table": "notes", "columns": [{"name": "text", "type": "string"}]}"#);
    let newer = [evolved(&schema(TODOS), WITH_OWNER), notes];
    let file = "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema ORDER BY name)";
    let file = |world: &World| -> String {
        let found = world.connection.query_row(file, [], |row| row.get(0));
        found.unwrap()
    };
    let before = file(&world);
    let row = |row| {
        let cells = [
            ("owner", Value::from("ann")),
            ("title", Value::from("same")),
        ];
        delta(Op::Insert, ("todos", row), ("ann", 0), &cells)
    };
    let note = delta(
        Op::Insert,
        ("notes", "n"),
        ("ann", 0),
        &[("text", Value::from("x"))],
    );
    let news = page(&[(1, note), (2, row("a")), (3, row("b"))], &[], 3);
    world.page_with(&news, &newer).unwrap_err();
    assert_eq!(file(&world), before, "the page failed after them");
    let columns = "SELECT count(*) FROM _lakesync_columns WHERE column_name IN ('owner', 'text')";
    assert_eq!(world.count(columns), 0);
    world.connection.execute_batch("DROP INDEX titles").unwrap();
    world.page_with(&news, &newer).unwrap();
    assert_eq!(world.count(columns), 2);
    assert_eq!(world.rows("notes"), "n: text=\"x\"");
}

#[test]
fn a_new_table_comes_with_its_first_row() {
    let mut world = World::new(&[]);
    let row = delta(
        Op::Insert,
        ("todos", "a"),
        ("ann", 0),
        &[("n", Value::Long(1))],
    );
    let news = page(&[(1, row)], &[], 1);
    let error = world.page(&news).unwrap_err();
    assert!(matches!(error, ClientError::UnknownTable { .. }), "{error}");
    world.page_with(&news, &[schema(TODOS)]).unwrap();
    assert_eq!(world.rows("todos"), "a: n=1");
}

#[test]
fn a_column_that_no_schema_has_is_an_error_and_nothing_is_changed() {
    let mut world = World::new(&[TODOS]);
    let row = delta(
        Op::Insert,
        ("todos", "a"),
        ("ann", 0),
        &[("owner", Value::from("x"))],
    );
    let news = page(&[(1, row)], &[], 1);
    for schemas in [vec![], vec![schema(TODOS)]] {
        let error = world.page_with(&news, &schemas).unwrap_err();
        assert!(
            matches!(error, ClientError::SchemaConflict { .. }),
            "{error}"
        );
    }
    assert_eq!(world.rows("todos"), "");
}

#[test]
fn a_value_of_another_type_is_an_error() {
    let mut world = World::new(&[TODOS]);
    let row = delta(
        Op::Insert,
        ("todos", "a"),
        ("ann", 0),
        &[("n", Value::from("one"))],
    );
    let error = world
        .page_with(&page(&[(1, row)], &[], 1), &[schema(TODOS)])
        .unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
}

#[test]
fn writes_to_a_dropped_column_are_shown_nowhere() {
    let mut world = World::new(&[TODOS]);
    let cells = [("n", Value::Long(1)), ("title", Value::from("x"))];
    let row = delta(Op::Insert, ("todos", "a"), ("ann", -9), &cells);
    world.page(&page(&[(1, row.clone())], &[], 1)).unwrap();
    let without = r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#;
    let newer = evolved(&schema(TODOS), without);
    world
        .keep(|work| work.registry.adopt(work.tx, &newer))
        .unwrap();
    let late = delta(
        Op::Update,
        ("todos", "a"),
        ("zoe", -5),
        &[("n", Value::Long(2)), ("title", Value::from("y"))],
    );
    world.page(&page(&[(2, late), (2, row)], &[], 2)).unwrap();
    assert_eq!(world.rows("todos"), "a: title=\"y\"");
    world.edit_one(Op::Delete, ("todos", "a"), &[]);
    world.refuse(0);
    assert_eq!(world.rows("todos"), "a: title=\"y\"");
}

#[test]
fn withdrawn_rows_of_tables_that_are_not_here_are_no_matter() {
    let mut world = World::new(&[TODOS]);
    world.page(&page(&[], &[(1, "elsewhere", "a")], 1)).unwrap();
}
