//! Live pages: as they should come, and as they do.

use lakesync_proto::Op;

use super::scenarios::remote;
use super::world::{Device, Fault, START_MS, World, lost};
use crate::sync::{Phase, Reply, SessionOptions, Step, Wish};

fn live(world: &mut World) -> Device {
    let mut device = world.device("a", SessionOptions::default());
    device.run(&mut world.gateway);
    assert!(device.is_live());
    device.steps.clear();
    device
}

#[test]
fn everything_new_comes_by_itself_own_edits_included() {
    let mut world = World::new();
    let mut device = live(&mut world);
    assert_eq!(
        (device.status().phase, device.status().behind_ms),
        (Phase::Live, Some(0))
    );
    device.sql("INSERT INTO stock (code) VALUES ('mine')");
    world.arrive(remote(Op::Insert, "theirs", START_MS, "n"));
    device.run(&mut world.gateway);
    assert_eq!(device.stock(), "mine=, theirs= n");
    assert_eq!(
        device.status().counts.kept,
        1,
        "the page with the own edit has confirmed it"
    );
    assert!(
        device.steps.iter().all(|step| !step.starts_with("Pull")),
        "{:?}",
        device.steps
    );
}

#[test]
fn what_came_while_the_connection_was_lost_is_pulled_and_it_is_opened_again() {
    let mut world = World::new();
    let mut device = live(&mut world);
    for code in ["x", "y"] {
        world.arrive(remote(Op::Insert, code, START_MS, "n"));
    }
    device.hang_up();
    let wait = device.run(&mut world.gateway);
    assert_eq!(device.stock(), "x= n, y= n");
    let Step::Wait {
        until_ms: Some(until_ms),
    } = wait
    else {
        panic!("{wait:?}");
    };
    device.clock.set(until_ms);
    device.run(&mut world.gateway);
    assert!(device.is_live());
}

#[test]
fn a_lost_live_page_leaves_no_gap() {
    let mut world = World::new();
    let mut device = live(&mut world);
    for code in 0..12 {
        world.arrive(remote(Op::Insert, &format!("{code:02}"), START_MS, "n"));
    }
    // Pages are of five. A driver that loses one has lost the connection.
    let lost_page = device.live_page(&mut world.gateway);
    assert!(matches!(lost_page, Some(Reply::Live(_))));
    device.hang_up();
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), world.stock());
}

#[test]
fn a_live_page_that_comes_twice_or_overlaps_a_pull_is_harmless() {
    let mut world = World::new();
    let mut device = live(&mut world);
    for code in 0..3 {
        world.arrive(remote(Op::Insert, &format!("{code}"), START_MS, "n"));
    }
    let Some(Reply::Live(first)) = device.live_page(&mut world.gateway) else {
        panic!("there is news");
    };
    // A pull in between that goes further, as the safety poll makes it.
    world.arrive(remote(Op::Update, "2", START_MS + 9, "newer"));
    device.session.wish(Wish::SyncNow);
    let page = loop {
        match device.session.next().unwrap() {
            Step::Pull(pull) => break world.gateway.pull(&pull).unwrap(),
            Step::Wait { .. } => panic!("no pull"),
            _ => {}
        }
    };
    device.give(Reply::Pulled(Ok(page)));
    let seq = device.rows("SELECT value FROM _lakesync_state WHERE name = 'seq'");
    device.give(Reply::Live(first.clone()));
    device.give(Reply::Live(first));
    let after = device.rows("SELECT value FROM _lakesync_state WHERE name = 'seq'");
    assert_eq!(after, seq, "the cursor does not go back");
    device.hear(&mut world.gateway);
    device.run(&mut world.gateway);
    assert!(
        device.is_live(),
        "nothing of it was a reason to begin anew: {:?}",
        device.steps
    );
    assert_eq!(device.stock(), world.stock());
}

#[test]
fn pages_of_a_connection_that_was_closed_are_ignored() {
    let mut world = World::new();
    let mut device = live(&mut world);
    world.arrive(remote(Op::Insert, "x", START_MS, "n"));
    let late = device.live_page(&mut world.gateway).unwrap();
    device.session.wish(Wish::Offline);
    device.run(&mut world.gateway);
    assert!(!device.is_live());
    device.give(late);
    assert_eq!(device.stock(), "");
    device.session.wish(Wish::Online);
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), "x= n");
}

#[test]
fn a_connection_that_cannot_be_had_leaves_polls() {
    let mut world = World::new();
    let mut device = world.device("a", SessionOptions::default());
    // Schemas, push has nothing, checkpoint, pull; then the subscription fails.
    device.faults = [Fault::None, Fault::None, Fault::None, Fault::LostRequest].into();
    device.run(&mut world.gateway);
    assert!(!device.is_live());
    let status = device.status();
    assert_eq!((status.phase, status.last_error), (Phase::Idle, None));
    world.arrive(remote(Op::Insert, "x", START_MS, "n"));
    device.clock.advance(10_000);
    device.faults = [Fault::None, Fault::LostRequest].into();
    device.run(&mut world.gateway);
    assert_eq!(device.stock(), "x= n");
}

#[test]
fn a_token_that_ends_is_renewed_and_the_connection_made_anew() {
    let mut world = World::new();
    let mut device = live(&mut world);
    device.tokens = [true].into();
    device.give(Reply::Expiring);
    let Step::Wait {
        until_ms: Some(until_ms),
    } = device.run(&mut world.gateway)
    else {
        panic!("it waits before it subscribes again");
    };
    assert_eq!(device.steps[..2], ["RefreshToken", "Unsubscribe"]);
    device.clock.set(until_ms);
    device.run(&mut world.gateway);
    assert!(device.is_live());
}

#[test]
fn rules_that_change_under_a_live_connection_end_it_and_the_tables_are_loaded() {
    let mut world = World::new();
    let mut device = live(&mut world);
    for code in ["x", "y"] {
        world.arrive(remote(Op::Insert, code, START_MS, "n"));
    }
    device.run(&mut world.gateway);
    world.gateway.hide("stock", "x");
    device.give(Reply::LiveEnded(lost()));
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), "y= n");
}

#[test]
fn a_withdrawn_row_goes_live_too_and_its_own_edit_stays_until_it_is_covered() {
    let mut world = World::new();
    let mut device = live(&mut world);
    world.arrive(remote(Op::Insert, "x", START_MS, "n"));
    device.run(&mut world.gateway);
    world.gateway.withdraw("stock", "x");
    device.sql("UPDATE stock SET count = 1 WHERE code = 'x'");
    device.hear(&mut world.gateway);
    assert_eq!(device.stock(), "x=1", "the own edit still shows");
    device.run(&mut world.gateway);
    device.settle(&mut world.gateway);
    assert_eq!(
        device.stock(),
        "",
        "the cursor has passed it and it is not for this client to see"
    );
}
