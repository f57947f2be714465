//! What goes into a push, and what holds it up.

use super::world::{World, ack, notes, schema, seq, todos};
use crate::outbox::{self, Acknowledged, OutboxCounts};

fn todos_without_tag() -> lakesync_proto::TableSchema {
    schema(r#"{"table":"todos","columns":[{"name":"title","type":"string"}]}"#)
}

#[test]
fn entries_go_in_order_and_a_second_push_takes_what_is_left() {
    let mut world = World::new();
    let entries: Vec<i64> = (0..5)
        .map(|n| world.edit("a", "title", &n.to_string()))
        .collect();
    assert_eq!(world.take(3).unwrap().entries, entries[..3]);
    assert_eq!(world.take(3).unwrap().entries, entries[3..]);
    assert_eq!(world.take(3), None);
}

#[test]
fn a_batch_is_bounded_in_bytes_and_one_large_edit_goes_alone() {
    let mut world = World::new();
    let large = "x".repeat(3 << 20);
    let entries: Vec<i64> = (0..3).map(|_| world.edit("a", "title", &large)).collect();
    for entry in entries {
        assert_eq!(world.take(100).unwrap().entries, [entry]);
    }
}

#[test]
fn a_crash_leaves_what_was_in_flight_pending_and_in_doubt() {
    let mut world = World::new();
    let first = world.edit("a", "title", "1");
    world.take(10).unwrap();
    let second = world.edit("a", "title", "2");
    assert_eq!(world.work(|work| outbox::recover(work).unwrap()), 1);
    assert_eq!(world.states(), [(first, 0, true), (second, 0, false)]);
    assert_eq!(world.take(10).unwrap().entries, [first, second]);
}

#[test]
fn doubt_stays_until_there_is_an_answer() {
    let mut world = World::new();
    let entry = world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::doubt(work, &batch).unwrap());
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::put_back(work, &batch).unwrap());
    assert_eq!(world.states(), [(entry, 0, true)], "busy answers nothing");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::acknowledge(work, &batch, &ack(&[7])).unwrap());
    assert_eq!(world.states(), [(entry, 2, false)]);
}

#[test]
fn what_the_gateway_has_no_place_for_waits_and_holds_up_nobody() {
    let mut world = World::new();
    world.note_gateway(&[todos_without_tag()]);
    let tag = world.edit("a", "tag", "home");
    let note = world.edit_of("notes", "n", ("text", "hello"));
    let title = world.edit("a", "title", "Buy milk");
    assert_eq!(world.take(10).unwrap().entries, [title]);
    assert_eq!(world.take(10), None);
    let counts = world.work(|work| outbox::counts(work.tx).unwrap());
    assert_eq!((counts.pending, counts.in_flight), (2, 1));
    let waiting = world.work(|work| outbox::waiting(work.tx).unwrap());
    assert_eq!(waiting.values().copied().collect::<Vec<_>>(), [1, 1]);

    world.note_gateway(&[todos(), notes()]);
    assert_eq!(world.take(10).unwrap().entries, [tag, note]);
}

#[test]
fn nothing_waits_before_the_gateway_has_told_its_schemas() {
    let mut world = World::new();
    let entry = world.edit("a", "tag", "home");
    assert_eq!(world.take(10).unwrap().entries, [entry]);
}

#[test]
fn a_table_that_does_not_go_together_with_the_gateways_waits_as_a_whole() {
    let mut world = World::new();
    let other_key = schema(
        r#"{"table":"todos","primaryKey":["title"],"columns":[{"name":"title","type":"string"},{"name":"tag","type":"string"}]}"#,
    );
    world.note_gateway(&[other_key, notes()]);
    world.edit("a", "title", "1");
    let note = world.edit_of("notes", "n", ("text", "hello"));
    assert_eq!(world.take(10).unwrap().entries, [note]);
    assert_eq!(world.take(10), None);
}

#[test]
fn an_edit_is_kept_from_its_confirmation_until_the_warehouse_has_it() {
    let mut world = World::new();
    let first = world.edit("a", "title", "1");
    let second = world.edit("b", "title", "2");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::acknowledge(work, &batch, &ack(&[3, 4])).unwrap());
    world.confirm(&batch.deltas[0]);
    world.cursor(seq(3));
    assert_eq!(world.states(), [(first, 3, false), (second, 2, false)]);
    world.confirm(&batch.deltas[1]);
    world.cursor(seq(4));
    world.work(|work| outbox::forget(work, seq(3)).unwrap());
    assert_eq!(world.states(), [(second, 3, false)]);
    assert_eq!(world.shown("a", "title").as_deref(), Some("1"));
    world.work(|work| outbox::forget(work, seq(9)).unwrap());
    let counts = world.work(|work| outbox::counts(work.tx).unwrap());
    assert_eq!(counts, OutboxCounts::default());
}

#[test]
fn what_the_warehouse_has_already_is_not_kept() {
    let mut world = World::new();
    world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    world.confirm(&batch.deltas[0]);
    world.work(|work| crate::state::set_seq(work.tx, seq(5)).unwrap());
    let mut answer = ack(&[5]);
    answer.notes.durable = Some(seq(5));
    world.work(|work| outbox::acknowledge(work, &batch, &answer).unwrap());
    assert_eq!(world.states(), [], "its page and the warehouse were faster");
    assert_eq!(world.shown("a", "title").as_deref(), Some("1"));
}

#[test]
fn an_edit_that_the_cursor_passes_unseen_falls_back() {
    let mut world = World::new();
    let entry = world.edit("a", "title", "mine");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::acknowledge(work, &batch, &ack(&[3])).unwrap());
    assert_eq!(world.shown("a", "title").as_deref(), Some("mine"));
    world.cursor(seq(3));
    assert_eq!(world.shown("a", "title"), None, "the rules hide it");
    assert_eq!(world.states(), [(entry, 3, false)]);
}

#[test]
fn another_epoch_sends_everything_again_that_is_still_here() {
    let mut world = World::new();
    let kept = world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::acknowledge(work, &batch, &ack(&[1])).unwrap());
    world.confirm(&batch.deltas[0]);
    world.cursor(seq(1));
    let acknowledged = world.edit("a", "title", "2");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::acknowledge(work, &batch, &ack(&[2])).unwrap());
    let pushed = world.edit("b", "title", "3");
    let batch = world.take(10).unwrap();

    let mut answer = ack(&[1]);
    answer.epoch = super::world::epoch(2);
    let whose = world.work(|work| outbox::acknowledge(work, &batch, &answer).unwrap());
    assert_eq!(whose, Acknowledged::OtherLog);
    let all = [(kept, 0, true), (acknowledged, 0, true), (pushed, 2, false)];
    assert_eq!(world.states(), all);
    assert_eq!(world.shown("a", "title").as_deref(), Some("2"));
    assert_eq!(world.take(10).unwrap().entries, [kept, acknowledged]);
}

#[test]
fn an_answer_of_another_length_changes_nothing() {
    let mut world = World::new();
    let entry = world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    assert!(world.work(|work| outbox::acknowledge(work, &batch, &ack(&[1, 2])).is_err()));
    assert_eq!(world.states(), [(entry, 1, false)]);
}
