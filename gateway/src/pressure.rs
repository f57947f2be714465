//! Backpressure: pushes are told to wait before memory or the disk runs out.
//!
//! ```text
//!   hot bytes   0 ………………… soft ………………………… hard
//!               take         take, flush and     503, come back
//!                            compact now
//!   free disk   0 …… reserve …………
//!               507   take
//! ```
//! **Invariant:** reads are never refused here, and what was acknowledged needs no more room to be flushed than
//! the limits leave.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lakesync_proto::{ErrorCode, GatewayId};

use crate::error::{Error, Refusal, Result};
use crate::gateway::Gateway;

/// How long a look at the free disk space holds: a disk fills by at most a few hundred MiB in it.
const DISK_LOOK: Duration = Duration::from_millis(250);
/// When a client is told to come back while the hot deltas are above the limit: about what a flush takes.
const RETRY_HOT_MS: u64 = 2_000;
/// When a client is told to come back while the disk is full: somebody has to free space first.
const RETRY_DISK_MS: u64 = 30_000;

/// How much a gateway, or a process, may hold before pushes have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureLimits {
    /// Hot bytes (deltas that the base does not hold yet, in memory) above which a flush and a compaction are
    /// asked for at once. Lower means smaller files more often; higher means more memory and a slower start.
    pub hot_bytes_soft: u64,
    /// Hot bytes above which pushes get 503 until compaction has caught up. Lower refuses bursts that would have
    /// fitted; higher risks that the process is killed for its memory.
    pub hot_bytes_hard: u64,
    /// Free bytes of the database's disk below which pushes get 507, so that a flush and SQLite still can work.
    /// Lower risks a database that cannot be written at all; higher leaves room unused.
    pub disk_reserve_bytes: u64,
}

impl Default for PressureLimits {
    /// For one gateway: 512 MiB, 2 GiB, 128 MiB.
    fn default() -> Self {
        Self {
            hot_bytes_soft: 512 << 20,
            hot_bytes_hard: 2 << 30,
            disk_reserve_bytes: 128 << 20,
        }
    }
}

impl PressureLimits {
    /// For all gateways of a process together: 1 GiB, 4 GiB; the reserve is each gateway's own.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            hot_bytes_soft: 1 << 30,
            hot_bytes_hard: 4 << 30,
            ..Self::default()
        }
    }
}

/// What all gateways of a process hold together.
#[derive(Debug)]
pub struct ProcessLoad {
    limits: PressureLimits,
    hot_bytes: AtomicU64,
}

impl ProcessLoad {
    pub(crate) fn new(limits: PressureLimits) -> Self {
        Self {
            limits,
            hot_bytes: AtomicU64::new(0),
        }
    }

    /// The hot bytes of all gateways, as each last told.
    #[must_use]
    pub fn hot_bytes(&self) -> u64 {
        self.hot_bytes.load(Ordering::Relaxed)
    }

    fn replace(&self, before: u64, now: u64) {
        // Wraps when it sinks, which is what subtraction is.
        self.hot_bytes
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// The pressure on one gateway.
#[derive(Debug)]
pub(crate) struct Pressure {
    gateway: GatewayId,
    limits: PressureLimits,
    /// The folder of the database.
    folder: PathBuf,
    /// The hot bytes that the process counts for this gateway.
    told: Mutex<u64>,
    process: OnceLock<Arc<ProcessLoad>>,
    /// When the disk was looked at, and what was free.
    disk: Mutex<Option<(Instant, u64)>>,
}

impl Pressure {
    pub(crate) fn new(gateway: GatewayId, database: &Path, limits: PressureLimits) -> Self {
        let folder = database.parent().unwrap_or(Path::new("."));
        Self {
            gateway,
            limits,
            folder: folder.to_owned(),
            told: Mutex::new(0),
            process: OnceLock::new(),
            disk: Mutex::new(None),
        }
    }

    /// Counts this gateway among those of a process; the first process it joins is its process.
    pub(crate) fn join(&self, process: &Arc<ProcessLoad>) {
        let _ = self.process.get_or_init(|| Arc::clone(process));
    }

    /// Tells the process what this gateway holds.
    pub(crate) fn tell(&self, hot_bytes: u64) {
        if let Some(process) = self.process.get() {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            process.replace(*told, hot_bytes);
            *told = hot_bytes;
        }
    }

    /// Whether a flush and a compaction should make room now.
    pub(crate) fn is_high(&self, hot_bytes: u64) -> bool {
        let process = self.process.get();
        hot_bytes > self.limits.hot_bytes_soft
            || process.is_some_and(|all| all.hot_bytes() > all.limits.hot_bytes_soft)
    }

    /// Refuses a push of `bytes` bytes when it would not fit.
    pub(crate) fn check(&self, hot_bytes: u64, bytes: u64) -> Result<(), Refusal> {
        self.tell(hot_bytes);
        let hot = |whose: &str, held: u64, limit: u64| {
            let text = format!(
                "{whose} `{}` holds {held} bytes of deltas that are not compacted yet, {limit} are allowed; compaction \
                 makes room, send again in {} s",
                self.gateway,
                RETRY_HOT_MS / 1_000
            );
            let refusal = Refusal::new(ErrorCode::BackpressureError, text);
            refusal.with("retryAfterMs", RETRY_HOT_MS)
        };
        let limit = self.limits.hot_bytes_hard;
        if hot_bytes.saturating_add(bytes) > limit {
            return Err(hot("gateway", hot_bytes, limit));
        }
        if let Some(all) = self.process.get() {
            let (held, limit) = (all.hot_bytes(), all.limits.hot_bytes_hard);
            if held.saturating_add(bytes) > limit {
                return Err(hot("the process of gateway", held, limit));
            }
        }
        self.check_disk(bytes)
    }

    fn check_disk(&self, bytes: u64) -> Result<(), Refusal> {
        let Some(free) = self.free() else {
            // What cannot be asked is not refused: SQLite says when the disk is full.
            return Ok(());
        };
        if free.saturating_sub(bytes) >= self.limits.disk_reserve_bytes {
            return Ok(());
        }
        Err(storage_full(
            &self.gateway,
            &format!(
                "{free} bytes are free on its disk, {} are kept in reserve",
                self.limits.disk_reserve_bytes
            ),
        ))
    }

    /// The free bytes of the database's disk, looked at now and then.
    fn free(&self) -> Option<u64> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, free)) = *disk
            && now.duration_since(at) < DISK_LOOK
        {
            return Some(free);
        }
        let free = free_bytes(&self.folder)?;
        *disk = Some((now, free));
        Some(free)
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.tell(0);
    }
}

impl Gateway {
    /// Refuses a push of `bytes` bytes of values when memory or disk would run out.
    ///
    /// # Errors
    /// [`ErrorCode::BackpressureError`] and [`ErrorCode::StorageFull`], with `retryAfterMs` among the details.
    pub(crate) fn check_pressure(&self, bytes: usize) -> Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let hot = self.live.hot();
        Ok(self.upkeep.pressure.check(hot.bytes, bytes)?)
    }
}

/// The refusal of a push for which the disk has no room.
pub(crate) fn storage_full(gateway: &GatewayId, reason: &str) -> Refusal {
    let text = format!(
        "the disk of gateway `{gateway}` is full ({reason}); nothing was stored, and reads go on. Free some space, then \
         send again"
    );
    Refusal::new(ErrorCode::StorageFull, text).with("retryAfterMs", RETRY_DISK_MS)
}

/// What a group of pushes is told whose transaction was rolled back.
pub(crate) fn rolled_back(gateway: &GatewayId, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => storage_full(gateway, &error.to_string()).into(),
        _ => Error::Storage {
            gateway: gateway.clone(),
            reason: error.to_string(),
        },
    }
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(soft: u64, hard: u64) -> PressureLimits {
        PressureLimits {
            hot_bytes_soft: soft,
            hot_bytes_hard: hard,
            disk_reserve_bytes: 0,
        }
    }

    fn pressure(name: &str, limits: PressureLimits) -> Pressure {
        let gateway = GatewayId::parse(name).unwrap();
        Pressure::new(gateway, Path::new("./g.db"), limits)
    }

    #[test]
    fn a_push_fits_up_to_the_hard_limit_and_room_is_asked_for_from_the_soft_one() {
        let pressure = pressure("g", limits(50, 100));
        assert!(!pressure.is_high(50) && pressure.is_high(51));
        pressure.check(90, 10).unwrap();
        let refusal = pressure.check(90, 11).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::BackpressureError);
        assert_eq!(refusal.details["retryAfterMs"], RETRY_HOT_MS);
        assert!(pressure.check(u64::MAX, 1).is_err(), "no overflow");
    }

    #[test]
    fn gateways_share_the_limit_of_their_process_until_they_are_closed() {
        let process = Arc::new(ProcessLoad::new(limits(60, 100)));
        let roomy = limits(1_000, 1_000);
        let (one, two) = (pressure("one", roomy), pressure("two", roomy));
        one.join(&process);
        two.join(&process);
        one.check(70, 1).unwrap();
        assert!(two.is_high(0), "the other one's bytes count");
        assert!(two.check(30, 1).is_err());
        assert_eq!(process.hot_bytes(), 100);
        one.tell(10);
        two.check(30, 1).unwrap();
        drop(two);
        assert_eq!(process.hot_bytes(), 10);
    }

    #[test]
    fn below_the_reserve_of_the_disk_pushes_are_refused_with_its_code() {
        let full = PressureLimits {
            disk_reserve_bytes: u64::MAX,
            ..limits(100, 100)
        };
        let refusal = pressure("g", full).check(0, 1).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::StorageFull);
        let gone = Pressure::new(
            GatewayId::parse("g").unwrap(),
            Path::new("/no/such/folder/g.db"),
            full,
        );
        gone.check(0, 1).expect("SQLite will say it");
    }

    #[test]
    fn a_database_that_says_the_disk_is_full_is_answered_as_such() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch("create table t (v blob); pragma max_page_count = 3;")
            .unwrap();
        let full = db
            .execute("insert into t values (zeroblob(100000))", [])
            .unwrap_err();
        let gateway = GatewayId::parse("g").unwrap();
        let Error::Refused(refusal) = rolled_back(&gateway, &full) else {
            panic!("{full}");
        };
        assert_eq!(refusal.code, ErrorCode::StorageFull);
        let other = db
            .execute("insert into nothing values (1)", [])
            .unwrap_err();
        assert!(matches!(
            rolled_back(&gateway, &other),
            Error::Storage { .. }
        ));
    }
}
