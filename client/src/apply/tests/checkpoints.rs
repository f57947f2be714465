//! Checkpoints, from the first chunk to the sweep.

use lakesync_proto::{Op, PullPage, RowDelta, Value};

use crate::apply::{self, Loading};
use crate::rows::tests::seq;
use crate::rows::tests::world::{STOCK, TODOS, World, cursor, delta, page, settled, table_name};
use crate::{outbox, state};

fn row(name: &str, text: &str) -> RowDelta {
    settled(("todos", name), &[("title", Value::from(text))])
}

/// Chunk number `n` of a checkpoint at a seq.
fn chunk(at: u64, n: usize, deltas: &[RowDelta]) -> PullPage {
    let deltas: Vec<(u64, RowDelta)> = deltas.iter().map(|delta| (at, delta.clone())).collect();
    let mut chunk = page(&deltas, &[], at);
    chunk.has_more = true;
    chunk.notes.next = None;
    chunk.notes.resume = Some(format!("behind {n}"));
    chunk
}

fn last(at: u64) -> PullPage {
    page(&[], &[], at)
}

fn begin(world: &mut World, tables: &[&str]) -> Loading {
    let tables: Vec<_> = tables.iter().map(|name| table_name(name)).collect();
    world
        .keep(|work| apply::begin_checkpoint(work, &tables, None))
        .unwrap()
}

#[test]
fn a_first_sync_leaves_settled_rows_without_clocks_and_the_cursor_at_its_end() {
    let mut world = World::new(&[TODOS]);
    assert!(!begin(&mut world, &[]).sweep, "there is nothing to sweep");
    world
        .chunk(&chunk(9, 1, &[row("a", "1"), row("b", "2")]))
        .unwrap();
    let loading = apply::loading(&world.connection).unwrap().unwrap();
    assert_eq!(
        (loading.resume.as_deref(), loading.rows),
        (Some("behind 1"), 2)
    );
    assert_eq!(world.keep(|work| state::cursor(work.tx)).unwrap(), None);
    world.chunk(&last(9)).unwrap();
    assert_eq!(world.rows("todos"), "a: title=\"1\"; b: title=\"2\"");
    assert_eq!(world.count("SELECT count(*) FROM _lakesync_rows"), 0);
    assert_eq!(world.count("SELECT count(*) FROM _lakesync_seen"), 0);
    assert_eq!(apply::loading(&world.connection).unwrap(), None);
    let found = world.keep(|work| state::cursor(work.tx)).unwrap();
    assert_eq!(found, Some(cursor(seq(9)).to_string()));
}

#[test]
fn a_repeated_checkpoint_replaces_what_was_known_and_sweeps_the_rest() {
    let mut world = World::new(&[TODOS, STOCK]);
    let gone = delta(
        Op::Insert,
        ("todos", "gone"),
        ("ann", -9),
        &[("n", Value::Long(1))],
    );
    let dead = delta(Op::Delete, ("todos", "dead"), ("ann", -9), &[]);
    let key = delta(Op::Insert, ("stock", r#"["a",1]"#), ("ann", -9), &[]);
    let more = [("title", Value::from("old")), ("n", Value::Long(7))];
    let stays = settled(("todos", "stays"), &more);
    let first = [
        (1, gone),
        (2, dead),
        (3, key),
        (4, stays),
        (5, row("old gone", "x")),
    ];
    world.page(&page(&first, &[], 5)).unwrap();
    assert!(begin(&mut world, &[]).sweep);
    world
        .chunk(&chunk(9, 1, &[row("stays", "new"), row("new", "2")]))
        .unwrap();
    world.chunk(&last(9)).unwrap();
    assert_eq!(
        world.rows("todos"),
        "new: title=\"2\"; stays: title=\"new\""
    );
    assert_eq!(world.rows("stock"), "");
    assert_eq!(
        world.count("SELECT count(*) FROM _lakesync_rows"),
        0,
        "nor is a tombstone left"
    );
    assert_eq!(world.count("SELECT count(*) FROM _lakesync_seen"), 0);
}

#[test]
fn a_checkpoint_of_one_table_leaves_the_others_and_the_cursor_alone() {
    let mut world = World::new(&[TODOS, STOCK]);
    let key = delta(Op::Insert, ("stock", r#"["a",1]"#), ("ann", -9), &[]);
    world
        .page(&page(&[(1, key), (2, row("a", "1"))], &[], 2))
        .unwrap();
    begin(&mut world, &["todos"]);
    world.chunk(&last(9)).unwrap();
    assert_eq!(world.rows("todos"), "");
    assert_eq!(world.rows("stock"), r#"["a",1]: code="a" place=1"#);
    let found = world.keep(|work| state::cursor(work.tx)).unwrap();
    assert_eq!(
        found,
        Some(cursor(seq(2)).to_string()),
        "pulls go on where they were"
    );
}

#[test]
fn pulls_go_on_where_the_gateway_says() {
    let mut world = World::new(&[TODOS]);
    world.page(&page(&[(2, row("a", "1"))], &[], 2)).unwrap();
    let mut then = cursor(seq(2));
    then.rules = 5;
    world
        .keep(|work| apply::begin_checkpoint(work, &[table_name("todos")], Some(&then)))
        .unwrap();
    world.chunk(&last(9)).unwrap();
    let found = world.keep(|work| state::cursor(work.tx)).unwrap();
    assert_eq!(found, Some(then.to_string()));
    assert_eq!(world.keep(|work| state::seq(work.tx)).unwrap(), seq(2));
}

#[test]
fn own_edits_are_spared_and_covered_ones_fall_back() {
    let mut world = World::new(&[TODOS]);
    world
        .page(&page(&[(1, row("a", "1")), (1, row("b", "2"))], &[], 1))
        .unwrap();
    let title = |text: &str| [("title", Value::from(text))];
    world.edit_one(Op::Update, ("todos", "a"), &title("covered"));
    world.push_all(2);
    world.edit_one(Op::Update, ("todos", "b"), &[("n", Value::Long(1))]);
    world.edit_one(Op::Insert, ("todos", "mine"), &title("mine"));
    begin(&mut world, &[]);
    world
        .chunk(&chunk(9, 1, &[row("a", "rules hid the edit")]))
        .unwrap();
    assert!(world.rows("todos").contains("a: title=\"covered\""));
    world.chunk(&last(9)).unwrap();
    let shown = "a: title=\"rules hid the edit\"; b: n=1; mine: title=\"mine\"";
    assert_eq!(world.rows("todos"), shown);
    assert_eq!(
        world.keep(|work| outbox::counts(work.tx)).unwrap().pending,
        2
    );
}

#[test]
fn pages_and_chunks_of_another_checkpoint_are_left_alone_meanwhile() {
    let mut world = World::new(&[TODOS]);
    world.page(&page(&[(1, row("a", "1"))], &[], 1)).unwrap();
    begin(&mut world, &[]);
    let news = page(
        &[(2, delta(Op::Delete, ("todos", "a"), ("ann", 0), &[]))],
        &[],
        2,
    );
    assert!(world.page(&news).unwrap().stale);
    world.chunk(&chunk(9, 1, &[row("a", "9")])).unwrap();
    assert!(world.chunk(&chunk(10, 1, &[row("a", "10")])).unwrap().stale);
    world.chunk(&last(9)).unwrap();
    assert!(world.chunk(&last(9)).unwrap().stale, "it has ended");
    assert_eq!(world.rows("todos"), "a: title=\"9\"");
}

#[test]
fn a_checkpoint_of_another_log_makes_acknowledged_edits_go_again() {
    let mut world = World::new(&[TODOS]);
    world.page(&page(&[], &[], 7)).unwrap();
    let own = world.edit_one(Op::Insert, ("todos", "mine"), &[("n", Value::Long(1))]);
    world.push_all(8);
    world.page(&page(&[(8, own)], &[], 8)).unwrap();
    begin(&mut world, &[]);
    let mut end = last(3);
    end.epoch = "5f0c3c1e-0000-4000-8000-000000000002".parse().unwrap();
    end.notes.next.as_mut().unwrap().epoch = end.epoch.clone();
    world.chunk(&end).unwrap();
    assert_eq!(world.rows("todos"), "mine: n=1");
    assert_eq!(
        world.confirmed("todos", "mine"),
        "nothing",
        "the new log has never heard of it"
    );
    world
        .keep(|work| {
            assert_eq!(state::seq(work.tx)?, seq(3));
            assert_eq!(state::epoch(work.tx)?, Some(end.epoch.clone()));
            assert_eq!(outbox::counts(work.tx)?.pending, 1);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_row_that_was_cut_between_two_chunks_is_whole_in_the_end() {
    let mut world = World::new(&[TODOS]);
    let known = settled(
        ("todos", "a"),
        &[
            ("title", Value::from("old")),
            ("done", Value::Boolean(true)),
        ],
    );
    world.page(&page(&[(1, known)], &[], 1)).unwrap();
    begin(&mut world, &[]);
    let mut rest = settled(("todos", "a"), &[("n", Value::Long(1))]);
    rest.op = Op::Update;
    world.chunk(&chunk(9, 1, &[row("a", "new")])).unwrap();
    world.chunk(&chunk(9, 2, &[rest])).unwrap();
    world.chunk(&last(9)).unwrap();
    assert_eq!(world.rows("todos"), "a: n=1 title=\"new\"");
}

#[test]
fn a_large_table_is_swept_in_parts() {
    let mut world = World::new(&[TODOS]);
    let rows: Vec<(u64, RowDelta)> = (0..2_500)
        .map(|n| match n % 2 {
            0 => (1, row(&format!("r{n}"), "x")),
            _ => (
                1,
                delta(Op::Insert, ("todos", &format!("r{n}")), ("ann", -9), &[]),
            ),
        })
        .collect();
    world.page(&page(&rows, &[], 1)).unwrap();
    begin(&mut world, &[]);
    world
        .chunk(&chunk(9, 1, &[row("r7", "kept"), row("r8", "kept")]))
        .unwrap();
    world.chunk(&last(9)).unwrap();
    assert_eq!(
        world.rows("todos"),
        "r7: title=\"kept\"; r8: title=\"kept\""
    );
}
