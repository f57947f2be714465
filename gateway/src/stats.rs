//! What a gateway counts about itself: plain numbers, whoever shows them.
//!
//! **Invariant:** counting never waits and never fails; a snapshot is cheap enough to be taken on every scrape.
//!
//! ```text
//!   writer ── commit ──┐
//!   routes ── push/pull┼──► Stats (atomics) ──► StatsSnapshot ──► metrics, status page
//!   flush  ── flushed ─┘
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;
use lakesync_proto::ErrorCode;

/// The upper bounds of the buckets of durations, in microseconds: 100 µs to 10 s.
pub const LATENCY_BOUNDS_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
/// The upper bounds of the buckets of group sizes, in deltas.
pub const GROUP_BOUNDS: &[u64] = &[
    1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000,
];
/// The upper bounds of the buckets of flush durations, in milliseconds: 10 ms to 10 minutes.
pub const FLUSH_BOUNDS_MS: &[u64] = &[
    10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 60_000, 180_000, 600_000,
];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It was done.
    Done,
    /// The request was at fault.
    Refused,
    /// It was sound and could not be taken now: the client comes back.
    Busy,
    /// The gateway failed.
    Failed,
}

impl Ended {
    /// Every way, in the order that requests are counted in.
    pub const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Busy, Self::Failed];

    /// How a call of the gateway ended.
    #[must_use]
    pub fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(Error::Refused(refusal)) => match refusal.code {
                ErrorCode::BackpressureError | ErrorCode::StorageFull | ErrorCode::RateLimited => {
                    Self::Busy
                }
                _ => Self::Refused,
            },
            Err(Error::Busy { .. }) => Self::Busy,
            Err(_) => Self::Failed,
        }
    }

    /// The word that metrics use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Busy => 2,
            Self::Failed => 3,
        }
    }
}

/// How many observations fell into each bucket.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [u64],
    /// One a bound, and one for what is above the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The upper bounds of the buckets, ascending and inclusive, in the unit that the field's name ends with.
    pub bounds: &'static [u64],
    /// How many observations fell into each bucket (not added up), and above the last bound.
    pub counts: Vec<u64>,
    /// The sum of all observations, in the same unit.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// How many observations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// One kind of request.
#[derive(Debug)]
struct Requests {
    ended: [AtomicU64; 4],
    deltas: AtomicU64,
    took: Histogram,
}

impl Requests {
    fn new() -> Self {
        Self {
            ended: Default::default(),
            deltas: AtomicU64::new(0),
            took: Histogram::new(LATENCY_BOUNDS_US),
        }
    }

    fn observe(&self, ended: Ended, took: Duration, deltas: usize) {
        self.ended[ended.place()].fetch_add(1, Ordering::Relaxed);
        self.deltas.fetch_add(number(deltas), Ordering::Relaxed);
        self.took.observe(micros(took));
    }

    fn snapshot(&self) -> RequestsSnapshot {
        RequestsSnapshot {
            ended: Ended::ALL.map(|way| (way, self.ended[way.place()].load(Ordering::Relaxed))),
            deltas: self.deltas.load(Ordering::Relaxed),
            took_us: self.took.snapshot(),
        }
    }
}

/// One kind of request at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestsSnapshot {
    /// How many ended in each way.
    pub ended: [(Ended, u64); 4],
    /// How many deltas they carried.
    pub deltas: u64,
    /// How long they took, in microseconds.
    pub took_us: HistogramSnapshot,
}

/// The error that a background task met last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// The counts of one gateway since it was opened.
#[derive(Debug)]
pub struct Stats {
    pushes: Requests,
    pulls: Requests,
    commit: Histogram,
    group: Histogram,
    flush: Histogram,
    flush_failures: AtomicU64,
    flushed_deltas: AtomicU64,
    flushed_bytes: AtomicU64,
    feed_bytes: AtomicU64,
    known_ids: AtomicU64,
    ignored_cells: AtomicU64,
    flush_error: Mutex<Option<LastError>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            pushes: Requests::new(),
            pulls: Requests::new(),
            commit: Histogram::new(LATENCY_BOUNDS_US),
            group: Histogram::new(GROUP_BOUNDS),
            flush: Histogram::new(FLUSH_BOUNDS_MS),
            flush_failures: AtomicU64::new(0),
            flushed_deltas: AtomicU64::new(0),
            flushed_bytes: AtomicU64::new(0),
            feed_bytes: AtomicU64::new(0),
            known_ids: AtomicU64::new(0),
            ignored_cells: AtomicU64::new(0),
            flush_error: Mutex::new(None),
        }
    }
}

impl Stats {
    /// A push of `deltas` deltas ended.
    pub fn push(&self, ended: Ended, took: Duration, deltas: usize) {
        self.pushes.observe(ended, took, deltas);
    }

    /// A pull, or a page sent live, with `deltas` deltas ended.
    pub fn pull(&self, ended: Ended, took: Duration, deltas: usize) {
        self.pulls.observe(ended, took, deltas);
    }

    /// The durable log was committed and fsynced with a group of `deltas` deltas.
    pub fn commit(&self, took: Duration, deltas: usize) {
        self.commit.observe(micros(took));
        self.group.observe(number(deltas));
    }

    /// A flush wrote `deltas` deltas into files of `bytes` bytes.
    pub fn flushed(&self, took: Duration, deltas: usize, bytes: u64) {
        self.flush
            .observe(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.flushed_deltas
            .fetch_add(number(deltas), Ordering::Relaxed);
        self.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.set_flush_error(None);
    }

    /// A flush failed at `at_ms` (milliseconds since 1970).
    pub fn flush_failed(&self, at_ms: u64, error: &Error) {
        self.flush_failures.fetch_add(1, Ordering::Relaxed);
        let text = error.to_string();
        self.set_flush_error(Some(LastError { at_ms, text }));
    }

    /// The feed holds this many bytes now.
    pub fn feed(&self, bytes: usize) {
        self.feed_bytes.store(number(bytes), Ordering::Relaxed);
    }

    /// This many delta ids are known in memory now.
    pub fn known_ids(&self, count: usize) {
        self.known_ids.store(number(count), Ordering::Relaxed);
    }

    /// Accepted deltas wrote `cells` cells of columns that had been dropped.
    pub fn ignored(&self, cells: usize) {
        self.ignored_cells
            .fetch_add(number(cells), Ordering::Relaxed);
    }

    /// All of it as plain numbers.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let last = self
            .flush_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        StatsSnapshot {
            pushes: self.pushes.snapshot(),
            pulls: self.pulls.snapshot(),
            commit_us: self.commit.snapshot(),
            group_deltas: self.group.snapshot(),
            flush_ms: self.flush.snapshot(),
            flush_failures: self.flush_failures.load(Ordering::Relaxed),
            flushed_deltas: self.flushed_deltas.load(Ordering::Relaxed),
            flushed_bytes: self.flushed_bytes.load(Ordering::Relaxed),
            feed_bytes: self.feed_bytes.load(Ordering::Relaxed),
            known_ids: self.known_ids.load(Ordering::Relaxed),
            ignored_cells: self.ignored_cells.load(Ordering::Relaxed),
            flush_error: last.clone(),
        }
    }

    fn set_flush_error(&self, error: Option<LastError>) {
        *self
            .flush_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// [`Stats`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Pushes.
    pub pushes: RequestsSnapshot,
    /// Pulls.
    pub pulls: RequestsSnapshot,
    /// How long commits of the durable log took with their fsync, in microseconds.
    pub commit_us: HistogramSnapshot,
    /// How many deltas a commit held.
    pub group_deltas: HistogramSnapshot,
    /// How long flushes took, in milliseconds; its count is the number of flushes that wrote something.
    pub flush_ms: HistogramSnapshot,
    /// How many flushes failed.
    pub flush_failures: u64,
    /// How many deltas were flushed.
    pub flushed_deltas: u64,
    /// How many bytes of files they became.
    pub flushed_bytes: u64,
    /// How many bytes of recent deltas are kept in memory for pulls.
    pub feed_bytes: u64,
    /// How many delta ids are kept in memory to tell duplicates.
    pub known_ids: u64,
    /// How many cells accepted deltas wrote to columns that had been dropped: kept in the log, shown nowhere.
    pub ignored_cells: u64,
    /// The error of the newest flush; none when it succeeded.
    pub flush_error: Option<LastError>,
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let stats = Stats::default();
        for micros in [1, 100, 101, 20_000_000] {
            stats.commit(Duration::from_micros(micros), 3);
        }
        let commit = stats.snapshot().commit_us;
        assert_eq!(commit.counts[..2], [2, 1]);
        assert_eq!(commit.counts.last(), Some(&1), "above every bound");
        assert_eq!((commit.count(), commit.sum), (4, 20_000_202));
    }

    #[test]
    fn requests_are_told_apart_by_how_they_ended() {
        let stats = Stats::default();
        let busy: Result<(), Error> = Err(Error::Busy {
            gateway: lakesync_proto::GatewayId::parse("g").unwrap(),
            waiting: 1,
        });
        stats.push(Ended::of(&busy), Duration::ZERO, 0);
        stats.push(Ended::of(&Ok(())), Duration::ZERO, 7);
        let pushes = stats.snapshot().pushes;
        let ended = pushes.ended.map(|(way, count)| (way.as_str(), count));
        assert_eq!(
            ended,
            [("ok", 1), ("refused", 0), ("busy", 1), ("failed", 0)]
        );
        assert_eq!(pushes.deltas, 7);
    }

    #[test]
    fn a_flush_that_succeeds_clears_the_error_of_the_one_before() {
        let stats = Stats::default();
        let error = Error::Closed {
            gateway: lakesync_proto::GatewayId::parse("g").unwrap(),
        };
        stats.flush_failed(5, &error);
        assert_eq!(stats.snapshot().flush_error.unwrap().at_ms, 5);
        stats.flushed(Duration::from_millis(20), 3, 100);
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.flush_error, None);
        assert_eq!((snapshot.flush_failures, snapshot.flushed_deltas), (1, 3));
    }
}
