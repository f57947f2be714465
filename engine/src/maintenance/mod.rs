//! Maintenance without anybody asking, and by name when somebody does.
//!
//! ```text
//!   serve ── Maintenance (scheduler) ── looks ── strategy::jobs ──► run ──► compactor ──► one commit
//!   CALL system.… ─────────────────────────────────────────────────►│
//!                                     pause: a property of the gateway's namespace in the catalog
//! ```
//! Only the process whose fence the catalog holds maintains a gateway's tables: a table has one leader, and whoever takes
//! the gateway over takes its maintenance over with it.
//!
//! **Invariants:** a job changes no answer · one job works on a table at a time, whoever asked for it, and a pause stops
//! the scheduler, not a person · at most [`JOBS_MAX`] jobs run in a process.

mod counted;
mod paused;
pub(crate) mod run;
mod running;
mod scheduler;
mod settings;
mod watched;

#[cfg(test)]
mod tests;

pub use running::Running;
pub use scheduler::Maintenance;
pub use settings::MaintenanceSettings;

pub(crate) use counted::Counted;
pub(crate) use paused::{Pausing, change_paused};
pub(crate) use running::RunningJobs;
pub(crate) use watched::state_now;

/// How many jobs run in a process at a time: the scheduler's one, and one that somebody asked for. Each takes the memory
/// that it is configured with.
pub const JOBS_MAX: usize = 2;
