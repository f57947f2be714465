//! How long to wait before the next attempt.
//!
//! **Invariant:** pure, never zero, and never longer than [`WAIT_MAX`].

use std::time::Duration;

/// The first wait.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// The longest wait between two attempts: a webhook that was down for a day is tried soon after it is back.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// The wait after `attempts` of them, doubling from a second. Between half of it and all of it is taken by `seed`, so
/// that actions that failed together do not come back together.
pub(super) fn wait(attempts: u32, seed: u64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    let whole = WAIT_FIRST.saturating_mul(1 << doublings).min(WAIT_MAX);
    let half = whole / 2;
    let parts = u32::try_from(mixed(seed, attempts) % 1_001).unwrap_or(0);
    half + half * parts / 1_000
}

/// SplitMix64: spreads neighbouring seeds.
fn mixed(seed: u64, attempts: u32) -> u64 {
    let mut z = seed
        .wrapping_add(u64::from(attempts))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_jitter_and_end_at_the_longest() {
        for seed in 0..50 {
            for attempts in 1..=60 {
                let whole_s = (1_u64 << (attempts - 1).min(20)).min(900);
                let waited = wait(attempts, seed);
                assert!(
                    waited >= Duration::from_secs(whole_s) / 2,
                    "{attempts} {waited:?}"
                );
                assert!(
                    waited <= Duration::from_secs(whole_s),
                    "{attempts} {waited:?}"
                );
            }
        }
        assert_eq!(wait(0, 1).as_secs(), 0);
        assert!(wait(0, 1) >= WAIT_FIRST / 2);
    }

    #[test]
    fn actions_that_failed_together_come_back_apart() {
        let waits: std::collections::BTreeSet<_> = (0..100).map(|seed| wait(8, seed)).collect();
        assert!(waits.len() > 80, "{}", waits.len());
    }
}
