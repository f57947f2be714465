//! Random histories of two to ten clients against a real gateway; `LAKESYNC_SEEDS` asks for more of them.
//!
//! Invariant: a failure names its seed, and `LAKESYNC_SEED` runs that one alone.

use std::collections::BTreeMap;

use super::history::{History, Theme};

/// What some history of the first sixteen must have met, or the dice are no good any more.
const RARE: [&str; 20] = [
    "RequestLost",
    "ReplyLost",
    "Stray",
    "Twice",
    "Busy",
    "Unauthorised",
    "Garbage",
    "Torn",
    "duplicate",
    "failed write",
    "withdrawals",
    "checkpoint",
    "live page",
    "live end",
    "digest",
    "newer schema",
    "CURSOR_EXPIRED",
    "CLOCK_DRIFT",
    "LATE_DELTA",
    "FORBIDDEN",
];

/// The histories that run.
fn seeds() -> Vec<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        text.parse::<u64>().ok()
    };
    match number("LAKESYNC_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("LAKESYNC_SEEDS").unwrap_or(16)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_the_gateway_and_the_oracle_agree_after_random_histories() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let seeds = seeds();
    for seed in seeds.clone() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(seed, folder.path()).await;
        let steps = history.rng.between(150, 400);
        for _ in 0..steps {
            history.step().await;
        }
        history.heal().await;
        history.check().await;
        assert!(
            history.ledger.len() > 10,
            "seed {seed}: nobody wrote anything"
        );
        if history.theme == Theme::Late {
            history.forgive().await;
            history.check().await;
        }
        for (what, times) in history.world.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{seen:?}");
    if seeds.len() >= 16 {
        for what in RARE {
            assert!(seen.contains_key(what), "nothing of {what}: {seen:?}");
        }
    }
}
