//! Laws of the hybrid logical clock under any wall clock.

use lakesync_proto::limits::{DRIFT_MS, WALL_MS_MAX};
use lakesync_proto::{Hlc, HlcClock, HlcError};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    Now(u64),
    Recv(Hlc, u64),
}

fn event() -> impl Strategy<Value = Event> {
    let wall = || {
        prop_oneof![
            0..20_u64,
            0..30_000_u64,
            Just(WALL_MS_MAX),
            WALL_MS_MAX + 1..=u64::MAX
        ]
    };
    let remote = (
        0..30_000_u64,
        prop_oneof![0..3_u16, u16::MAX - 2..=u16::MAX],
    );
    let remote = remote.prop_map(|(wall_ms, counter)| Hlc::new(wall_ms, counter).unwrap());
    prop_oneof![
        wall().prop_map(Event::Now),
        (remote, wall()).prop_map(|(hlc, wall_ms)| Event::Recv(hlc, wall_ms))
    ]
}

proptest! {
    #[test]
    fn stamps_rise_strictly_and_refusals_change_nothing(events in prop::collection::vec(event(), 1..60)) {
        let mut clock = HlcClock::new();
        for event in events {
            let before = clock.last();
            let stamp = match event {
                Event::Now(wall_ms) => clock.now(wall_ms),
                Event::Recv(remote, wall_ms) => {
                    let stamp = clock.recv(remote, wall_ms);
                    if remote.wall_ms() > wall_ms.saturating_add(DRIFT_MS) {
                        let drift = matches!(stamp, Err(HlcError::Drift { .. }));
                        prop_assert!(drift);
                    }
                    stamp.inspect(|stamp| assert!(*stamp > remote))
                }
            };
            match stamp {
                Ok(stamp) => {
                    prop_assert!(stamp > before);
                    prop_assert_eq!(clock.last(), stamp);
                }
                Err(_) => prop_assert_eq!(clock.last(), before),
            }
        }
    }

    #[test]
    fn old_stamps_always_pass(remote_ms in 0..1_000_000_u64, later_ms in 0..1_000_000_000_u64) {
        let remote = Hlc::new(remote_ms, u16::MAX).unwrap();
        prop_assert!(HlcClock::new().recv(remote, remote_ms + later_ms).is_ok());
    }

    #[test]
    fn hlc_order_is_the_order_of_its_parts_and_of_a_long(a in any::<(u32, u16)>(), b in any::<(u32, u16)>()) {
        let hlc = |(wall, counter): (u32, u16)| Hlc::new(u64::from(wall) << 15, counter).unwrap();
        prop_assert_eq!(hlc(a).cmp(&hlc(b)), a.cmp(&b));
        prop_assert_eq!(hlc(a).as_i64().cmp(&hlc(b).as_i64()), a.cmp(&b));
        prop_assert_eq!(Hlc::from_i64(hlc(a).as_i64()).unwrap(), hlc(a));
    }
}
