//! Refusals, and what becomes of the batch.

use lakesync_proto::{ColumnChange, ColumnName, DeltaKey, ErrorCode, Hlc, Op, RowDelta, Value};

use super::world::{NOW_MS, World, ack, notes, refusal, seq, todos};
use crate::outbox::{self, Batch, Refused};
use crate::state;
use crate::transport::Refusal;

const HOUR_MS: u64 = 3_600_000;

fn refuse(world: &mut World, batch: &Batch, refusal: &Refusal) -> Refused {
    world.work(|work| outbox::refuse(work, batch, refusal).unwrap())
}

fn drift(skew_ms: u64, index: usize) -> Refusal {
    let mut refused = refusal(409, ErrorCode::ClockDrift, Some(index));
    refused.details.insert("skewMs".to_owned(), skew_ms.into());
    refused
}

#[test]
fn a_poisoned_edit_becomes_a_dead_letter_and_its_cell_falls_back() {
    let mut world = World::new();
    world.edit("a", "title", "confirmed");
    let batch = world.take(1).unwrap();
    world.work(|work| outbox::acknowledge(work, &batch, &ack(&[1])).unwrap());
    world.confirm(&batch.deltas[0]);
    world.cursor(seq(1));

    let bad = world.edit("a", "title", "bad");
    let good = world.edit("a", "tag", "good");
    let batch = world.take(10).unwrap();
    let refused = refuse(
        &mut world,
        &batch,
        &refusal(403, ErrorCode::Forbidden, Some(0)),
    );
    assert_eq!(refused, Refused::Rejected { entry: bad });
    assert_eq!(world.shown("a", "title").as_deref(), Some("confirmed"));
    assert_eq!(world.shown("a", "tag").as_deref(), Some("good"));
    assert_eq!(world.take(10).unwrap().entries, [good]);
    let told = &world.dead[0];
    assert_eq!((told.entry, told.row_id.as_str()), (bad, "a"));
    assert_eq!(told.reason.code, "FORBIDDEN");
    assert_eq!(told.reason.request_id.as_deref(), Some("r-1"));
    assert_eq!(told.reason.at_ms, NOW_MS);
}

#[test]
fn an_unnamed_refusal_halves_the_batch_until_the_culprit_is_alone() {
    let mut world = World::new();
    let entries: Vec<i64> = (0..8)
        .map(|n| world.edit("a", "title", &n.to_string()))
        .collect();
    let culprit = entries[5];
    let (mut limit, mut pushes) = (100, 0);
    while let Some(batch) = world.take(limit) {
        pushes += 1;
        assert!(pushes < 20, "it ends");
        if batch.entries.contains(&culprit) {
            let refused = refuse(
                &mut world,
                &batch,
                &refusal(400, ErrorCode::ValidationError, None),
            );
            match refused {
                Refused::Split { limit: smaller } => limit = smaller,
                refused => assert_eq!(refused, Refused::Rejected { entry: culprit }),
            }
        } else {
            let seqs: Vec<u64> = batch.entries.iter().map(|n| n.unsigned_abs()).collect();
            world.work(|work| outbox::acknowledge(work, &batch, &ack(&seqs)).unwrap());
        }
    }
    let rejected: Vec<i64> = (world.states().iter())
        .filter(|(_, state, _)| *state == 4)
        .map(|(entry, ..)| *entry)
        .collect();
    assert_eq!(rejected, [culprit]);
}

#[test]
fn a_clock_that_ran_ahead_is_corrected_and_what_it_stamped_is_stamped_anew() {
    let mut world = World::new();
    world.now_ms = NOW_MS + HOUR_MS;
    let pushed = world.edit("a", "title", "1");
    let also_pushed = world.edit("a", "title", "2");
    let batch = world.take(10).unwrap();
    world.edit("a", "title", "3");
    let refused = refuse(&mut world, &batch, &drift(HOUR_MS, 0));
    assert_eq!(refused, Refused::Restamped { count: 3 });
    let stamps: Vec<Hlc> = (world.entries().iter())
        .map(|entry| entry.delta.as_ref().unwrap().hlc)
        .collect();
    assert_eq!(stamps[0], Hlc::new(NOW_MS, 0).unwrap());
    assert!(stamps.is_sorted() && stamps[2].wall_ms() == NOW_MS);
    assert_eq!(world.shown("a", "title").as_deref(), Some("3"));
    assert_eq!(world.take(2).unwrap().entries, [pushed, also_pushed]);
    let again = world.take(1).unwrap();
    assert_eq!(again.deltas[0].delta_id, again.deltas[0].computed_id());

    world.edit("a", "title", "4");
    let fresh = world.take(1).unwrap().deltas.remove(0);
    assert_eq!(
        fresh.hlc.wall_ms(),
        NOW_MS,
        "new edits have sane stamps as well"
    );
}

#[test]
fn a_stamp_in_doubt_is_kept_unless_the_same_answer_refuses_it() {
    let mut world = World::new();
    world.now_ms = NOW_MS + 4_000;
    let sane = world.edit("a", "title", "1");
    world.now_ms = NOW_MS + HOUR_MS;
    let wild = world.edit("b", "title", "2");
    let batch = world.take(10).unwrap();
    world.work(|work| outbox::doubt(work, &batch).unwrap());
    let before = world.entries();
    let later = world.edit("c", "title", "3");

    let batch = world.take(10).unwrap();
    let refused = refuse(&mut world, &batch, &drift(HOUR_MS, 1));
    assert_eq!(refused, Refused::Restamped { count: 2 });
    let after = world.entries();
    assert_eq!(after[0].delta, before[0].delta, "the gateway may have it");
    assert_eq!(
        [after[0].doubt, after[1].doubt, after[2].doubt],
        [true, false, false]
    );
    let hlc = |n: usize| after[n].delta.as_ref().unwrap().hlc;
    assert!(hlc(0) < hlc(1) && hlc(1) < hlc(2));
    assert_eq!(
        hlc(2).wall_ms(),
        NOW_MS + 4_000,
        "above what stays, and not higher"
    );
    assert_eq!(
        [sane, wild, later],
        [after[0].entry, after[1].entry, after[2].entry]
    );
}

#[test]
fn a_new_stamp_is_above_everything_that_the_gateway_is_known_to_have() {
    let mut world = World::new();
    let known = Hlc::new(NOW_MS + 3_000, 9).unwrap();
    world.work(|work| state::raise_known(work.tx, known).unwrap());
    world.now_ms = NOW_MS + HOUR_MS;
    world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    refuse(&mut world, &batch, &drift(HOUR_MS, 0));
    let stamped = world.take(10).unwrap().deltas.remove(0);
    assert_eq!(stamped.hlc, known.next().unwrap());
}

#[test]
fn a_restamped_edit_falls_behind_what_others_wrote_meanwhile() {
    let mut world = World::new();
    world.now_ms = NOW_MS + HOUR_MS;
    world.edit("a", "title", "mine");
    let theirs = {
        let key = DeltaKey {
            client_id: lakesync_proto::ClientId::parse("ben").unwrap(),
            hlc: Hlc::new(NOW_MS + 10, 0).unwrap(),
            ..world.entries()[0].delta.as_ref().unwrap().key()
        };
        let change = ColumnChange {
            column: ColumnName::parse("title").unwrap(),
            value: Value::from("theirs"),
        };
        RowDelta::new(Op::Update, key, vec![change])
    };
    world.confirm(&theirs);
    assert_eq!(world.shown("a", "title").as_deref(), Some("mine"));
    let batch = world.take(10).unwrap();
    refuse(&mut world, &batch, &drift(HOUR_MS, 0));
    assert_eq!(world.shown("a", "title").as_deref(), Some("theirs"));
}

#[test]
fn a_drift_that_nothing_explains_stamps_nothing() {
    let mut world = World::new();
    world.edit("a", "title", "1");
    let before = world.entries();
    let batch = world.take(10).unwrap();
    let refused = refuse(
        &mut world,
        &batch,
        &refusal(409, ErrorCode::ClockDrift, Some(0)),
    );
    assert_eq!(refused, Refused::Whole);
    assert_eq!(world.entries()[0].delta, before[0].delta);
}

#[test]
fn a_small_difference_of_the_clocks_is_not_remembered() {
    let mut world = World::new();
    world.now_ms = NOW_MS + 1_500;
    world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    refuse(&mut world, &batch, &drift(1_500, 0));
    assert_eq!(world.work(|work| state::skew_ms(work.tx).unwrap()), 0);
    world.now_ms = NOW_MS + 9_000;
    world.edit("a", "title", "2");
    let batch = world.take(10).unwrap();
    refuse(&mut world, &batch, &drift(9_000, 1));
    assert_eq!(world.work(|work| state::skew_ms(work.tx).unwrap()), -9_000);
}

#[test]
fn what_is_too_late_goes_at_once_when_the_gateway_says_how_late_is_too_late() {
    let mut world = World::new();
    let entries: Vec<i64> = (0..4)
        .map(|n| {
            world.now_ms = NOW_MS + n;
            world.edit("a", "title", &n.to_string())
        })
        .collect();
    let batch = world.take(1).unwrap();
    world.work(|work| outbox::doubt(work, &batch).unwrap());
    let batch = world.take(10).unwrap();
    let mut late = refusal(422, ErrorCode::LateDelta, Some(1));
    let oldest = Hlc::new(NOW_MS + 3, 0).unwrap().to_string();
    late.details.insert("oldestHlc".to_owned(), oldest.into());
    let refused = refuse(&mut world, &batch, &late);
    assert_eq!(refused, Refused::Rejected { entry: entries[1] });
    let states: Vec<(i64, i64)> = (world.states().iter())
        .map(|(entry, state, _)| (*entry, *state))
        .collect();
    let expected = [
        (entries[0], 0),
        (entries[1], 4),
        (entries[2], 4),
        (entries[3], 0),
    ];
    assert_eq!(states, expected, "the first one may be a duplicate");
    assert!(world.dead.iter().all(outbox::DeadLetter::is_too_late));
}

#[test]
fn a_table_that_the_gateway_denies_is_waited_for() {
    let mut world = World::new();
    let todo = world.edit("a", "title", "1");
    let note = world.edit_of("notes", "n", ("text", "hello"));
    let batch = world.take(10).unwrap();
    let unknown = refusal(422, ErrorCode::UnknownTable, Some(1));
    assert_eq!(
        refuse(&mut world, &batch, &unknown),
        Refused::Held { entry: note }
    );
    assert_eq!(world.take(10).unwrap().entries, [todo]);
    assert_eq!(world.take(10), None);
    world.note_gateway(&[todos(), notes()]);
    assert_eq!(world.take(10).unwrap().entries, [note]);
}

#[test]
fn a_value_that_a_known_schema_refuses_is_a_dead_letter() {
    let mut world = World::new();
    world.note_gateway(&[todos(), notes()]);
    let entry = world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    let refused = refuse(
        &mut world,
        &batch,
        &refusal(422, ErrorCode::SchemaError, Some(0)),
    );
    assert_eq!(refused, Refused::Rejected { entry });
    assert_eq!(world.shown("a", "title"), None);
}

#[test]
fn a_busy_gateway_leaves_everything_as_it_was_and_a_failed_one_in_doubt() {
    let mut world = World::new();
    let entry = world.edit("a", "title", "1");
    let batch = world.take(10).unwrap();
    let busy = refusal(503, ErrorCode::BackpressureError, None);
    assert_eq!(refuse(&mut world, &batch, &busy), Refused::Whole);
    assert_eq!(world.states(), [(entry, 0, false)]);
    let batch = world.take(10).unwrap();
    let failed = refusal(500, ErrorCode::InternalError, None);
    assert_eq!(refuse(&mut world, &batch, &failed), Refused::Whole);
    assert_eq!(world.states(), [(entry, 0, true)]);
}

/// Many edits of one row, as somebody makes who types offline for a day.
fn row_of_many_edits() -> (World, Batch) {
    let mut world = World::new();
    world.edit("a", "title", "first");
    let first = world.take(1).unwrap();
    world.work(|work| outbox::put_back(work, &first).unwrap());
    world.work(|work| {
        let table = std::sync::Arc::clone(work.registry.table(&first.deltas[0].table).unwrap());
        let mut hlc = first.deltas[0].hlc;
        for n in 0..600 {
            hlc = hlc.next().unwrap();
            let change = ColumnChange {
                column: ColumnName::parse("title").unwrap(),
                value: Value::from(format!("{n}").as_str()),
            };
            let key = DeltaKey {
                hlc,
                ..first.deltas[0].key()
            };
            outbox::add(work, &table, RowDelta::new(Op::Update, key, vec![change])).unwrap();
        }
        state::set_clock(work.tx, hlc).unwrap();
    });
    let batch = world.take(1_000).unwrap();
    (world, batch)
}

#[test]
fn a_row_of_many_edits_is_stored_once_when_they_are_stamped_anew() {
    let (mut world, batch) = row_of_many_edits();
    let refusal = drift(HOUR_MS, 0);
    let (refused, steps) =
        world.thousand_steps_of(|work| outbox::refuse(work, &batch, &refusal).unwrap());
    assert_eq!(refused, Refused::Restamped { count: 601 });
    assert_eq!(world.shown("a", "title").as_deref(), Some("599"));
    assert!(steps < 500, "{steps} thousand steps");
}

#[test]
fn a_row_of_many_edits_is_stored_once_when_they_come_too_late() {
    let (mut world, batch) = row_of_many_edits();
    let mut refusal = refusal(409, ErrorCode::LateDelta, Some(0));
    let oldest = Hlc::new(NOW_MS + HOUR_MS, 0).unwrap();
    (refusal.details).insert("oldestHlc".to_owned(), oldest.to_string().into());
    let (_, steps) =
        world.thousand_steps_of(|work| outbox::refuse(work, &batch, &refusal).unwrap());
    assert_eq!(world.dead.len(), 601);
    assert_eq!(world.shown("a", "title"), None);
    assert!(steps < 500, "{steps} thousand steps");
}

#[test]
fn a_refusal_that_comes_after_another_sessions_acknowledgement_condemns_nothing() {
    for refusal in [
        refusal(403, ErrorCode::Forbidden, Some(0)),
        refusal(422, ErrorCode::LateDelta, Some(0)),
        refusal(422, ErrorCode::UnknownTable, Some(0)),
    ] {
        let mut world = World::new();
        let entry = world.edit("a", "title", "mine");
        let slow = world.take(1).unwrap();
        // Another program begins, and is faster.
        world.work(|work| outbox::recover(work).unwrap());
        let fast = world.take(1).unwrap();
        world.work(|work| outbox::acknowledge(work, &fast, &ack(&[1])).unwrap());
        refuse(&mut world, &slow, &refusal);
        assert_eq!(world.states(), [(entry, 2, false)], "{refusal}");
        assert_eq!(world.shown("a", "title").as_deref(), Some("mine"));
        assert!(world.dead.is_empty());
    }
}

#[test]
fn what_another_session_has_on_its_way_is_not_stamped_anew() {
    let mut world = World::new();
    world.now_ms = NOW_MS + 2_000;
    let theirs = world.edit("a", "title", "1");
    let on_its_way = world.take(1).unwrap();
    world.now_ms = NOW_MS + HOUR_MS;
    world.edit("a", "title", "2");
    let batch = world.take(1).unwrap();
    refuse(&mut world, &batch, &drift(HOUR_MS, 0));
    let entries = world.entries();
    assert_eq!((entries[0].entry, entries[0].state), (theirs, 1));
    assert_eq!(entries[0].delta.as_ref(), Some(&on_its_way.deltas[0]));
}
