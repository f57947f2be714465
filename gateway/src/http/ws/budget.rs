//! Messages per second of one connection.

use std::num::NonZeroU32;

use tokio::time::Instant;

/// A second's worth of messages at once, refilled as time passes.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(per_second: NonZeroU32, now: Instant) -> Self {
        let per_second = f64::from(per_second.get());
        Self {
            per_second,
            left: per_second,
            at: now,
        }
    }

    /// Takes one message; false when there is none left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * self.per_second).min(self.per_second);
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_a_second_passes_and_then_only_the_rate() {
        let mut now = Instant::now();
        let mut budget = Budget::new(NonZeroU32::new(50).unwrap(), now);
        let mut take = |now| (0..100).filter(|_| budget.take(now)).count();
        assert_eq!(take(now), 50);
        now += Duration::from_millis(100);
        assert_eq!(take(now), 5);
        now += Duration::from_secs(3_600);
        assert_eq!(take(now), 50, "silence saves up no more than a second");
    }
}
