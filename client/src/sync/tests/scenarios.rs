//! Push, pull, checkpoint, failure: one scenario each; the first are named defects of an earlier implementation.

use std::time::Duration;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, RowId, Seq, TableName, Value,
};

use super::fake_gateway::refusal;
use super::world::{Device, Fault, START_MS, World, failed, lost};
use crate::ErrorKind;
use crate::sync::{FirstSync, KeepUntil, Phase, Reply, SessionOptions, Step, Updates, Wish};
use crate::transport::TransportError;

fn poll() -> SessionOptions {
    SessionOptions::default().with_updates(Updates::Poll)
}

/// A delta of stock by somebody else.
pub(super) fn remote(op: Op, code: &str, at_ms: u64, note: &str) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("stock").unwrap(),
        row_id: RowId::parse(code).unwrap(),
        client_id: ClientId::parse("elsewhere").unwrap(),
        hlc: Hlc::new(at_ms, 0).unwrap(),
    };
    let change = |name: &str, value: &str| ColumnChange {
        column: ColumnName::parse(name).unwrap(),
        value: Value::String(value.to_owned()),
    };
    let columns = match op {
        Op::Insert => vec![change("code", code), change("note", note)],
        Op::Update => vec![change("note", note)],
        Op::Delete => Vec::new(),
    };
    RowDelta::new(op, key, columns)
}

fn insert(device: &Device, codes: impl IntoIterator<Item = u32>) {
    let rows: Vec<String> = codes
        .into_iter()
        .map(|code| format!("('{code:04}', {code})"))
        .collect();
    device.sql(&format!(
        "INSERT INTO stock (code, count) VALUES {}",
        rows.join(", ")
    ));
}

#[test]
fn fifteen_hundred_deltas_behind_all_arrive() {
    for first_sync in [FirstSync::Log, FirstSync::Checkpoint] {
        let mut world = World::new();
        world.gateway.chunk_deltas = 400;
        let mut writer = world.device("writer", SessionOptions::once());
        insert(&writer, 0..1_500);
        assert!(matches!(writer.run(&mut world.gateway), Step::Stopped));
        let options = SessionOptions::once()
            .with_page_limit(1_000)
            .with_first_sync(first_sync);
        let mut reader = world.device("reader", options);
        assert!(matches!(reader.run(&mut world.gateway), Step::Stopped));
        assert_eq!(reader.stock(), writer.stock());
        assert_eq!(
            reader.rows("SELECT count(*) FROM stock")[0][0],
            1_500.into()
        );
    }
}

#[test]
fn a_restart_with_own_inserts_hears_of_everybody_else() {
    let mut world = World::new();
    let mut device = world.device("a", SessionOptions::once());
    device.run(&mut world.gateway);
    device.begin(poll());
    insert(&device, [1]);
    while !device
        .steps
        .last()
        .is_some_and(|step| step.starts_with("Push"))
    {
        device.step(&mut world.gateway);
    }
    device.restart();
    world.arrive(remote(Op::Insert, "other", START_MS, "theirs"));
    device.run(&mut world.gateway);
    assert_eq!(device.stock(), "0001=1, other= theirs");
    assert_eq!(device.status().counts.acknowledged, 0);
}

#[test]
fn what_others_push_between_a_pull_and_a_push_is_not_skipped() {
    let mut world = World::new();
    let mut device = world.device("a", SessionOptions::once());
    device.run(&mut world.gateway);
    insert(&device, [1]);
    world.arrive(remote(Op::Insert, "other", START_MS, "theirs"));
    device.begin(SessionOptions::once());
    device.run(&mut world.gateway);
    assert_eq!(device.stock(), "0001=1, other= theirs");
    assert_eq!(world.gateway.last_seq().as_u64(), 2);
}

#[test]
fn what_was_being_sent_when_the_program_ended_goes_again() {
    for fault in [Fault::LostRequest, Fault::LostReply] {
        let mut world = World::new();
        let mut device = world.device("a", poll());
        device.run(&mut world.gateway);
        insert(&device, [1, 2]);
        // The program ends between the step and its reply: the fault says how far the request came.
        let Step::Push(push) = device.session.next().unwrap() else {
            panic!("edits wait");
        };
        assert_eq!(device.status().counts.in_flight, 2);
        if fault == Fault::LostReply {
            world.gateway.push(&push).unwrap();
        }
        device.restart();
        assert_eq!(device.db.outbox_counts().unwrap().in_flight, 2);
        device.settle(&mut world.gateway);
        assert_eq!(world.gateway.deltas().count(), 2, "each once");
        assert_eq!(device.status().counts.pending, 0);
        assert_eq!(device.stock(), "0001=1, 0002=2");
    }
}

#[test]
fn a_refused_edit_is_kept_with_its_reason_and_the_rest_goes() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    insert(&device, [1, 2, 3]);
    let bad = RowId::parse("0002").unwrap();
    world
        .gateway
        .condemned
        .insert(bad, refusal(403, "FORBIDDEN"));
    device.settle(&mut world.gateway);
    let counts = device.status().counts;
    assert_eq!(
        (
            counts.pending,
            counts.rejected,
            world.gateway.deltas().count()
        ),
        (0, 1, 2)
    );
    let letters = device.db.dead_letters(10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason.code, "FORBIDDEN");
    assert_eq!(
        device.stock(),
        "0001=1, 0003=3",
        "the refused row falls back to nothing"
    );
    world.gateway.condemned.clear();
    device.db.retry(letters[0].entry).unwrap();
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), world.stock());
    assert_eq!(device.status().counts.rejected, 0);
}

#[test]
fn a_batch_that_is_refused_without_a_name_is_halved_until_the_culprit_is_alone() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    insert(&device, 0..40);
    let nameless = crate::Refusal {
        index: None,
        ..refusal(400, "VALIDATION_ERROR")
    };
    for code in ["0007", "0029"] {
        let row_id = RowId::parse(code).unwrap();
        world.gateway.condemned.insert(row_id, nameless.clone());
    }
    device.settle(&mut world.gateway);
    let counts = device.status().counts;
    assert_eq!(
        (
            counts.pending,
            counts.rejected,
            world.gateway.deltas().count()
        ),
        (0, 2, 38)
    );
    assert!(
        world.gateway.pushes.len() < 60,
        "{}",
        world.gateway.pushes.len()
    );
}

#[test]
fn an_update_of_a_row_that_is_not_here_makes_it() {
    let mut world = World::new();
    world.arrive(remote(Op::Update, "x", START_MS, "only this"));
    let mut device = world.device("a", SessionOptions::once().with_first_sync(FirstSync::Log));
    device.run(&mut world.gateway);
    assert_eq!(device.stock(), "x= only this");
}

#[test]
fn no_edit_is_given_up_however_often_it_fails() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    insert(&device, [1]);
    let faults = [
        Fault::LostRequest,
        Fault::Busy,
        Fault::LostReply,
        Fault::Unauthorised,
    ];
    device.faults = faults.into_iter().cycle().take(200).collect();
    device.settle(&mut world.gateway);
    assert_eq!(world.gateway.deltas().count(), 1);
    assert_eq!(device.stock(), "0001=1");
    assert!(!device.errors.is_empty());
}

#[test]
fn own_edits_that_come_back_change_nothing_and_are_not_sent_again() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    insert(&device, [1]);
    device.run(&mut world.gateway);
    device.sql("UPDATE stock SET note = 'newer than the echo' WHERE code = '0001'");
    device.session.wish(Wish::SyncNow);
    device.run(&mut world.gateway);
    assert_eq!(device.stock(), "0001=1 newer than the echo");
    assert_eq!(world.gateway.deltas().count(), 2);
}

#[test]
fn a_clock_that_runs_ahead_is_found_out_and_what_was_refused_is_stamped_anew() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.clock.advance(3_600_000);
    insert(&device, [1, 2]);
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), "0001=1, 0002=2");
    assert_eq!(world.gateway.deltas().count(), 2);
    for delta in world.gateway.deltas() {
        assert!(delta.hlc.wall_ms() <= START_MS + 5_000, "{:?}", delta.hlc);
    }
    insert(&device, [3]);
    let before = world.gateway.pushes.len();
    device.settle(&mut world.gateway);
    assert_eq!(world.gateway.pushes.len(), before + 1, "the lesson is kept");
}

#[test]
fn a_clock_that_an_answer_corrects_stamps_sanely_from_then_on() {
    for (set_ms, is_ahead) in [(3_600_000, true), (3_600_000, false)] {
        let mut world = World::new();
        let mut device = world.device("a", poll());
        match is_ahead {
            true => device.clock.set(START_MS + set_ms),
            false => device.clock.set(START_MS - set_ms),
        }
        device.run(&mut world.gateway);
        device.session.on_clock(START_MS).unwrap();
        insert(&device, [1]);
        device.run(&mut world.gateway);
        let delta = world.gateway.deltas().next().unwrap();
        assert!(
            delta.hlc.wall_ms().abs_diff(START_MS) <= 2_000,
            "{:?}",
            delta.hlc
        );
        assert_eq!(world.gateway.pushes.len(), 1);
    }
}

#[test]
fn edits_from_before_the_first_answer_are_stamped_by_the_clock_that_it_showed() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.clock.set(START_MS - 3_600_000);
    insert(&device, [1]);
    assert!(matches!(device.session.next().unwrap(), Step::Schemas));
    device.session.on_clock(START_MS).unwrap();
    device.give(Reply::Schemas(Ok(world.gateway.schemas.clone())));
    device.run(&mut world.gateway);
    let delta = world.gateway.deltas().next().unwrap();
    assert!(
        delta.hlc.wall_ms().abs_diff(START_MS) <= 2_000,
        "{:?}",
        delta.hlc
    );
}

#[test]
fn a_clock_that_is_off_by_a_second_is_left_alone() {
    let world = World::new();
    let mut device = world.device("a", poll());
    device.session.on_clock(START_MS + 1_999).unwrap();
    assert_eq!(
        device.rows("SELECT value FROM _lakesync_state WHERE name = 'skew_ms'"),
        Vec::<Vec<_>>::new()
    );
}

#[test]
fn a_refused_token_is_asked_for_once_and_the_status_says_so_when_there_is_none() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.tokens = [true].into();
    device.faults = [Fault::Unauthorised].into();
    device.run(&mut world.gateway);
    assert!(device.status().last_error.is_none());
    assert_eq!(device.steps[..3], ["Schemas", "RefreshToken", "Schemas"]);

    insert(&device, [1]);
    device.faults = [Fault::Unauthorised; 2].into();
    device.tokens = [true].into();
    device.steps.clear();
    let wait = device.run(&mut world.gateway);
    assert_eq!(
        device.steps[..3],
        ["Push(1 deltas)", "RefreshToken", "Push(1 deltas)"]
    );
    assert!(matches!(wait, Step::Wait { until_ms: Some(_) }), "{wait:?}");
    let error = device.status().last_error.unwrap();
    assert!(error.message.contains("AUTH_ERROR"), "{error:?}");
    device.session.wish(Wish::Online);
    device.run(&mut world.gateway);
    assert!(
        device.status().last_error.is_none(),
        "{:?}",
        device.status()
    );
    assert_eq!(world.gateway.deltas().count(), 1);
}

#[test]
fn without_another_token_the_refusal_is_the_syncs_error_and_the_statuss() {
    for options in [SessionOptions::once(), poll()] {
        let mut world = World::new();
        let mut device = world.device("a", options);
        device.faults = [Fault::Unauthorised].into();
        let wait = device.run(&mut world.gateway);
        assert!(matches!(wait, Step::Wait { until_ms: Some(_) }), "{wait:?}");
        assert_eq!(device.steps[..2], ["Schemas", "RefreshToken"]);
        let error = device.status().last_error.unwrap();
        assert!(error.message.contains("AUTH_ERROR"), "{error:?}");
        assert_eq!(device.errors.len(), 1, "{:?}", device.errors);
        device.session.wish(Wish::SyncNow);
        device.run(&mut world.gateway);
        assert!(device.status().last_error.is_none());
    }
}

#[test]
fn a_busy_gateway_is_given_the_time_that_it_asks_for() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    insert(&device, [1]);
    world.arrive(remote(Op::Insert, "other", START_MS, "theirs"));
    world.gateway.refusals = [crate::Refusal {
        index: None,
        retry_after: Some(Duration::from_secs(7)),
        ..refusal(429, "RATE_LIMITED")
    }]
    .into();
    device.session.wish(Wish::SyncNow);
    let Step::Wait { until_ms } = device.run(&mut world.gateway) else {
        panic!("it is to wait");
    };
    assert_eq!(until_ms, Some(START_MS + 7_000));
    assert_eq!(device.stock(), "0001=1, other= theirs", "reading goes on");
    let status = device.status();
    assert_eq!(status.last_error.unwrap().kind, ErrorKind::Retryable);
    assert_eq!(
        (status.counts.pending, status.retry_at_ms),
        (1, Some(START_MS + 7_000))
    );
    device.settle(&mut world.gateway);
    assert_eq!(world.gateway.deltas().count(), 2);
}

#[test]
fn an_expired_cursor_loads_the_tables_it_names_and_spares_own_edits() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    for code in ["x", "y", "z"] {
        world.arrive(remote(Op::Insert, code, START_MS, "n"));
    }
    device.run(&mut world.gateway);
    world.gateway.hide("stock", "y");
    world.arrive(remote(Op::Update, "z", START_MS + 1, "later"));
    device.sql("UPDATE stock SET count = 5 WHERE code = 'x'");
    device.session.wish(Wish::SyncNow);
    device.faults = [Fault::Busy].into();
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), "x=5 n, z= later");
    assert_eq!(
        (device.stock(), world.gateway.checkpoints),
        (world.stock(), 2)
    );
}

#[test]
fn a_checkpoint_goes_on_where_it_broke_off_and_begins_anew_when_it_cannot() {
    let mut world = World::new();
    for code in 0..20 {
        world.arrive(remote(
            Op::Insert,
            &format!("{code:02}"),
            START_MS + code,
            "n",
        ));
    }
    let mut device = world.device("a", poll());
    for _ in 0..5 {
        device.step(&mut world.gateway);
    }
    let rows = device.status();
    assert!(
        matches!(rows.phase, Phase::Loading { rows: 6.. }),
        "{:?}",
        rows.phase
    );
    device.restart();
    device.step(&mut world.gateway);
    device.step(&mut world.gateway);
    assert!(
        device
            .steps
            .iter()
            .any(|step| step.starts_with("Checkpoint([], Some(")),
        "{:?}",
        device.steps
    );
    world.gateway.hide("stock", "03");
    device.faults = [Fault::LostReply].into();
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), world.stock());
    assert_eq!(world.stock().matches('=').count(), 19);
}

#[test]
fn another_log_is_given_what_the_old_one_had_acknowledged() {
    for keep_until in [KeepUntil::Durable, KeepUntil::Confirmed] {
        let mut world = World::new();
        let mut device = world.device("a", poll().with_keep_until(keep_until));
        insert(&device, [1, 2]);
        device.run(&mut world.gateway);
        let kept = match keep_until {
            KeepUntil::Durable => 2,
            KeepUntil::Confirmed => 0,
        };
        assert_eq!(device.status().counts.kept, kept);
        world.gateway.lose_log(1);
        world.arrive(remote(Op::Insert, "other", START_MS, "theirs"));
        device.session.wish(Wish::SyncNow);
        device.settle(&mut world.gateway);
        let want = match keep_until {
            KeepUntil::Durable => "0001=1, 0002=2, other= theirs",
            KeepUntil::Confirmed => "0001=1, other= theirs",
        };
        assert_eq!(
            (device.stock().as_str(), world.stock().as_str()),
            (want, want)
        );
    }
}

#[test]
fn another_log_replaces_the_rows_even_of_a_database_that_began_with_the_log() {
    let mut world = World::new();
    let mut device = world.device("a", poll().with_first_sync(FirstSync::Log));
    for code in 0..5 {
        world.arrive(remote(Op::Insert, &format!("{code}"), START_MS + code, "n"));
    }
    device.run(&mut world.gateway);
    // A page of the new log, as a gateway gives it that does not look at cursors closely.
    world.gateway.lose_log(2);
    device.session.wish(Wish::SyncNow);
    assert!(matches!(device.session.next().unwrap(), Step::Pull(_)));
    let page = world.gateway.page(Seq::ZERO, 10, None);
    device.give(Reply::Pulled(Ok(page)));
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), "0= n, 1= n");
}

#[test]
fn an_acknowledgement_of_another_log_confirms_nothing_of_the_old_one() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    for code in 0..5 {
        world.arrive(remote(Op::Insert, &format!("{code}"), START_MS + code, "n"));
    }
    device.run(&mut world.gateway);
    world.gateway.lose_log(0);
    insert(&device, [1]);
    device.run(&mut world.gateway);
    device.settle(&mut world.gateway);
    assert_eq!(
        (device.stock().as_str(), world.stock().as_str()),
        ("0001=1", "0001=1")
    );
}

#[test]
fn what_the_warehouse_has_is_forgotten() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    insert(&device, [1, 2]);
    device.run(&mut world.gateway);
    world.gateway.durable = Seq::from_u64(2).unwrap();
    device.session.wish(Wish::SyncNow);
    device.run(&mut world.gateway);
    assert_eq!(device.status().counts, crate::OutboxCounts::default());
}

#[test]
fn a_page_with_a_wrong_checksum_is_asked_for_once_more_and_then_it_is_said() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    world.arrive(remote(Op::Insert, "x", START_MS, "n"));
    world.gateway.garbled = 1;
    device.session.wish(Wish::SyncNow);
    device.run(&mut world.gateway);
    assert_eq!(
        (device.stock().as_str(), device.status().mismatches),
        ("x= n", 1)
    );
    assert!(device.status().last_error.is_none());

    world.arrive(remote(Op::Insert, "y", START_MS, "n"));
    world.gateway.garbled = 2;
    device.session.wish(Wish::SyncNow);
    device.run(&mut world.gateway);
    let status = device.status();
    assert_eq!((device.stock().as_str(), status.mismatches), ("x= n", 3));
    assert!(status.last_error.unwrap().message.contains("checksum"));
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), "x= n, y= n");
}

#[test]
fn rows_that_differ_from_the_gateways_are_found_and_loaded_anew() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    for code in ["x", "y"] {
        world.arrive(remote(Op::Insert, code, START_MS, "n"));
    }
    device.run(&mut world.gateway);
    device.session.wish(Wish::Verify);
    device.run(&mut world.gateway);
    assert_eq!(
        (device.status().mismatches, world.gateway.checkpoints),
        (0, 1)
    );

    // Behind everybody's back.
    device
        .db
        .keep(|work| {
            work.tx
                .execute("UPDATE stock SET note = 'rot' WHERE code = 'x'", [])?;
            Ok(())
        })
        .unwrap();
    device.session.wish(Wish::Verify);
    device.run(&mut world.gateway);
    assert_eq!(
        (device.status().mismatches, world.gateway.checkpoints),
        (1, 2)
    );
    assert_eq!(device.stock(), "x= n, y= n");
    assert!(
        device.status().last_error.is_none(),
        "{:?}",
        device.status()
    );
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    insert(&device, [1]);
    device.give(Reply::Pushed(Err(lost())));
    device.give(Reply::Chunk(Ok(None)));
    device.give(Reply::LiveEnded(lost()));
    device.give(Reply::Token(true));
    device.give(Reply::Expiring);
    assert!(device.errors.is_empty());
    let first = device.session.next().unwrap();
    let again = device.session.next().unwrap();
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    device.settle(&mut world.gateway);
    assert_eq!(world.stock(), "0001=1");
}

#[test]
fn a_page_that_brings_nothing_on_is_a_failure_and_no_loop() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    device.session.wish(Wish::SyncNow);
    for _ in 0..3 {
        let step = loop {
            match device.session.next().unwrap() {
                Step::Wait { until_ms } => device.clock.set(until_ms.unwrap()),
                step => break step,
            }
        };
        let Step::Pull(pull) = step else {
            device.give(failed(&step, lost()));
            continue;
        };
        let mut page = world.gateway.pull(&pull).unwrap();
        page.has_more = true;
        device.give(Reply::Pulled(Ok(page)));
    }
    assert!(matches!(device.session.next().unwrap(), Step::Wait { .. }));
    let error = device.status().last_error.unwrap();
    assert!(error.message.contains("makes no sense"), "{error:?}");
}

#[test]
fn a_page_that_is_too_long_is_asked_for_in_halves() {
    let mut world = World::new();
    let mut device = world.device("a", poll().with_page_limit(8));
    device.run(&mut world.gateway);
    device.session.wish(Wish::SyncNow);
    // First it looks whether there is anything to send.
    let Step::Pull(pull) = device.session.next().unwrap() else {
        panic!("there is nothing to send");
    };
    assert_eq!(pull.limit, 8);
    device.give(Reply::Pulled(Err(TransportError::TooLong {
        url: "memory".to_owned(),
        limit_bytes: 1,
    })));
    let Step::Pull(pull) = device.session.next().unwrap() else {
        panic!("asked again at once");
    };
    assert_eq!(pull.limit, 4);
}

#[test]
fn the_status_tells_how_it_goes() {
    let mut world = World::new();
    let mut device = world.device("a", poll());
    assert_eq!(device.status().phase, Phase::Offline);
    insert(&device, [1]);
    device.session.next().unwrap();
    assert_eq!(device.status().phase, Phase::Connecting);
    device.give(Reply::Schemas(Ok(world.gateway.schemas.clone())));
    assert!(matches!(device.session.next().unwrap(), Step::Push(_)));
    assert_eq!(
        (device.status().phase, device.status().counts.in_flight),
        (Phase::Pushing, 1)
    );
    device.give(Reply::Pushed(Err(lost())));
    let status = device.status();
    assert_eq!((status.phase, status.counts.pending), (Phase::Offline, 1));
    assert_eq!((status.behind_ms, status.last_synced_ms), (None, None));
    assert!(
        status
            .last_error
            .unwrap()
            .message
            .contains("lost on the way")
    );
    device.settle(&mut world.gateway);
    let status = device.status();
    assert_eq!((status.phase, status.last_error), (Phase::Idle, None));
    assert_eq!(status.last_synced_ms, Some(device.now_ms()));
    device.clock.advance(400);
    device.session.next().unwrap();
    assert_eq!(device.status().behind_ms, Some(400));
    device.session.wish(Wish::Offline);
    device.run(&mut world.gateway);
    assert_eq!(device.status().phase, Phase::Offline);
    device.session.wish(Wish::Stop);
    device.run(&mut world.gateway);
    assert_eq!(device.status().phase, Phase::Stopped);
    assert_eq!(
        device.db.status().phase,
        Phase::Stopped,
        "told to those who watch"
    );
}
