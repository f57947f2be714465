//! What runs now, and how far it is.
//!
//! **Invariant:** a job is in the list exactly as long as it runs, however it ends; there are no more than
//! [`JOBS_MAX`](super::JOBS_MAX).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakesync_compactor::Progress;
use lakesync_compactor::strategy::JobKind;
use lakesync_proto::{GatewayId, TableName};

/// A job that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The gateway.
    pub gateway: GatewayId,
    /// The table.
    pub table: TableName,
    /// What is done.
    pub kind: JobKind,
    /// How far it is.
    pub progress: Progress,
}

/// The jobs of a process that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningJobs(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    jobs: Vec<(u64, Running)>,
}

/// Takes its job out of the list when it is dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    jobs: RunningJobs,
    number: u64,
}

impl RunningJobs {
    /// Lists a job until what is given back is dropped.
    pub(crate) fn list(&self, job: Running) -> Listed {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.jobs.push((number, job));
        Listed {
            jobs: self.clone(),
            number,
        }
    }

    /// Those that run, the oldest first.
    pub(crate) fn now(&self) -> Vec<Running> {
        self.lock()
            .jobs
            .iter()
            .map(|(_, job)| job.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.jobs
            .lock()
            .jobs
            .retain(|(number, _)| *number != self.number);
    }
}
