//! The tasks that look after an open lake while it is served: automatic flushes, compaction, and the last flush.
//!
//! **Invariant:** every gateway has exactly one flush task, those that are made later too; when [`Upkeep::stop`] returns,
//! none of the tasks runs any more.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use lakesync_compactor::CompactionConfig;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::Result;
use crate::lake::Lake;
use crate::maintenance::{CompactPolicy, Maintenance};

/// The running tasks.
#[derive(Debug)]
pub struct Upkeep {
    lake: Lake,
    stop: watch::Sender<bool>,
    flushes: JoinHandle<()>,
    compaction: JoinHandle<()>,
}

impl Upkeep {
    /// Begins to look after `lake`.
    #[must_use]
    pub fn start(lake: &Lake, policy: CompactPolicy, config: CompactionConfig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let maintenance = Maintenance::new(lake.clone(), policy, config);
        Self {
            lake: lake.clone(),
            flushes: tokio::spawn(flush_all(lake.clone(), stopped.clone())),
            compaction: tokio::spawn(maintenance.run(stopped)),
            stop,
        }
    }

    /// Ends the tasks, each when what it does is done, and flushes everything that is left.
    ///
    /// # Errors
    /// When a gateway could not be flushed; the others are. What is not flushed stays in its durable log.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        for task in [self.flushes, self.compaction] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the upkeep ended early");
            }
        }
        let mut failed = Ok(());
        for gateway in self.lake.gateways() {
            match gateway.drain().await {
                Ok(reports) => {
                    let deltas: u64 = reports.iter().map(|report| report.deltas as u64).sum();
                    tracing::info!(gateway = %gateway.id(), deltas, "flushed before the end");
                }
                Err(error) => failed = Err(error.into()),
            }
        }
        failed
    }
}

/// A flush task for every gateway, until `stop`.
async fn flush_all(lake: Lake, mut stop: watch::Receiver<bool>) {
    let mut count = lake.registry().count();
    let mut tasks = JoinSet::new();
    let mut watched = BTreeSet::new();
    // Retries need no secret, only that two gateways do not wait alike.
    let random = RandomState::new();
    loop {
        count.mark_unchanged();
        for gateway in lake.gateways() {
            if watched.insert(gateway.id().clone()) {
                let seed = random.hash_one(gateway.id());
                tasks.spawn(gateway.run_flushes(stop.clone(), seed));
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            changed = count.changed() => if changed.is_err() { break },
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a flush task ended early");
        }
    }
}
