//! Own edits that hide confirmed values, and fall back to them.

use lakesync_proto::{Op, Value};

use super::world::{STOCK, TODOS, World, delta, page, settled};

/// A row that the gateway wrote with clocks, and one that is settled.
fn world() -> World {
    let mut world = World::new(&[TODOS, STOCK]);
    let cells = [("title", Value::from("milk")), ("n", Value::Long(1))];
    let fresh = delta(Op::Insert, ("todos", "fresh"), ("ann", -1_000), &cells);
    let old = settled(
        ("todos", "old"),
        &[("title", Value::from("eggs")), ("n", Value::Long(2))],
    );
    world.page(&page(&[(1, fresh), (1, old)], &[], 1)).unwrap();
    assert_eq!(
        world.rows("todos"),
        r#"fresh: n=1 title="milk"; old: n=2 title="eggs""#
    );
    world
}

#[test]
fn a_refused_update_falls_back_to_what_was_confirmed() {
    for row in ["fresh", "old"] {
        let mut world = world();
        let before = world.rows("todos");
        world.edit_one(Op::Update, ("todos", row), &[("title", Value::from("x"))]);
        world.edit_one(
            Op::Update,
            ("todos", row),
            &[("title", Value::Null), ("done", true.into())],
        );
        assert_ne!(world.rows("todos"), before);
        world.refuse(0);
        assert!(
            world.rows("todos").contains("done=true"),
            "the other edit still shows"
        );
        world.refuse(0);
        assert_eq!(world.rows("todos"), before);
        assert_eq!(world.count("SELECT count(*) FROM _lakesync_confirmed"), 0);
    }
}

#[test]
fn a_refused_delete_brings_the_row_back() {
    for (row, cells) in [
        ("fresh", "n=1 title=\"milk\""),
        ("old", "n=2 title=\"eggs\""),
    ] {
        let mut world = world();
        let before = world.rows("todos");
        world.edit_one(Op::Update, ("todos", row), &[("n", Value::Long(7))]);
        world.edit_one(Op::Delete, ("todos", row), &[]);
        assert!(!world.rows("todos").contains(row));
        assert_eq!(
            world.confirmed("todos", row),
            cells,
            "it is confirmed all the while"
        );
        world.refuse(1);
        world.refuse(0);
        assert_eq!(world.rows("todos"), before);
        assert_eq!(
            world.count("SELECT count(*) FROM _lakesync_rows"),
            1,
            "the settled row has no clocks again"
        );
    }
}

#[test]
fn a_row_that_was_replaced_has_its_confirmed_values_under_the_new_ones() {
    for row in ["fresh", "old"] {
        let mut world = world();
        let confirmed = world.confirmed("todos", row);
        world.edit_one(Op::Delete, ("todos", row), &[]);
        world.edit_one(Op::Insert, ("todos", row), &[("title", Value::from("new"))]);
        assert!(
            world
                .rows("todos")
                .contains(&format!("{row}: title=\"new\""))
        );
        assert_eq!(world.confirmed("todos", row), confirmed);
        world.refuse(1);
        assert!(!world.rows("todos").contains(row), "the delete is left");
        assert_eq!(world.confirmed("todos", row), confirmed);
    }
}

#[test]
fn a_refused_insert_goes_without_a_trace() {
    let mut world = world();
    let before = world.rows("todos");
    world.edit_one(
        Op::Insert,
        ("todos", "mine"),
        &[("title", Value::from("x"))],
    );
    world.edit_one(Op::Update, ("todos", "mine"), &[("n", Value::Long(1))]);
    assert_eq!(world.confirmed("todos", "mine"), "nothing");
    assert_eq!(
        world.count("SELECT count(*) FROM _lakesync_confirmed"),
        0,
        "there is nothing to hide"
    );
    world.refuse(0);
    assert!(world.rows("todos").contains("mine: n=1"));
    world.refuse(0);
    assert_eq!(world.rows("todos"), before);
    assert_eq!(world.count("SELECT count(*) FROM _lakesync_rows"), 1);
}

#[test]
fn an_acknowledged_edit_shows_until_the_cursor_has_passed_it() {
    let mut world = world();
    let before = world.rows("todos");
    let own = world.edit_one(
        Op::Update,
        ("todos", "fresh"),
        &[("title", Value::from("x"))],
    );
    world.push_all(2);
    assert!(world.rows("todos").contains("title=\"x\""));
    assert_eq!(
        world.confirmed("todos", "fresh"),
        "n=1 title=\"milk\"",
        "an answer is no page"
    );
    // The page brings it.
    world.page(&page(&[(2, own)], &[], 2)).unwrap();
    assert!(world.rows("todos").contains("title=\"x\""));
    assert_eq!(world.confirmed("todos", "fresh"), "n=1 title=\"x\"");
    assert!(
        world.told().is_empty(),
        "nothing has changed for those who watch"
    );
    // Rules hide the next one.
    world.edit_one(Op::Update, ("todos", "old"), &[("title", Value::from("y"))]);
    world.push_all(3);
    world.page(&page(&[], &[], 3)).unwrap();
    assert_eq!(world.rows("todos"), before.replace("milk", "x"));
    assert_eq!(world.told().len(), 1);
}

#[test]
fn a_newer_write_of_another_shows_through_an_own_one() {
    let mut world = world();
    world.edit_one(
        Op::Update,
        ("todos", "fresh"),
        &[("title", Value::from("mine")), ("n", Value::Long(5))],
    );
    let theirs = delta(
        Op::Update,
        ("todos", "fresh"),
        ("zoe", 900),
        &[("title", Value::from("theirs"))],
    );
    world.page(&page(&[(2, theirs)], &[], 2)).unwrap();
    assert!(world.rows("todos").contains("fresh: n=5 title=\"theirs\""));
    assert_eq!(
        world.count("SELECT count(*) FROM _lakesync_confirmed"),
        1,
        "only n is hidden"
    );
    world.refuse(0);
    assert!(world.rows("todos").contains("fresh: n=1 title=\"theirs\""));
}

#[test]
fn an_own_write_under_a_clock_that_is_far_ahead_does_not_show() {
    let mut world = world();
    let cells = [("title", Value::from("far"))];
    let ahead = delta(Op::Update, ("todos", "fresh"), ("zoe", 3_600_000), &cells);
    let gone = delta(Op::Delete, ("todos", "old"), ("zoe", 3_600_000), &[]);
    world.page(&page(&[(2, ahead), (3, gone)], &[], 3)).unwrap();
    world.edit_one(
        Op::Update,
        ("todos", "fresh"),
        &[("title", Value::from("mine")), ("n", Value::Long(9))],
    );
    world.edit_one(
        Op::Insert,
        ("todos", "old"),
        &[("title", Value::from("mine"))],
    );
    assert_eq!(world.rows("todos"), "fresh: n=9 title=\"far\"");
}

#[test]
fn what_a_foreign_replace_has_overwritten_is_not_taken_for_confirmed() {
    let mut world = world();
    // The program that wrote it does not capture what a REPLACE takes away: the row was there all the time.
    world
        .connection
        .execute("DELETE FROM todos WHERE row_id = 'fresh'", [])
        .unwrap();
    let cells = [
        ("title", Value::from("new")),
        ("n", Value::Long(8)),
        ("done", Value::Null),
    ];
    world.edit_one(Op::Insert, ("todos", "fresh"), &cells);
    world.refuse(0);
    assert!(
        world.rows("todos").contains("fresh: ;"),
        "{}",
        world.rows("todos")
    );
}

#[test]
fn key_columns_follow_from_the_row_id() {
    let mut world = world();
    let row = ("stock", r#"["a",7]"#);
    let late = delta(Op::Update, row, ("ann", -500), &[("count", Value::Long(3))]);
    world.page(&page(&[(2, late)], &[], 2)).unwrap();
    assert_eq!(world.rows("stock"), r#"["a",7]: code="a" count=3 place=7"#);
    world.edit_one(Op::Delete, row, &[]);
    assert_eq!(
        world.count("SELECT count(*) FROM _lakesync_confirmed"),
        1,
        "the key is not kept"
    );
    world.refuse(0);
    assert_eq!(world.rows("stock"), r#"["a",7]: code="a" count=3 place=7"#);
}
