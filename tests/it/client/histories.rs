//! Random histories of two to ten clients against a real gateway; `LAKESYNC_SEEDS` asks for more of them.
//!
//! Invariant: a failure names its seed, and `LAKESYNC_SEED` runs that one alone.

use super::history::{History, Theme};

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
    for seed in seeds() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(seed, folder.path()).await;
        let steps = history.rng.between(100, 300);
        for _ in 0..steps {
            history.step().await;
        }
        history.heal().await;
        history.check().await;
        assert!(history.ledger.len() > 10, "seed {seed}: nobody wrote anything");
        if matches!(history.theme, Theme::Late | Theme::Everything) {
            history.forgive().await;
            history.check().await;
        }
    }
}
