//! ★ What of a table is due: a pure function from what the table is like to the jobs that it needs now.
//!
//! ```text
//!   survey (reads manifests) ──► TableState ──┐
//!   what waits in memory ──────►              ├── jobs(state, policy, now) ──► Vec<Job>, the most pressing first
//!   how the last runs ended ───►              │
//!   configuration ─────────────► policy ──────┘
//! ```
//! | job | is due when |
//! |---|---|
//! | fold | what is flushed and not in the base passes a number of bytes, rows, files or hours, costs every read too much, or memory is short |
//! | rewrite of base files | many small files of like size, files with many dead rows, files out of the table's order |
//! | rewrite of log files | its own plan finds files to put together |
//! | rewrite of manifests | enough of them can be put together |
//! | expiry, dropping of log deltas, orphans | their interval has passed |
//!
//! **Invariants:** nothing in here reads a clock, a file or chance · every job is a fixed point: applied to the state it
//! was made from it is not due any more, or, when the byte budget cut it short, after finitely many runs, each of which
//! leaves fewer files that need it.

mod files;
mod fold;
mod job;
mod policy;
mod state;
mod survey;
mod timing;

#[cfg(test)]
mod tests;

pub use files::of_base as base_files_due;
pub use job::{FileChoice, Job, JobKind, Reason};
pub use policy::{FoldPolicy, MaintenancePolicy, RewritePolicy};
pub use state::{FileSet, FileState, LogDue, Manifests, Ran, TableState, Waiting};
pub use survey::{Survey, survey};
pub use timing::{backoff, interval_is_over};

/// The jobs that a table needs at `now_ms` (milliseconds since 1970), the most pressing first. A job whose last run
/// failed waits for its retry; a paused table needs nothing.
#[must_use]
pub fn jobs(state: &TableState, policy: &MaintenancePolicy, now_ms: u64) -> Vec<Job> {
    if state.is_paused {
        return Vec::new();
    }
    let mut due = Vec::new();
    if !timing::is_held_back(state, JobKind::Fold, now_ms)
        && let Some(reason) = fold::due(state, &policy.fold, now_ms)
    {
        due.push(Job::Fold(reason));
    }
    let is_over = |kind: JobKind, every| {
        interval_is_over(
            state.ran.get(&kind),
            (state.begun_ms, state.seed(kind)),
            every,
            now_ms,
        )
    };
    let rewrite = &policy.rewrite;
    if let Some(every) = rewrite.every {
        if is_over(JobKind::RewriteBase, every) {
            due.extend(files::of_base(&state.base, rewrite).map(Job::RewriteBase));
        }
        if state.log_due.files > 0 && is_over(JobKind::RewriteLog, every) {
            due.push(Job::RewriteLog);
        }
        let mergeable = state.base.manifests.mergeable + state.log.manifests.mergeable;
        if mergeable >= rewrite.manifests_min.max(1) && is_over(JobKind::RewriteManifests, every) {
            due.push(Job::RewriteManifests);
        }
    }
    let timed = [
        (JobKind::Expire, policy.expire_every, Job::Expire),
        (JobKind::DropLog, policy.expire_every, Job::DropLog),
        (
            JobKind::RemoveOrphans,
            policy.orphans_every,
            Job::RemoveOrphans,
        ),
    ];
    for (kind, every, job) in timed {
        if every.is_some_and(|every| is_over(kind, every)) {
            due.push(job);
        }
    }
    due
}
