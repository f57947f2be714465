//! How long to wait after a failure.
//!
//! Invariant: the wait grows with the failures in a row up to a bound, and clients that failed together come back apart.
//! It is a function of its arguments: no randomness, no clock.

use lakesync_proto::ClientId;

/// The wait after the first failure at most, in milliseconds: a gateway that restarts is back in about that time.
const FIRST_MS: u64 = 500;

/// The longest wait that the client chooses, in milliseconds: a person who waits for the network notices a minute.
const LONGEST_MS: u64 = 60_000;

/// The longest wait that a gateway may ask for, in milliseconds.
const ASKED_MS_MAX: u64 = 3_600_000;

/// What tells this client's waits from those of others.
pub(crate) fn seed(client_id: &ClientId) -> u64 {
    // FNV-1a.
    client_id
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The wait in milliseconds after so many failures in a row, of which the last was at `now_ms`: between half and the whole
/// of 0.5 s, 1 s, 2 s, … 60 s, and no less than the gateway `asked` for.
pub(crate) fn wait_ms(seed: u64, failures: u32, now_ms: u64, asked_ms: Option<u64>) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = (FIRST_MS << doublings).min(LONGEST_MS);
    let half = whole / 2;
    let jitter = mix(seed ^ now_ms.rotate_left(17) ^ u64::from(failures)) % (whole - half + 1);
    (half + jitter).max(asked_ms.unwrap_or(0).min(ASKED_MS_MAX))
}

/// Splitmix64's last steps.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let seed = seed(&ClientId::parse("a").unwrap());
        let mut whole = 500;
        for failures in 1..40 {
            let wait = wait_ms(seed, failures, 7, None);
            assert!((whole / 2..=whole).contains(&wait), "{failures}: {wait}");
            whole = (whole * 2).min(60_000);
        }
    }

    #[test]
    fn clients_that_fail_together_come_back_apart() {
        let waits: BTreeSet<u64> = (0..100)
            .map(|n| seed(&ClientId::parse(&format!("client-{n}")).unwrap()))
            .map(|seed| wait_ms(seed, 6, 1_700_000_000_000, None))
            .collect();
        assert!(waits.len() > 90, "{waits:?}");
    }

    #[test]
    fn what_the_gateway_asks_for_is_the_least_and_is_bounded() {
        assert_eq!(wait_ms(1, 1, 7, Some(30_000)), 30_000);
        assert!(wait_ms(1, 20, 7, Some(1)) >= 30_000);
        assert_eq!(wait_ms(1, 1, 7, Some(u64::MAX)), 3_600_000);
    }
}
