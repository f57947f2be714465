//! Compaction without anybody asking: after flushes, tables whose overlay has grown are folded into their bases.
//!
//! ```text
//!   flushed ──► due(table, policy) ──► compact, one table at a time ──► read views shrink
//!                    ▲                        │ error
//!                    └──── backoff ◄──────────┘
//! ```
//! **Invariant:** one compaction of the scheduler runs at a time; a table that fails is tried again ever more rarely and
//! never keeps another from its turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakesync_compactor::{CompactReport, CompactionConfig, compact};
use lakesync_gateway::Gateway;
use lakesync_gateway::http::Front;
use lakesync_proto::{GatewayId, TableName};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Result};
use crate::lake::Lake;

/// How often the gateways are looked at. A look at one that has not flushed since costs a comparison.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The wait after a table's first failure; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(30 * 60);

/// When a table is compacted: as soon as one of these is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactPolicy {
    /// Bytes that are flushed and not in the base (default 64 MiB). Fewer rewrites the base more often than the changes
    /// are worth; more is memory, and every query folds it.
    pub when_bytes: u64,
    /// Deltas that are flushed and not in the base (default 250,000); as with `when_bytes`.
    pub when_rows: u64,
    /// How long flushed deltas may wait, however few (default 1 h). Shorter rewrites the base for a few rows; longer
    /// lets readers of the base lag.
    pub max_age: Duration,
}

impl Default for CompactPolicy {
    fn default() -> Self {
        Self {
            when_bytes: 64 << 20,
            when_rows: 250_000,
            max_age: Duration::from_secs(60 * 60),
        }
    }
}

/// What the decision looks at: what of a table is flushed and not in its base, and how the last attempts ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// In bytes of memory.
    pub bytes: u64,
    /// In deltas.
    pub rows: u64,
    /// Since when there is some, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Whether memory is so short that everything that can be folded should be.
    pub pressed: bool,
    /// When to try again after failures, in milliseconds since 1970.
    pub retry_at_ms: Option<u64>,
}

/// Why a compaction is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Memory is short.
    Pressure,
    /// Enough bytes wait.
    Bytes,
    /// Enough deltas wait.
    Rows,
    /// Something has waited long enough.
    Age,
}

/// Whether a table is due at `now_ms` (milliseconds since 1970), and why.
#[must_use]
pub fn due(state: &TableState, policy: &CompactPolicy, now_ms: u64) -> Option<Reason> {
    if state.rows == 0 || state.retry_at_ms.is_some_and(|at_ms| now_ms < at_ms) {
        return None;
    }
    if state.pressed {
        return Some(Reason::Pressure);
    }
    if state.bytes >= policy.when_bytes {
        return Some(Reason::Bytes);
    }
    if state.rows >= policy.when_rows {
        return Some(Reason::Rows);
    }
    let waited_ms = now_ms.saturating_sub(state.since_ms.unwrap_or(now_ms));
    (waited_ms >= millis(policy.max_age)).then_some(Reason::Age)
}

/// How long to wait after the `failures`-th failure in a row (1 is the first).
fn backoff(failures: u32) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(RETRY_MAX)
}

/// Folds what `table` has flushed into its base, as a task that goes on to its end.
///
/// # Errors
/// Those of [`compact`].
pub(crate) async fn compact_table(
    gateway: &Arc<Gateway>,
    table: &str,
    config: CompactionConfig,
) -> Result<CompactReport> {
    let table = table.to_owned();
    let work = move |gateway: Arc<Gateway>| async move {
        let fence = gateway.fence();
        let done = compact(gateway.live(), &table, Some(&fence), &config).await;
        if done
            .as_ref()
            .is_err_and(lakesync_compactor::Error::is_fenced)
        {
            gateway.yield_to_successor().await;
        }
        Ok::<_, Error>(done?)
    };
    gateway.maintain(work).await
}

/// Compacts the tables of a lake as they become due.
#[derive(Debug)]
pub struct Maintenance {
    lake: Lake,
    policy: CompactPolicy,
    config: CompactionConfig,
    gateways: BTreeMap<GatewayId, Watched>,
    front: Option<Front>,
}

/// What is remembered of a gateway between looks.
#[derive(Debug)]
struct Watched {
    gateway: Arc<Gateway>,
    flushes: watch::Receiver<u64>,
    tables: BTreeMap<TableName, Remembered>,
}

/// What is remembered of a table between looks.
#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    since_ms: Option<u64>,
    failures: u32,
    retry_at_ms: Option<u64>,
}

impl Maintenance {
    /// Looks after `lake`.
    #[must_use]
    pub fn new(lake: Lake, policy: CompactPolicy, config: CompactionConfig) -> Self {
        Self {
            lake,
            policy,
            config,
            gateways: BTreeMap::new(),
            front: None,
        }
    }

    /// Shows failures on the status page of `front`.
    #[must_use]
    pub fn with_front(mut self, front: Front) -> Self {
        self.front = Some(front);
        self
    }

    /// Compacts until `stop` says true or its sender is gone; a compaction that has begun is finished first.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = looks.tick() => {}
            }
            while let Some((gateway, table, reason)) = self.next() {
                self.compact(&gateway, &table, reason).await;
                if *stop.borrow() {
                    return;
                }
            }
        }
    }

    /// The table that is due and has the most waiting; gateways that were added since are seen now.
    fn next(&mut self) -> Option<(Arc<Gateway>, TableName, Reason)> {
        if self.gateways.len() != self.lake.registry().len() {
            for gateway in self.lake.gateways() {
                let watched = || Watched::new(&gateway);
                self.gateways
                    .entry(gateway.id().clone())
                    .or_insert_with(watched);
            }
        }
        let (policy, now_ms) = (self.policy, self.lake.clock().now_ms());
        let all = self.gateways.values_mut();
        let waiting = all.flat_map(|watched| watched.due(&policy, now_ms));
        let (_, gateway, table, reason) = waiting.max_by_key(|(rows, ..)| *rows)?;
        Some((gateway, table, reason))
    }

    async fn compact(&mut self, gateway: &Arc<Gateway>, table: &TableName, reason: Reason) {
        let done = compact_table(gateway, table.as_ref(), self.config).await;
        let now_ms = self.lake.clock().now_ms();
        let Some(watched) = self.gateways.get_mut(gateway.id()) else {
            return;
        };
        let remembered = watched.tables.entry(table.clone()).or_default();
        *remembered = match done {
            Ok(report) => {
                let (rows, files) = (report.rows, report.files_added);
                tracing::info!(gateway = %gateway.id(), %table, ?reason, rows, files, base_seq = %report.base_seq, "compacted");
                Remembered::default()
            }
            Err(error) => {
                let failures = remembered.failures.saturating_add(1);
                let wait = backoff(failures);
                tracing::error!(gateway = %gateway.id(), %table, ?reason, %error, ?wait, "a compaction failed");
                if let Some(front) = &self.front {
                    front.note_error(
                        gateway.id(),
                        &format!("compaction of {table}"),
                        &error.to_string(),
                    );
                }
                Remembered {
                    since_ms: remembered.since_ms,
                    failures,
                    retry_at_ms: Some(now_ms + millis(wait)),
                }
            }
        };
    }
}

impl Watched {
    fn new(gateway: &Arc<Gateway>) -> Self {
        let mut flushes = gateway.on_flushed();
        // What was flushed before this process began is looked at once.
        flushes.mark_changed();
        Self {
            gateway: Arc::clone(gateway),
            flushes,
            tables: BTreeMap::new(),
        }
    }

    /// The tables that are due, each with what waits. A gateway that has not flushed since and has nothing waiting is
    /// not asked.
    fn due(
        &mut self,
        policy: &CompactPolicy,
        now_ms: u64,
    ) -> Vec<(u64, Arc<Gateway>, TableName, Reason)> {
        let flushed = self.flushes.has_changed().unwrap_or(false);
        self.flushes.mark_unchanged();
        let waits = self.tables.values().any(|table| table.since_ms.is_some());
        if !flushed && !waits {
            return Vec::new();
        }
        let pressed = self.gateway.is_pressed();
        let mut found = Vec::new();
        for table in self.gateway.live().tables() {
            let remembered = self.tables.entry(table.table.clone()).or_default();
            let (hot, foldable) = (table.hot, table.flushed > table.base);
            let rows = if foldable {
                hot.deltas.saturating_sub(hot.unflushed_deltas)
            } else {
                0
            };
            remembered.since_ms = match rows {
                0 => None,
                _ => remembered.since_ms.or(Some(now_ms)),
            };
            let state = TableState {
                bytes: hot.bytes.saturating_sub(hot.unflushed_bytes),
                rows,
                since_ms: remembered.since_ms,
                pressed,
                retry_at_ms: remembered.retry_at_ms,
            };
            if let Some(reason) = due(&state, policy, now_ms) {
                found.push((rows, Arc::clone(&self.gateway), table.table, reason));
            }
        }
        found
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use lakesync_proto::ManualClock;

    use super::*;

    #[test]
    fn a_table_is_due_by_bytes_rows_age_or_pressure_and_never_before_its_retry() {
        let policy = CompactPolicy {
            when_bytes: 100,
            when_rows: 10,
            max_age: Duration::from_millis(1_000),
        };
        let state = TableState {
            bytes: 99,
            rows: 9,
            since_ms: Some(5_000),
            ..TableState::default()
        };
        let check = |state: TableState, expected: Option<Reason>| {
            assert_eq!(due(&state, &policy, 5_999), expected, "{state:?}");
        };
        check(state, None);
        check(
            TableState {
                bytes: 100,
                ..state
            },
            Some(Reason::Bytes),
        );
        check(TableState { rows: 10, ..state }, Some(Reason::Rows));
        let old = TableState {
            since_ms: Some(4_999),
            ..state
        };
        check(old, Some(Reason::Age));
        let pressed = TableState {
            pressed: true,
            ..state
        };
        check(pressed, Some(Reason::Pressure));
        let empty = TableState { rows: 0, ..pressed };
        check(empty, None);
        for (retry_at_ms, expected) in [(6_000, None), (5_999, Some(Reason::Pressure))] {
            let retry_at_ms = Some(retry_at_ms);
            check(
                TableState {
                    retry_at_ms,
                    ..pressed
                },
                expected,
            );
        }
    }

    #[test]
    fn waits_double_and_end() {
        let seconds: Vec<u64> = [1, 2, 3, 4, 30, u32::MAX]
            .map(|n| backoff(n).as_secs())
            .into();
        assert_eq!(seconds, [10, 20, 40, 80, 1_800, 1_800]);
    }

    const TABLE: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;

    async fn sql(lake: &Lake, sql: &str) -> usize {
        let rows = lake.sql(sql).await.unwrap().collect().await.unwrap();
        rows.iter().map(|batch| batch.num_rows()).sum()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn flushed_rows_are_folded_when_enough_wait_and_a_failure_waits_for_its_retry() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let lake = Lake::builder(folder.path()).with_clock(Arc::clone(&clock) as _);
        let lake = lake.open().await.unwrap();
        lake.create_table(TABLE).await.unwrap();
        let policy = CompactPolicy {
            when_rows: 3,
            ..CompactPolicy::default()
        };
        let mut work = Maintenance::new(lake.clone(), policy, CompactionConfig::default());
        sql(&lake, "insert into t (v) values (1), (2)").await;
        assert!(work.next().is_none(), "nothing is flushed");
        sql(&lake, "call system.flush('t')").await;
        assert!(work.next().is_none(), "two rows are not enough");
        sql(&lake, "insert into t (v) values (3)").await;
        sql(&lake, "call system.flush('t')").await;
        let (gateway, table, reason) = work.next().unwrap();
        assert_eq!((table.as_ref(), reason), ("t", Reason::Rows));

        let unknown = TableName::parse("gone").unwrap();
        work.compact(&gateway, &unknown, reason).await;
        let watched = &work.gateways[gateway.id()];
        assert_eq!(watched.tables[&unknown].failures, 1);

        work.compact(&gateway, &table, reason).await;
        assert!(work.next().is_none(), "it is folded");
        let tables = gateway.live().tables();
        assert_eq!(
            (tables[0].hot.deltas, tables[0].base),
            (0, tables[0].flushed)
        );
        assert_eq!(sql(&lake, "select * from t").await, 3);

        sql(&lake, "insert into t (v) values (4)").await;
        sql(&lake, "call system.flush('t')").await;
        assert!(work.next().is_none(), "one row waits");
        clock.advance(60 * 60 * 1_000);
        assert_eq!(work.next().map(|(_, _, reason)| reason), Some(Reason::Age));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_gateway_that_is_made_later_is_looked_after_and_the_task_ends_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let policy = CompactPolicy {
            when_rows: 1,
            ..CompactPolicy::default()
        };
        let work = Maintenance::new(lake.clone(), policy, CompactionConfig::default());
        let working = tokio::spawn(work.run(stopped));
        let name = GatewayId::parse("later").unwrap();
        let gateway = lake.registry().create(name).await.unwrap();
        let definition = serde_json::from_str(TABLE).unwrap();
        gateway.put_schema(&definition).await.unwrap();
        sql(&lake, "insert into lake.later.t (v) values (1)").await;
        gateway.flush(None).await.unwrap();
        let folded = async {
            let mut looks = interval(Duration::from_millis(20));
            while gateway.live().hot().deltas > 0 {
                looks.tick().await;
            }
        };
        let folded = tokio::time::timeout(Duration::from_secs(60), folded).await;
        folded.expect("the scheduler folds it");
        stop.send(true).unwrap();
        working.await.unwrap();
    }
}
