//! Pages of pulls.

use lakesync_proto::{Hlc, Op, Seq, Value};

use crate::apply;
use crate::error::{ClientError, ErrorKind};
use crate::rows::tests::seq;
use crate::rows::tests::world::{NOW_MS, STOCK, TODOS, World, delta, page, settled};
use crate::{outbox, state};

fn title(text: &str) -> (&'static str, Value) {
    ("title", Value::from(text))
}

#[test]
fn a_page_and_its_cursor_come_together() {
    let mut world = World::new(&[TODOS]);
    let insert = delta(Op::Insert, ("todos", "a"), ("ann", -10), &[title("milk")]);
    let applied = world.page(&page(&[(4, insert)], &[], 7)).unwrap();
    assert_eq!((applied.changes, applied.stale), (1, false));
    assert_eq!(world.rows("todos"), "a: title=\"milk\"");
    world
        .keep(|work| {
            assert_eq!(state::seq(work.tx)?, seq(7));
            assert!(state::cursor(work.tx)?.is_some());
            assert_eq!(state::known(work.tx)?, Hlc::new(NOW_MS - 10, 0)?);
            assert!(state::clock(work.tx)? > Hlc::new(NOW_MS - 10, 0)?);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_page_behind_another_cursor_is_left_alone() {
    let mut world = World::new(&[TODOS]);
    let first = page(
        &[(1, delta(Op::Insert, ("todos", "a"), ("ann", 0), &[]))],
        &[],
        1,
    );
    world.page(&first).unwrap();
    let late = page(
        &[(1, delta(Op::Delete, ("todos", "a"), ("ann", 5), &[]))],
        &[],
        9,
    );
    let applied = world
        .keep(|work| apply::page(work, "", &late, &[]))
        .unwrap();
    assert!(applied.stale);
    assert_eq!(world.rows("todos"), "a: ");
    assert_eq!(world.keep(|work| state::seq(work.tx)).unwrap(), seq(1));
}

#[test]
fn a_page_that_lost_a_delta_on_its_way_is_refused_whole() {
    let mut world = World::new(&[TODOS]);
    let mut torn = page(
        &[
            (1, delta(Op::Insert, ("todos", "a"), ("ann", 0), &[])),
            (2, delta(Op::Insert, ("todos", "b"), ("ann", 1), &[])),
        ],
        &[],
        2,
    );
    torn.deltas.pop();
    let error = world.page(&torn).unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    assert_eq!(world.rows("todos"), "");
    assert_eq!(world.keep(|work| state::cursor(work.tx)).unwrap(), None);
}

#[test]
fn a_page_without_a_cursor_is_no_page() {
    let mut world = World::new(&[TODOS]);
    let mut page = page(&[], &[], 2);
    page.notes.next = None;
    let error = world.page(&page).unwrap_err();
    assert!(error.to_string().contains("without a cursor"), "{error}");
}

#[test]
fn a_page_of_another_log_starts_over() {
    let mut world = World::new(&[TODOS]);
    world.edit_one(Op::Insert, ("todos", "mine"), &[title("mine")]);
    world.push_all(1);
    world.page(&page(&[], &[], 0)).unwrap();
    let mut other = page(
        &[(5, delta(Op::Insert, ("todos", "a"), ("ann", 0), &[]))],
        &[],
        5,
    );
    other.epoch = "5f0c3c1e-0000-4000-8000-000000000002".parse().unwrap();
    let applied = world.page(&other).unwrap();
    assert!(applied.other_log);
    assert_eq!(world.rows("todos"), "mine: title=\"mine\"");
    world
        .keep(|work| {
            assert_eq!(state::cursor(work.tx)?, None);
            assert_eq!(state::seq(work.tx)?, Seq::ZERO);
            assert_eq!(outbox::counts(work.tx)?.pending, 1, "it goes again");
            Ok(())
        })
        .unwrap();
}

#[test]
fn of_a_page_only_what_changes_rows_is_told() {
    let mut world = World::new(&[TODOS]);
    let insert = delta(Op::Insert, ("todos", "a"), ("ann", -9), &[title("milk")]);
    world.page(&page(&[(1, insert.clone())], &[], 1)).unwrap();
    assert_eq!(world.told().len(), 1);
    let again = delta(Op::Update, ("todos", "a"), ("zoe", -8), &[title("milk")]);
    let older = delta(Op::Update, ("todos", "a"), ("zoe", -50), &[title("old")]);
    let nobody = delta(Op::Delete, ("todos", "b"), ("zoe", -8), &[]);
    let news = page(&[(2, insert), (3, again), (4, older), (5, nobody)], &[], 5);
    assert_eq!(world.page(&news).unwrap().changes, 4);
    assert!(world.told().is_empty());
}

#[test]
fn a_withdrawn_row_goes_and_may_come_back_with_its_old_stamps() {
    let mut world = World::new(&[TODOS]);
    let insert = delta(Op::Insert, ("todos", "a"), ("ann", -9), &[title("milk")]);
    let old = settled(("todos", "b"), &[title("eggs")]);
    world
        .page(&page(&[(1, insert.clone()), (1, old.clone())], &[], 1))
        .unwrap();
    world
        .page(&page(&[], &[(2, "todos", "a"), (3, "todos", "b")], 3))
        .unwrap();
    assert_eq!(world.rows("todos"), "");
    assert_eq!(
        world.count("SELECT count(*) FROM _lakesync_rows"),
        0,
        "no tombstone is left"
    );
    world.page(&page(&[(4, insert), (5, old)], &[], 5)).unwrap();
    assert_eq!(world.rows("todos"), "a: title=\"milk\"; b: title=\"eggs\"");
}

#[test]
fn within_a_page_the_seq_decides_between_deltas_and_withdrawals() {
    let mut world = World::new(&[TODOS]);
    let write = |after, text| delta(Op::Update, ("todos", "a"), ("ann", after), &[title(text)]);
    let row_b = delta(Op::Insert, ("todos", "b"), ("ann", 0), &[title("b")]);
    let news = page(
        &[(1, write(1, "1")), (1, row_b), (3, write(0, "whole again"))],
        &[(2, "todos", "a"), (4, "todos", "b")],
        4,
    );
    world.page(&news).unwrap();
    assert_eq!(world.rows("todos"), "a: title=\"whole again\"");
}

#[test]
fn own_edits_outlive_the_withdrawal_of_their_row() {
    let mut world = World::new(&[TODOS]);
    let cells = [title("milk"), ("n", Value::Long(1))];
    let insert = delta(Op::Insert, ("todos", "a"), ("ann", -9), &cells);
    world.page(&page(&[(1, insert)], &[], 1)).unwrap();
    world.edit_one(Op::Update, ("todos", "a"), &[("n", Value::Long(2))]);
    world.page(&page(&[], &[(2, "todos", "a")], 2)).unwrap();
    assert_eq!(world.rows("todos"), "a: n=2");
    world.refuse(0);
    assert_eq!(world.rows("todos"), "");
}

#[test]
fn a_revived_row_shows_what_was_written_after_the_delete() {
    let mut world = World::new(&[TODOS]);
    let cells = [
        title("milk"),
        ("n", Value::Long(1)),
        ("done", Value::Boolean(true)),
    ];
    for row in ["a", "b"] {
        let old = match row {
            "a" => delta(Op::Insert, ("todos", row), ("ann", -90), &cells),
            _ => settled(("todos", row), &cells),
        };
        world
            .keep(|work| {
                let since = state::cursor(work.tx)?.unwrap_or_default();
                apply::page(work, &since, &page(&[(1, old)], &[], 1), &[])
            })
            .unwrap();
        // The write arrives before the delete that it has survived.
        let write = delta(
            Op::Update,
            ("todos", row),
            ("ann", -10),
            &[("n", Value::Long(3))],
        );
        let delete = delta(Op::Delete, ("todos", row), ("zoe", -20), &[]);
        world
            .page(&page(&[(2, write), (3, delete)], &[], 3))
            .unwrap();
    }
    assert_eq!(world.rows("todos"), "a: n=3; b: n=3");
}

#[test]
fn two_rows_that_change_places_under_a_unique_index_find_them_in_any_order() {
    let mut world = World::new(&[TODOS]);
    let row = |row, text| delta(Op::Insert, ("todos", row), ("ann", -9), &[title(text)]);
    world
        .page(&page(&[(1, row("a", "1")), (2, row("b", "2"))], &[], 2))
        .unwrap();
    world
        .connection
        .execute_batch("CREATE UNIQUE INDEX titles ON todos (title)")
        .unwrap();
    let next = |row, text| delta(Op::Update, ("todos", row), ("ann", -5), &[title(text)]);
    // b makes way for a, and stands behind it.
    world
        .page(&page(&[(3, next("b", "3")), (4, next("a", "2"))], &[], 4))
        .unwrap();
    assert_eq!(world.rows("todos"), "a: title=\"2\"; b: title=\"3\"");
}

#[test]
fn a_row_that_an_index_forbids_is_named_and_the_page_is_not_applied() {
    let mut world = World::new(&[TODOS]);
    world
        .connection
        .execute_batch("CREATE UNIQUE INDEX titles ON todos (title)")
        .unwrap();
    let row = |row| delta(Op::Insert, ("todos", row), ("ann", -9), &[title("same")]);
    let error = world
        .page(&page(&[(1, row("a")), (2, row("b"))], &[], 2))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Local);
    assert!(error.to_string().contains("row b of todos"), "{error}");
    assert!(error.to_string().contains("UNIQUE"), "{error}");
    assert_eq!(world.rows("todos"), "");
    world.connection.execute_batch("DROP INDEX titles").unwrap();
    world
        .page(&page(&[(1, row("a")), (2, row("b"))], &[], 2))
        .unwrap();
}

#[test]
fn a_stamp_beyond_the_drift_bound_is_merged_and_teaches_nothing() {
    let mut world = World::new(&[TODOS]);
    let far = delta(
        Op::Insert,
        ("todos", "a"),
        ("bad", 3_600_000),
        &[title("far")],
    );
    let near = delta(Op::Insert, ("todos", "b"), ("ann", 4_000), &[title("near")]);
    world.page(&page(&[(1, far), (2, near)], &[], 2)).unwrap();
    assert_eq!(world.rows("todos"), "a: title=\"far\"; b: title=\"near\"");
    let clock = world.keep(|work| state::clock(work.tx)).unwrap();
    assert_eq!(clock.wall_ms(), NOW_MS + 4_000);
}

#[test]
fn what_a_gateway_of_another_time_says_is_measured_by_its_own_clock() {
    let mut world = World::new(&[TODOS]);
    world
        .keep(|work| state::set_skew_ms(work.tx, 3_600_000))
        .unwrap();
    let ahead = delta(
        Op::Insert,
        ("todos", "a"),
        ("ann", 3_600_000),
        &[title("x")],
    );
    world.page(&page(&[(1, ahead.clone())], &[], 1)).unwrap();
    let clock = world.keep(|work| state::clock(work.tx)).unwrap();
    assert!(clock > ahead.hlc);
}

#[test]
fn a_row_id_that_is_no_key_of_its_table_is_an_error() {
    let mut world = World::new(&[STOCK]);
    let wrong = delta(Op::Insert, ("stock", "no json"), ("ann", 0), &[]);
    world.page(&page(&[(1, wrong)], &[], 1)).unwrap_err();
}

#[test]
fn the_warehouse_frees_what_was_kept_for_it() {
    let mut world = World::new(&[TODOS]);
    let own = world.edit_one(Op::Insert, ("todos", "a"), &[title("x")]);
    world.push_all(1);
    world.page(&page(&[(1, own)], &[], 1)).unwrap();
    let counts = world.keep(|work| outbox::counts(work.tx)).unwrap();
    assert_eq!((counts.acknowledged, counts.kept), (0, 1));
    let mut next = page(&[], &[], 2);
    next.notes.durable = Some(seq(1));
    world.page(&next).unwrap();
    assert_eq!(world.keep(|work| outbox::counts(work.tx)).unwrap().kept, 0);
}
