//! How far a job is: written by whoever works, read by whoever waits.
//!
//! **Invariant:** saying how far it is costs an addition; nobody waits for a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

/// What a step counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Rows, or deltas.
    #[default]
    Rows,
    /// Bytes of files.
    Bytes,
    /// Files.
    Files,
}

/// One step of a job.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What is done, as a person says it: `reading the log`.
    pub name: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// How much it will be, by estimate; zero when that is not known.
    pub total: u64,
    /// When it began.
    pub begun: Instant,
}

/// How far a job is. A clone is cheap, and the same job's.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    step: watch::Sender<Step>,
    done: AtomicU64,
    begun: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let begun = Instant::now();
        let (step, _) = watch::channel(Step {
            name: "planning",
            unit: Unit::Rows,
            total: 0,
            begun,
        });
        Self(Arc::new(Inner {
            step,
            done: AtomicU64::new(0),
            begun,
        }))
    }
}

impl Progress {
    /// The next step begins; nothing of it is done.
    pub fn begin(&self, name: &'static str, unit: Unit, total: u64) {
        self.0.done.store(0, Ordering::Relaxed);
        self.0.step.send_replace(Step {
            name,
            unit,
            total,
            begun: Instant::now(),
        });
    }

    /// So much more of the step is done.
    pub fn add(&self, done: u64) {
        self.0.done.fetch_add(done, Ordering::Relaxed);
    }

    /// How much of the step is done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// The step that is worked at.
    #[must_use]
    pub fn step(&self) -> Step {
        *self.0.step.borrow()
    }

    /// Tells when another step begins.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<Step> {
        self.0.step.subscribe()
    }

    /// When the job began.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.0.begun
    }

    /// Which part of the step is done, from 0 to 1; none when nobody knows how much it is.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let total = self.step().total;
        let shared = |done: u64, total: u64| {
            // Thousandths are more than a bar shows.
            let thousandths = done.saturating_mul(1_000) / total;
            f64::from(u16::try_from(thousandths.min(1_000)).unwrap_or(1_000)) / 1_000.0
        };
        (total > 0).then(|| shared(self.done(), total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_begins_at_nothing_and_its_share_ends_at_one() {
        let progress = Progress::default();
        let seen = progress.steps();
        assert_eq!(progress.share(), None);
        progress.add(7);
        progress.begin("reading the log", Unit::Rows, 200);
        assert_eq!((progress.done(), progress.share()), (0, Some(0.0)));
        progress.clone().add(50);
        assert_eq!((progress.done(), progress.share()), (50, Some(0.25)));
        progress.add(500);
        assert_eq!(progress.share(), Some(1.0));
        assert!(seen.has_changed().unwrap());
        assert_eq!(progress.step().name, "reading the log");
    }
}
