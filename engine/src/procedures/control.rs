//! The procedures that decide what is done: maintain, optimize, pause, resume.
//!
//! **Invariant:** they ask the same strategy as the scheduler, with another policy where somebody wants more of it, and run
//! the same jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lakesync_compactor::Effort;
use lakesync_compactor::strategy::{
    FileChoice, FoldPolicy, Job, JobKind, MaintenancePolicy, Reason, RewritePolicy, TableState,
    jobs,
};
use lakesync_gateway::Did;
use lakesync_proto::{GatewayId, TableName};

use super::Asked;
use super::answer::{Cell, Rows, long, text};
use crate::error::Result;
use crate::maintenance::run::{self, Place};
use crate::maintenance::{Counted as _, Pausing, change_paused, state_now};

pub(super) async fn maintain(asked: Asked<'_>) -> Result<Rows> {
    let policy = asked.target.lake.maintenance().policy;
    let act = asked.act(Effort::Thrifty)?;
    let mut rows = Rows::new();
    for place in asked.tables()? {
        let due = |state: &TableState| jobs(state, &policy, place.lake.clock().now_ms());
        rows.extend(perform(&place, act, due).await?);
    }
    if policy.compact_log_every.is_some() && !asked.arguments.is_given("table") {
        rows.push(compact_a_log(&asked, act).await);
    }
    Ok(rows)
}

/// The gateway's own job.
async fn compact_a_log(asked: &Asked<'_>, act: Act) -> Vec<Cell> {
    let job = text(JobKind::CompactLog);
    let (status, did) = match act {
        Act::Tell(_) => ("planned".to_owned(), Did::default()),
        Act::Do(_) => match run::compact_log(asked.target.lake, asked.target.gateway).await {
            Ok(done) => ("done".to_owned(), done.did()),
            Err(error) => (format!("failed: {error}"), Did::default()),
        },
    };
    let reason = text(Reason::Interval);
    let (rows, bytes, files) = (long(did.rows), long(did.bytes), long(did.files));
    vec![Cell::Null, job, reason, text(status), rows, bytes, files]
}

pub(super) async fn optimize(asked: Asked<'_>) -> Result<Rows> {
    let (place, act) = (asked.table()?, asked.act(Effort::Thorough)?);
    let is_full = asked.arguments.boolean("full")?.unwrap_or(false);
    if is_full && matches!(act, Act::Do(_)) {
        run::flush(&place).await?;
    }
    let policy = eager(&asked.target.lake.maintenance().policy);
    let due = |state: &TableState| {
        let mut due = jobs(state, &policy, place.lake.clock().now_ms());
        if is_full {
            due.retain(|job| job.kind() != JobKind::RewriteBase);
            let files: Vec<usize> = (0..state.base.files.len()).collect();
            let bytes = state.base.files.iter().map(|file| file.bytes).sum();
            let reason = Reason::Asked;
            if !files.is_empty() {
                due.push(Job::RewriteBase(FileChoice {
                    files,
                    bytes,
                    reason,
                }));
            }
        }
        due
    };
    perform(&place, act, due).await
}

/// As `policy`, but with nothing too small to be put right, and nothing expired or removed.
fn eager(policy: &MaintenancePolicy) -> MaintenancePolicy {
    MaintenancePolicy {
        fold: FoldPolicy {
            when_rows: 1,
            ..policy.fold
        },
        rewrite: RewritePolicy {
            every: Some(Duration::ZERO),
            small_files_min: 2,
            dead_percent: 1,
            depth_max: 1,
            manifests_min: 2,
            ..policy.rewrite
        },
        expire_every: None,
        orphans_every: None,
        compact_log_every: None,
    }
}

/// Whether something is done or only told, and with how much effort for the log's files.
#[derive(Clone, Copy, Debug)]
enum Act {
    Do(Effort),
    Tell(Effort),
}

impl Asked<'_> {
    fn act(&self, effort: Effort) -> Result<Act> {
        Ok(match self.is_dry()? {
            true => Act::Tell(effort),
            false => Act::Do(effort),
        })
    }
}

/// Does what is due, or only tells; each kind once, each asked about again after the one before it. One that fails does
/// not keep the others.
async fn perform(place: &Place, act: Act, due: impl Fn(&TableState) -> Vec<Job>) -> Result<Rows> {
    let mut rows = Rows::new();
    let mut seen: BTreeSet<JobKind> = BTreeSet::new();
    let (Act::Do(effort) | Act::Tell(effort)) = act;
    let rewrite = place.lake.maintenance().log_rewrite(effort);
    loop {
        let state = state_now(&place.gateway, &place.table, &rewrite).await?;
        let mut left = due(&state)
            .into_iter()
            .filter(|job| !seen.contains(&job.kind()));
        if let Act::Tell(_) = act {
            rows.extend(left.map(|job| row(place, &job, "planned", planned(&state, &job))));
            return Ok(rows);
        }
        let Some(job) = left.next() else {
            return Ok(rows);
        };
        seen.insert(job.kind());
        let done = match job {
            Job::RewriteLog => run::rewrite_log_files(place, effort)
                .await
                .map(|done| done.did()),
            _ => run::due(place, &job, &state).await,
        };
        rows.push(match done {
            Ok(did) => row(place, &job, "done", did),
            Err(error) => row(place, &job, &format!("failed: {error}"), Did::default()),
        });
    }
}

fn row(place: &Place, job: &Job, status: &str, did: Did) -> Vec<Cell> {
    vec![
        text(&place.table),
        text(job.kind()),
        text(job.reason()),
        text(status),
        long(did.rows),
        long(did.bytes),
        long(did.files),
    ]
}

/// What a job would read.
fn planned(state: &TableState, job: &Job) -> Did {
    match job {
        Job::Fold(_) => Did {
            rows: state.waiting.rows,
            bytes: state.waiting.bytes,
            files: state.waiting.files,
        },
        Job::RewriteBase(choice) => Did {
            rows: choice
                .files
                .iter()
                .map(|at| state.base.files[*at].rows)
                .sum(),
            bytes: choice.bytes,
            files: u64::try_from(choice.files.len()).unwrap_or(u64::MAX),
        },
        Job::RewriteLog => Did {
            rows: state.log_due.rows,
            bytes: state.log_due.bytes,
            files: state.log_due.files,
        },
        Job::RewriteManifests => Did {
            files: state.base.manifests.mergeable + state.log.manifests.mergeable,
            ..Did::default()
        },
        Job::Expire | Job::DropLog | Job::RemoveOrphans => Did::default(),
    }
}

pub(super) async fn pause(asked: Asked<'_>) -> Result<Rows> {
    change(asked, Pausing::Pause).await
}

pub(super) async fn resume(asked: Asked<'_>) -> Result<Rows> {
    change(asked, Pausing::Resume).await
}

async fn change(asked: Asked<'_>, pausing: Pausing) -> Result<Rows> {
    let word = match pausing {
        Pausing::Pause => "paused",
        Pausing::Resume => "scheduled",
    };
    let places = asked.tables()?;
    let gateways: BTreeSet<&GatewayId> = places.iter().map(|place| place.gateway.id()).collect();
    for id in gateways {
        let of_it: Vec<&Place> = places
            .iter()
            .filter(|place| place.gateway.id() == id)
            .collect();
        let tables: Vec<TableName> = of_it.iter().map(|place| place.table.clone()).collect();
        if let Some(place) = of_it.first() {
            change_paused(&Arc::clone(&place.gateway), &tables, pausing).await?;
        }
    }
    Ok(places
        .iter()
        .map(|place| vec![text(&place.table), text(word)])
        .collect())
}
