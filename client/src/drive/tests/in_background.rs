//! Syncing in a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::gateway::{Gateway, Weather};
use super::{PATIENCE, add, database, titles, todos, until, wait_for};
use crate::{Phase, SessionOptions, SyncHandle, Wish};

#[test]
fn edits_travel_as_they_are_made_and_stop_when_told() {
    let gateway = Gateway::new(vec![todos()]);
    let (ada, ben) = (database("ada"), database("ben"));
    let options = SessionOptions::default;
    let at_ada = SyncHandle::start(ada.clone(), gateway.clone(), options());
    let at_ben = SyncHandle::start(ben.clone(), gateway.clone(), options());
    add(&ada, "milk");
    wait_for(&ben, &["milk"]);
    add(&ben, "tea");
    wait_for(&ada, &["milk", "tea"]);
    gateway.hang_up();
    add(&ben, "bread");
    wait_for(&ada, &["bread", "milk", "tea"]);
    assert!(at_ada.stop() && at_ben.stop());
    assert_eq!(ada.status().phase, Phase::Stopped);
    assert_eq!(gateway.transports(), 1, "the threads have let go of theirs");
    add(&ada, "late");
    assert_eq!(ada.status().phase, Phase::Stopped);
    assert_eq!(titles(&ben).len(), 3);
}

#[test]
fn a_gateway_that_is_down_is_tried_again_and_at_once_when_wished() {
    let gateway = Gateway::new(vec![todos()]);
    let (ada, ben) = (database("ada"), database("ben"));
    gateway.set(Weather::Down);
    add(&ada, "milk");
    let at_ada = SyncHandle::start(ada.clone(), gateway.clone(), SessionOptions::default());
    gateway.wait_for("schemas");
    gateway.set(Weather::Fair);
    at_ada.wish(Wish::Online);
    gateway.wait_for("push");
    at_ada.sync_now();
    gateway.wait_for("pull");
    assert!(at_ada.stop());
    ben.sync(&gateway).unwrap();
    assert_eq!(titles(&ben), ["milk"]);
}

#[test]
fn one_that_syncs_once_ends_by_itself() {
    let gateway = Gateway::new(vec![todos()]);
    let ada = database("ada");
    add(&ada, "milk");
    let handle = SyncHandle::start(ada, gateway.clone(), SessionOptions::once());
    assert!(handle.wait(PATIENCE));
    gateway.wait_for("push");
    assert_eq!(gateway.transports(), 1);
}

#[test]
fn a_stop_does_not_wait_for_ever_and_the_exchange_is_finished() {
    let gateway = Gateway::new(vec![todos()]);
    let (ada, ben) = (database("ada"), database("ben"));
    gateway.set(Weather::Slow);
    add(&ada, "milk");
    let handle = SyncHandle::start(ada.clone(), gateway.clone(), SessionOptions::default());
    gateway.wait_for("push");
    let remote = handle.remote();
    remote.wish(Wish::Stop);
    assert!(
        !handle.wait(Duration::from_millis(50)),
        "it is still sending"
    );
    gateway.set(Weather::Fair);
    // What was on its way has arrived, and its answer is taken.
    until(|| ada.status().phase == Phase::Stopped);
    assert_eq!(ada.status().counts.in_flight, 0);
    ben.sync(&gateway).unwrap();
    assert_eq!(titles(&ben), ["milk"]);
}

#[test]
fn dropping_the_handle_stops() {
    let gateway = Gateway::new(vec![todos()]);
    let ada = database("ada");
    let handle = SyncHandle::start(ada.clone(), gateway.clone(), SessionOptions::default());
    gateway.wait_for("live");
    drop(handle);
    until(|| gateway.transports() == 1);
    assert_eq!(ada.status().phase, Phase::Stopped);
}

#[test]
fn a_panic_of_the_transport_reaches_whoever_stops() {
    let gateway = Gateway::new(vec![todos()]);
    gateway.set(Weather::Broken);
    let handle = SyncHandle::start(database("ada"), gateway, SessionOptions::default());
    let panicked = catch_unwind(AssertUnwindSafe(|| handle.wait(PATIENCE)));
    let panic = panicked.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"the transport is broken"));
}

#[test]
fn a_connection_that_never_stops_telling_keeps_neither_edits_nor_a_stop_waiting() {
    let gateway = Gateway::new(vec![todos()]);
    gateway.set(Weather::Flooding);
    let ada = database("ada");
    let handle = SyncHandle::start(ada.clone(), gateway.clone(), SessionOptions::default());
    gateway.wait_for("live");
    add(&ada, "milk");
    gateway.wait_for("push");
    assert!(handle.stop(), "it hears that it is to stop");
}

#[test]
fn a_callback_that_stops_the_syncing_that_calls_it_waits_for_nothing() {
    let gateway = Gateway::new(vec![todos()]);
    let ada = database("ada");
    let handle = SyncHandle::start(ada.clone(), gateway.clone(), SessionOptions::default());
    gateway.wait_for("live");
    let begun = std::time::Instant::now();
    let (stopped, was_stopped) = std::sync::mpsc::channel();
    let mut handle = Some(handle);
    // The edit is told on this thread; the page that confirms it, on the one that syncs.
    let calling = ada.watch(&["todos"]).unwrap().on_change(move |changes| {
        if changes.origins.synced
            && let Some(handle) = handle.take()
        {
            stopped.send(handle.stop()).unwrap();
        }
    });
    let ben = database("ben");
    add(&ben, "tea");
    ben.sync(&gateway).unwrap();
    assert_eq!(was_stopped.recv_timeout(PATIENCE), Ok(false));
    assert!(begun.elapsed() < Duration::from_secs(4));
    until(|| ada.status().phase == Phase::Stopped);
    drop(calling);
}
