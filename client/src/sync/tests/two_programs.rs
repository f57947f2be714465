//! Two sessions on one file, as two programs have them.

use lakesync_proto::{Op, Seq};

use super::scenarios::remote;
use super::world::{Device, START_MS, World};
use crate::apply;
use crate::sync::{Reply, SessionOptions, Step, Updates, Wish};

fn poll() -> SessionOptions {
    SessionOptions::default().with_updates(Updates::Poll)
}

fn filled(rows: u32) -> World {
    let mut world = World::new();
    for code in 0..rows {
        world.arrive(remote(Op::Insert, &format!("{code:02}"), START_MS, "n"));
    }
    world
}

/// One step, and its wait if it is one.
fn go_on(device: &mut Device, world: &mut World) {
    if let Step::Wait { until_ms } = device.step(&mut world.gateway) {
        let until_ms = until_ms.expect("a wait that ends");
        device.clock.set(until_ms);
        world.gateway.now_ms = world.gateway.now_ms.max(until_ms);
    }
}

#[test]
fn two_programs_that_load_one_file_at_once_load_it_once() {
    let mut world = filled(20);
    let (mut a, mut b) = (world.device("a", poll()), world.device("a", poll()));
    for _ in 0..60 {
        go_on(&mut a, &mut world);
        go_on(&mut b, &mut world);
    }
    assert_eq!(a.stock(), world.stock());
    assert_eq!(b.stock(), world.stock());
    let opened = world.gateway.checkpoints;
    assert!(opened < 12, "{opened} checkpoints of seven chunks");
}

#[test]
fn a_checkpoint_that_another_program_begins_anew_in_the_middle_loses_no_row() {
    let mut world = filled(20);
    let (mut a, b) = (world.device("a", poll()), world.device("a", poll()));
    a.run(&mut world.gateway);
    world.gateway.hide("stock", "00");
    a.session.wish(Wish::SyncNow);
    while a.steps.last().is_none_or(|step| step != "Chunk") {
        a.step(&mut world.gateway);
    }
    b.db.keep(|work| apply::begin_checkpoint(work, &[], None))
        .unwrap();
    for _ in 0..40 {
        go_on(&mut a, &mut world);
    }
    assert_eq!(a.stock(), world.stock());
}

#[test]
fn edits_of_two_programs_are_sent_once_each() {
    let mut world = filled(1);
    let (mut a, mut b) = (world.device("a", poll()), world.device("a", poll()));
    for turn in 0..40 {
        let device = if turn % 2 == 0 { &a } else { &b };
        device.sql(&format!("INSERT INTO stock (code) VALUES ('own-{turn}')"));
        go_on(&mut a, &mut world);
        go_on(&mut b, &mut world);
        go_on(&mut b, &mut world);
    }
    a.settle(&mut world.gateway);
    b.settle(&mut world.gateway);
    assert_eq!(a.stock(), world.stock());
    assert_eq!(world.gateway.deltas().count(), 41);
    assert_eq!(a.db.outbox_counts().unwrap().rejected, 0);
}

#[test]
fn a_cursor_that_goes_back_is_a_failure_and_no_loop() {
    let mut world = filled(9);
    let mut device = world.device("a", poll());
    device.run(&mut world.gateway);
    device.session.wish(Wish::SyncNow);
    let mut pulls = 0;
    loop {
        match device.session.next().unwrap() {
            Step::Pull(_) => {
                pulls += 1;
                assert!(pulls < 10, "it asks and asks");
                let page = world.gateway.page(Seq::ZERO, 2 + pulls % 2, None);
                assert!(page.has_more);
                device.give(Reply::Pulled(Ok(page)));
            }
            Step::Wait { .. } => break,
            step => panic!("{step:?}"),
        }
    }
    let error = device.status().last_error.unwrap();
    assert!(error.message.contains("goes back"), "{error:?}");
    world.arrive(remote(Op::Insert, "late", START_MS, "n"));
    device.settle(&mut world.gateway);
    assert_eq!(device.stock(), world.stock());
}
