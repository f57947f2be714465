//! Random walks: devices with wrong clocks, faults at any exchange, restarts at any step, rules, other logs. Whatever
//! happened, once all is well everybody shows what the gateway's merge shows, and every outbox is empty.

use super::world::{Device, Fault, STOCK, World, evolved, schema};
use crate::dice::Dice;
use crate::sync::{FirstSync, Reply, SessionOptions, Step, Updates, Wish};

const FAULTS: [Fault; 8] = [
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::LostRequest,
    Fault::LostReply,
    Fault::Twice,
    Fault::Busy,
];

const WIDER: &str = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "note", "type": "string"},
    {"name": "colour", "type": "string"}]}"#;

fn options(rng: &mut Dice) -> SessionOptions {
    SessionOptions::default()
        .with_updates(*rng.pick(&[Updates::Live, Updates::Poll]))
        .with_first_sync(*rng.pick(&[FirstSync::Checkpoint, FirstSync::Checkpoint, FirstSync::Log]))
        .with_page_limit(*rng.pick(&[2, 7, 1_000]))
}

fn edit(device: &Device, rng: &mut Dice) {
    let code = format!("code {}", rng.below(6));
    let value = rng.below(1_000);
    if rng.below(4) == 0 && device.has_column("colour") {
        return device.sql(&format!(
            "UPDATE stock SET colour = 'c{value}' WHERE code > '{code}'"
        ));
    }
    device.sql(&match rng.below(8) {
        0 => format!("DELETE FROM stock WHERE code = '{code}'"),
        1 => format!("UPDATE stock SET note = NULL WHERE code = '{code}'"),
        2 => format!("UPDATE stock SET count = {value}"),
        3 | 4 => format!(
            "INSERT INTO stock (code, count) VALUES ('{code}', {value})
             ON CONFLICT DO UPDATE SET count = excluded.count"
        ),
        5 => format!("REPLACE INTO stock (code, note) VALUES ('{code}', 'r{value}')"),
        _ => format!(
            "INSERT INTO stock (code, note) VALUES ('{code}', 'n{value}')
             ON CONFLICT DO UPDATE SET note = excluded.note"
        ),
    });
}

/// What happens to a device or to the gateway, besides its own steps.
fn happen(world: &mut World, device: &mut Device, rng: &mut Dice) {
    match rng.below(60) {
        0..20 => edit(device, rng),
        20..23 => device.restart(),
        23..26 => {
            let by_ms = *rng.pick(&[1, 700, 20_000]);
            device.clock.advance(by_ms);
        }
        26 => device.clock.set(device.now_ms() - rng.below(50_000)),
        27..30 => device.session.wish(*rng.pick(&[
            Wish::SyncNow,
            Wish::Offline,
            Wish::Online,
            Wish::Live,
        ])),
        30..33 if device.is_live() => device.hang_up(),
        33 if device.is_live() => device.give(Reply::Expiring),
        34..40 => {
            if let Some(page) = device.live_page(&mut world.gateway) {
                device.give(page);
            }
        }
        40 if rng.below(4) == 0 => {
            let code = format!("code {}", rng.below(6));
            match rng.below(2) {
                0 => world.gateway.withdraw("stock", &code),
                _ => world.gateway.hide("stock", &code),
            }
        }
        41 if rng.below(4) == 0 => {
            // Everything that was acknowledged is kept, so nothing is lost with the log.
            let kept = rng.index(world.gateway.deltas().count() + 1);
            world.gateway.lose_log(kept);
        }
        42 => {
            world.gateway.garbled = 1;
            world.garbled += 1;
        }
        43 if rng.below(6) == 0 => {
            world.gateway.schemas = vec![evolved(&schema(STOCK), WIDER)];
        }
        44 => {
            let ms = rng.below(10);
            world.gateway.now_ms += ms;
        }
        45 => device.session.wish(Wish::Verify),
        46 if rng.below(3) == 0 => {
            // The gateway hears of it at the end at the latest.
            let wider = evolved(&schema(STOCK), WIDER);
            device.db.register(&wider).unwrap();
        }
        _ => {}
    }
}

fn check(seed: u64) {
    let mut rng = Dice(seed);
    let mut world = World::new();
    let count = 2 + rng.index(3);
    let mut devices: Vec<Device> = (0..count)
        .map(|n| {
            let device = world.device(&format!("device-{n}"), options(&mut rng));
            let skew_ms = *rng.pick(&[0, 0, 1_500, 3_600_000]);
            device.clock.advance(skew_ms);
            device
        })
        .collect();
    for _ in 0..150 {
        let device = &mut devices[rng.index(count)];
        happen(&mut world, device, &mut rng);
        device.faults = [*rng.pick(&FAULTS)].into();
        device.step(&mut world.gateway);
    }
    world.gateway.garbled = 0;
    world.gateway.schemas = vec![evolved(&schema(STOCK), WIDER)];
    for _ in 0..3 {
        for device in &mut devices {
            device.faults.clear();
            device.session.wish(Wish::Online);
            device.session.wish(Wish::SyncNow);
            device.session.wish(Wish::Verify);
            device.settle(&mut world.gateway);
        }
    }
    check_equal(seed, &world, &devices);
}

/// Everybody shows the gateway's merge, and has nothing left to send.
fn check_equal(seed: u64, world: &World, devices: &[Device]) {
    let (want, colours) = (world.stock(), world.colours());
    let garbled = world.garbled;
    let told: u64 = devices
        .iter()
        .map(|device| device.status().mismatches)
        .sum();
    assert!(
        told <= garbled,
        "seed {seed}: {told} of {garbled} were the gateway's own"
    );
    for device in devices {
        let counts = device.db.outbox_counts().unwrap();
        assert_eq!(
            (counts.pending, counts.in_flight, counts.acknowledged),
            (0, 0, 0),
            "seed {seed}"
        );
        assert_eq!(
            counts.rejected,
            0,
            "seed {seed}: {:?}",
            device.db.dead_letters(3)
        );
        assert_eq!(
            device.stock(),
            want,
            "seed {seed}: {}",
            device.db.client_id()
        );
        if device.has_column("colour") || !colours.is_empty() {
            assert_eq!(
                device.colours(),
                colours,
                "seed {seed}: {}",
                device.db.client_id()
            );
        }
    }
    let ids: std::collections::BTreeSet<_> =
        world.gateway.deltas().map(|delta| delta.delta_id).collect();
    assert_eq!(
        ids.len(),
        world.gateway.deltas().count(),
        "seed {seed}: nothing is in the log twice"
    );
}

#[test]
fn whatever_happens_everybody_ends_with_the_gateways_merge() {
    let seeds = std::env::var("LAKESYNC_SEEDS").ok();
    let seeds = seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        check(seed);
    }
}

#[test]
fn a_session_that_is_dropped_after_any_step_is_gone_on_from() {
    let mut world = World::new();
    let mut writer = world.device("writer", SessionOptions::once());
    writer.sql(
        "INSERT INTO stock (code, count) VALUES ('a', 1), ('b', 2), ('c', 3), ('d', 4), ('e', 5)",
    );
    writer.run(&mut world.gateway);
    for dropped_after in 0..12 {
        let mut device = world.device(&format!("d{dropped_after}"), SessionOptions::once());
        device.sql(&format!(
            "INSERT INTO stock (code) VALUES ('own {dropped_after:02}')"
        ));
        for _ in 0..dropped_after {
            device.step(&mut world.gateway);
        }
        // The step that is under way is answered to nobody.
        let step = device.session.next().unwrap();
        if let Step::Push(push) = step {
            world.gateway.push(&push).unwrap();
        }
        device.restart();
        device.run(&mut world.gateway);
        assert_eq!(device.stock(), world.stock(), "after {dropped_after} steps");
        assert_eq!(device.db.outbox_counts().unwrap().pending, 0);
    }
}
