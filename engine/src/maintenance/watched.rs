//! What is remembered of gateways and tables between two looks, and the state that the strategy is asked about.
//!
//! ```text
//!   look (1 s) ── flushed since, or 10 s passed? ── no ──► nothing is asked
//!                      └ yes ──► manifests new, and a minute passed? ── yes ──► survey
//!                                        └────────► TableState ──► strategy::jobs
//! ```
//! **Invariants:** a table that nothing happens to costs a comparison a look · forgetting all of it only makes every
//! interval begin anew.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use lakesync_compactor::LogRewriteOptions;
use lakesync_compactor::strategy::{JobKind, Ran, Survey, TableState, Waiting, survey};
use lakesync_gateway::{Gateway, LakeSize};
use lakesync_proto::TableName;
use lakesync_providers::{ReadView, TableSize};
use tokio::sync::watch;

use crate::error::Result;

/// How long a look at a table that found nothing due is good for, when nothing is flushed meanwhile, in milliseconds.
const LOOK_GOOD_FOR_MS: u64 = 10_000;
/// The shortest time between two surveys of a table, in milliseconds: each reads the table's manifests.
const SURVEY_EVERY_MS: u64 = 60_000;

/// A gateway.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) gateway: Arc<Gateway>,
    flushes: watch::Receiver<u64>,
    pub(super) tables: BTreeMap<TableName, Remembered>,
    /// Since when it is looked after, in milliseconds since 1970.
    pub(super) begun_ms: u64,
    /// How its own job, which is of no table, ended.
    pub(super) ran: Option<Ran>,
    /// When it was asked last whether this process leads, and what the answer was.
    pub(super) leads: Option<(u64, bool)>,
    looked_ms: Option<u64>,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// Since when something is flushed and not in the base, in milliseconds since 1970.
    since_ms: Option<u64>,
    ran: BTreeMap<JobKind, Ran>,
    survey: Survey,
    /// The snapshots that the survey is of, and when it was made.
    surveyed: Option<(Snapshots, u64)>,
}

/// The current snapshots of base and log.
type Snapshots = (Option<i64>, Option<i64>);

impl Watched {
    pub(super) fn new(gateway: &Arc<Gateway>, now_ms: u64) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            flushes: gateway.on_flushed(),
            tables: BTreeMap::new(),
            begun_ms: now_ms,
            ran: None,
            leads: None,
            looked_ms: None,
        }
    }

    /// Whether something can have become due since the last look that found nothing.
    pub(super) fn is_worth_a_look(&mut self, now_ms: u64) -> bool {
        let flushed = self.flushes.has_changed().unwrap_or(false);
        self.flushes.mark_unchanged();
        let looked = self.looked_ms.filter(|at_ms| {
            // A clock that was set back has looked long ago.
            now_ms >= *at_ms && now_ms - at_ms < LOOK_GOOD_FOR_MS
        });
        flushed || looked.is_none() || self.gateway.is_pressed()
    }

    /// Nothing was due at `now_ms`.
    pub(super) fn found_nothing(&mut self, now_ms: u64) {
        self.looked_ms = Some(now_ms);
    }

    /// Something is due, or was done: look again.
    pub(super) fn look_again(&mut self) {
        self.looked_ms = None;
    }

    /// A run of `kind` on a table has ended so.
    pub(super) fn ended(
        &mut self,
        table: &TableName,
        kind: JobKind,
        (ended_ms, is_ok): (u64, bool),
    ) -> u32 {
        self.look_again();
        let remembered = self.tables.entry(table.clone()).or_default();
        // Its files are others now.
        remembered.surveyed = None;
        let before = remembered.ran.get(&kind).map_or(0, |ran| ran.failures);
        let failures = if is_ok { 0 } else { before.saturating_add(1) };
        remembered.ran.insert(kind, Ran { ended_ms, failures });
        failures
    }

    /// The state of every table that is not paused.
    ///
    /// # Errors
    /// When manifests cannot be read; the other tables are looked at all the same.
    pub(super) async fn states(
        &mut self,
        now_ms: u64,
        rewrite: &LogRewriteOptions,
    ) -> Vec<(TableName, Result<TableState>)> {
        let paused = self.gateway.maintenance_stats().paused();
        let is_pressed = self.gateway.is_pressed();
        let views = self.gateway.live().views();
        let mut states = Vec::new();
        for size in self.gateway.live().tables() {
            let (table, Some(view)) = (&size.table, views.tables.get(&size.table)) else {
                continue;
            };
            if paused.contains(table) {
                continue;
            }
            let remembered = self.tables.entry(table.clone()).or_default();
            let state = remembered.state(view, &size, now_ms, rewrite).await;
            let state = state.map(|(state, survey)| {
                self.gateway.maintenance_stats().looked_at(table, survey);
                TableState {
                    is_pressed,
                    begun_ms: self.begun_ms,
                    seed: seed(&self.gateway, table.as_ref()),
                    ..state
                }
            });
            states.push((table.clone(), state));
        }
        states
    }
}

impl Remembered {
    async fn state(
        &mut self,
        view: &ReadView,
        size: &TableSize,
        now_ms: u64,
        rewrite: &LogRewriteOptions,
    ) -> Result<(TableState, LakeSize)> {
        let snapshots = (view.base.snapshot_id, view.log.snapshot_id);
        let is_good = self.surveyed.is_some_and(|(of, at_ms)| {
            of == snapshots || (now_ms >= at_ms && now_ms - at_ms < SURVEY_EVERY_MS)
        });
        if !is_good {
            self.survey = survey(view, rewrite).await?;
            self.surveyed = Some((snapshots, now_ms));
        }
        let (rows, bytes) = flushed(size);
        self.since_ms = match rows {
            0 => None,
            _ => self.since_ms.or(Some(now_ms)),
        };
        let state = TableState {
            waiting: Waiting {
                rows,
                bytes,
                files: self.survey.waiting_files,
                since_ms: self.since_ms,
            },
            base: Arc::clone(&self.survey.base),
            log: Arc::clone(&self.survey.log),
            log_due: self.survey.log_due,
            ran: self.ran.clone(),
            ..TableState::default()
        };
        Ok((state, lake_size(&self.survey)))
    }
}

/// The state of a table for somebody who asks now: nothing was done to it before, and every interval is over.
///
/// # Errors
/// When manifests cannot be read.
pub(crate) async fn state_now(
    gateway: &Gateway,
    table: &TableName,
    rewrite: &LogRewriteOptions,
) -> Result<TableState> {
    let (view, sizes) = (gateway.live().view(table.as_ref()), gateway.live().tables());
    let size = sizes.into_iter().find(|size| size.table == *table);
    let (Some(view), Some(size)) = (view, size) else {
        return Ok(TableState::default());
    };
    let (state, looked) = Remembered::default()
        .state(&view, &size, 0, rewrite)
        .await?;
    gateway.maintenance_stats().looked_at(table, looked);
    Ok(state)
}

/// The deltas that are flushed and hot, and their bytes.
fn flushed(size: &TableSize) -> (u64, u64) {
    let hot = size.hot;
    match size.flushed > size.base {
        true => (
            hot.deltas.saturating_sub(hot.unflushed_deltas),
            hot.bytes.saturating_sub(hot.unflushed_bytes),
        ),
        false => (0, 0),
    }
}

fn lake_size(survey: &Survey) -> LakeSize {
    let (base, log) = (&survey.base, &survey.log);
    LakeSize {
        base_files: count(base.files.len()),
        base_bytes: base.files.iter().map(|file| file.bytes).sum(),
        dead_rows: base.files.iter().map(|file| file.dead_rows).sum(),
        delete_files: base.delete_files,
        log_files: count(log.files.len()),
        log_bytes: log.files.iter().map(|file| file.bytes).sum(),
        manifests: base.manifests.count + log.manifests.count,
        snapshots: base.snapshots + log.snapshots,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Spreads the intervals of tables; the same after every start.
pub(super) fn seed(gateway: &Gateway, table: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (gateway.id().as_ref(), table).hash(&mut hasher);
    hasher.finish()
}
