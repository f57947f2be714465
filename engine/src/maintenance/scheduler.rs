//! The scheduler: looks at every table, and does what is due, one job at a time.
//!
//! ```text
//!   look ──► due jobs of all tables ──► the most pressing ──► does this process lead? ──► run ──► look
//!                    ▲                                              │ no: leave it       │ error
//!                    └───────────────────── backoff ◄───────────────┴────────────────────┘
//! ```
//! **Invariant:** one job of the scheduler runs at a time; a job that fails is tried again ever more rarely and never keeps
//! another from its turn; a job that has begun is finished before a stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakesync_compactor::Effort;
use lakesync_compactor::strategy::{
    Job, JobKind, Ran, TableState, backoff, interval_is_over, jobs,
};
use lakesync_gateway::Gateway;
use lakesync_gateway::http::Front;
use lakesync_proto::GatewayId;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::paused::paused;
use super::run::{self, Place};
use super::watched::{Watched, seed};
use crate::error::Result;
use crate::lake::Lake;

/// How often the gateways are looked at. A look at one to which nothing happened costs a comparison.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the answer to "does this process lead?" is believed while nothing is done, in milliseconds.
const LEADS_GOOD_FOR_MS: u64 = 60_000;

/// Looks after the tables of a lake.
#[derive(Debug)]
pub struct Maintenance {
    lake: Lake,
    gateways: BTreeMap<GatewayId, Watched>,
    front: Option<Front>,
}

/// A job and what it is for.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) place: Place,
    pub(super) job: Job,
    state: TableState,
    /// How pressing it is: the kind's rank, then how much waits.
    rank: (u8, u64),
}

impl Maintenance {
    /// Looks after `lake`, as its settings say.
    #[must_use]
    pub fn new(lake: Lake) -> Self {
        Self {
            lake,
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

    /// Does what is due until `stop` says true or its sender is gone; a job that has begun is finished first.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = looks.tick() => {}
            }
            while self.step().await {
                if *stop.borrow() {
                    return;
                }
            }
        }
    }

    /// Does the most pressing job that is due now; false when there is none.
    pub async fn step(&mut self) -> bool {
        match self.next().await {
            Some(due) => {
                self.perform(due).await;
                true
            }
            None => self.compact_a_log().await,
        }
    }

    /// The most pressing job of all; gateways that were added since are seen now.
    pub(super) async fn next(&mut self) -> Option<Due> {
        self.take_gateways().await;
        let now_ms = self.lake.clock().now_ms();
        let policy = self.lake.maintenance().policy;
        let rewrite = self.lake.maintenance().log_rewrite(Effort::Thrifty);
        let mut found: Option<Due> = None;
        for watched in self.gateways.values_mut() {
            if !watched.is_worth_a_look(now_ms) || !leads(watched, now_ms).await {
                continue;
            }
            let mut any = false;
            for (table, state) in watched.states(now_ms, &rewrite).await {
                let state = match state {
                    Ok(state) => state,
                    Err(error) => {
                        tracing::warn!(gateway = %watched.gateway.id(), %table, %error, "its files cannot be looked at");
                        continue;
                    }
                };
                let Some(job) = jobs(&state, &policy, now_ms).into_iter().next() else {
                    continue;
                };
                any = true;
                let rank = (u8::from(job.kind() == JobKind::Fold), state.waiting.rows);
                if found.as_ref().is_none_or(|found| found.rank < rank) {
                    let place = Place {
                        lake: self.lake.clone(),
                        gateway: Arc::clone(&watched.gateway),
                        table,
                    };
                    found = Some(Due {
                        place,
                        job,
                        state,
                        rank,
                    });
                }
            }
            match any {
                true => watched.look_again(),
                false => watched.found_nothing(now_ms),
            }
        }
        found
    }

    async fn take_gateways(&mut self) {
        if self.gateways.len() == self.lake.registry().len() {
            return;
        }
        let now_ms = self.lake.clock().now_ms();
        for gateway in self.lake.gateways() {
            if self.gateways.contains_key(gateway.id()) {
                continue;
            }
            if let Err(error) = paused(&gateway).await {
                tracing::error!(gateway = %gateway.id(), %error, "its pauses cannot be read; nothing is paused");
            }
            let watched = Watched::new(&gateway, now_ms);
            self.gateways.insert(gateway.id().clone(), watched);
        }
    }

    /// Compacts the database of a gateway whose interval is over; false when there is none.
    async fn compact_a_log(&mut self) -> bool {
        let now_ms = self.lake.clock().now_ms();
        let Some(every) = self.lake.maintenance().policy.compact_log_every else {
            return false;
        };
        let is_due = |watched: &&mut Watched| {
            let spread = (watched.begun_ms, seed(&watched.gateway, ""));
            let leads = watched.leads.is_some_and(|(_, leads)| leads);
            leads && interval_is_over(watched.ran.as_ref(), spread, every, now_ms)
        };
        let Some(watched) = self.gateways.values_mut().find(is_due) else {
            return false;
        };
        let done = run::compact_log(&self.lake, &watched.gateway).await;
        let before = watched.ran.map_or(0, |ran| ran.failures);
        let failures = if done.is_ok() {
            0
        } else {
            before.saturating_add(1)
        };
        watched.ran = Some(Ran {
            ended_ms: self.lake.clock().now_ms(),
            failures,
        });
        if let Err(error) = done {
            let wait = backoff(failures);
            tracing::error!(gateway = %watched.gateway.id(), %error, ?wait, "its database was not compacted");
        }
        true
    }

    pub(super) async fn perform(&mut self, due: Due) {
        let Due {
            place, job, state, ..
        } = due;
        let (kind, reason) = (job.kind(), job.reason());
        let done = run::due(&place, &job, &state).await;
        let ended_ms = self.lake.clock().now_ms();
        let (gateway, table) = (&place.gateway, &place.table);
        let Some(watched) = self.gateways.get_mut(gateway.id()) else {
            return;
        };
        let failures = watched.ended(table, kind, (ended_ms, done.is_ok()));
        match done {
            Ok(_) => tracing::debug!(gateway = %gateway.id(), %table, %kind, %reason, "done"),
            Err(error) => {
                let wait = backoff(failures);
                tracing::error!(gateway = %gateway.id(), %table, %kind, %reason, %error, ?wait, "maintenance failed");
                if let Some(front) = &self.front {
                    let work = format!("{kind} of {table}");
                    front.note_error(gateway.id(), &work, &error.to_string());
                }
                // Whoever took the gateway over may be why.
                watched.leads = None;
            }
        }
    }
}

/// Whether this process leads the gateway, asked again once in a while.
async fn leads(watched: &mut Watched, now_ms: u64) -> bool {
    let known = watched
        .leads
        .filter(|(at_ms, _)| now_ms >= *at_ms && now_ms - at_ms < LEADS_GOOD_FOR_MS);
    if let Some((_, leads)) = known {
        return leads;
    }
    let answer = ask_whether_it_leads(&watched.gateway).await;
    let before = watched.leads.map(|(_, leads)| leads);
    let leads = match answer {
        Ok(leads) => leads,
        Err(error) => {
            tracing::warn!(gateway = %watched.gateway.id(), %error, "whether this process leads cannot be read");
            false
        }
    };
    if !leads && before != Some(false) {
        tracing::warn!(gateway = %watched.gateway.id(), "another process holds the gateway and maintains its tables");
    }
    watched.leads = Some((now_ms, leads));
    leads
}

async fn ask_whether_it_leads(gateway: &Gateway) -> Result<bool> {
    Ok(gateway.leads().await?)
}
