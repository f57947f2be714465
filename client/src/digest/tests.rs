//! The digest counts what is confirmed.

use lakesync_proto::{Op, Value};

use super::{Digest, GatewayDigest, TableDigest, of_tables};
use crate::rows::tests::world::{STOCK, TODOS, World, delta, page, settled, table_name};

fn counts(world: &mut World) -> Vec<(String, u64, u64, u64)> {
    let tables = world.keep(|work| of_tables(work)).unwrap();
    let counts = tables
        .into_iter()
        .map(|t| (t.table.to_string(), t.rows, t.cells, t.hash));
    counts.collect()
}

#[test]
fn own_edits_that_no_page_has_confirmed_do_not_count() {
    let mut world = World::new(&[TODOS, STOCK]);
    let cells = [("title", Value::from("x")), ("done", Value::Null)];
    let first = [
        (1, settled(("todos", "a"), &cells)),
        (2, delta(Op::Insert, ("todos", "b"), ("ann", -9), &cells)),
        (
            3,
            delta(Op::Update, ("stock", r#"["a",1]"#), ("ann", -9), &[]),
        ),
    ];
    world.page(&page(&first, &[], 3)).unwrap();
    let before = counts(&mut world);
    assert_eq!(before[0].1, 1);
    assert_eq!(
        before[0].2, 2,
        "the key columns of a row count, whoever wrote them"
    );
    assert_eq!((before[1].1, before[1].2), (2, 2));
    world.edit_one(Op::Update, ("todos", "a"), &[("title", Value::from("y"))]);
    world.edit_one(Op::Delete, ("todos", "b"), &[]);
    world.edit_one(Op::Insert, ("todos", "c"), &[("title", Value::from("z"))]);
    world.edit_one(Op::Delete, ("stock", r#"["a",1]"#), &[]);
    assert_eq!(counts(&mut world), before);
    world.push_all(4);
    assert_eq!(counts(&mut world), before, "an answer confirms nothing");
    world.page(&page(&[], &[], 7)).unwrap();
    assert_eq!(counts(&mut world), before);
}

#[test]
fn two_digests_differ_by_table_and_only_at_one_cursor() {
    let table = |name: &str, rows: u64, hash: u64| TableDigest {
        table: table_name(name),
        rows,
        cells: rows,
        hash,
    };
    let ours = Digest {
        cursor: Some("here".to_owned()),
        tables: vec![table("a", 1, 5), table("b", 1, 6), table("empty", 0, 0)],
    };
    let theirs = |cursor: &str, tables: Vec<TableDigest>| GatewayDigest {
        cursor: cursor.to_owned(),
        tables,
    };
    let same = vec![table("a", 1, 5), table("b", 1, 6)];
    assert_eq!(ours.differing(&theirs("here", same.clone())), Some(vec![]));
    assert_eq!(ours.differing(&theirs("there", same)), None);
    let other = vec![table("b", 1, 7), table("c", 2, 1)];
    let names = ours.differing(&theirs("here", other)).unwrap();
    assert_eq!(names, ["a", "b", "c"].map(table_name));
}
