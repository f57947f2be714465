//! What looks after one gateway while it serves: its counts, its pressure, its flushes.
//!
//! **Invariant:** nothing in here decides what is stored; losing all of it loses no delta.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lakesync_proto::{GatewayId, Seq};
use lakesync_providers::{HotSize, TableSize};
use tokio::sync::watch;

use crate::config::GatewayConfig;
use crate::gateway::Gateway;
use crate::maintenance::{MaintenanceSnapshot, MaintenanceStats};
use crate::pressure::Pressure;
use crate::stats::{Stats, StatsSnapshot};
use crate::trim::Trimming;

/// The parts of one gateway's upkeep.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) stats: Arc<Stats>,
    pub(crate) maintenance: Arc<MaintenanceStats>,
    pub(crate) pressure: Pressure,
    /// How often a flush has written something.
    pub(crate) flushes: watch::Sender<u64>,
    pub(crate) waiting_bytes: Arc<AtomicUsize>,
    pub(crate) trimming: Trimming,
}

impl Upkeep {
    pub(crate) fn new(
        gateway: &GatewayId,
        database: &Path,
        config: &GatewayConfig,
        waiting_bytes: &Arc<AtomicUsize>,
    ) -> Self {
        Self {
            stats: Arc::default(),
            maintenance: Arc::default(),
            pressure: Pressure::new(gateway.clone(), database, config.pressure),
            flushes: watch::Sender::new(0),
            waiting_bytes: Arc::clone(waiting_bytes),
            trimming: Trimming::default(),
        }
    }
}

/// One gateway at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Its name.
    pub gateway: GatewayId,
    /// Its counts since it was opened.
    pub stats: StatsSnapshot,
    /// Its maintenance since it was opened.
    pub maintenance: MaintenanceSnapshot,
    /// Everything up to this seq is visible.
    pub visible: Seq,
    /// What all tables hold.
    pub hot: HotSize,
    /// The tables, by name.
    pub tables: Vec<TableSize>,
    /// How many pushes wait for the writer.
    pub queue_pushes: usize,
    /// How many bytes of values they have.
    pub queue_bytes: usize,
}

impl Gateway {
    /// The gateway's counts, for whoever serves its requests.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.upkeep.stats
    }

    /// What is counted of the gateway's maintenance, for whoever runs it.
    #[must_use]
    pub fn maintenance_stats(&self) -> &Arc<MaintenanceStats> {
        &self.upkeep.maintenance
    }

    /// What the gateway is like now. It takes the tables' lock once and reads no delta.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let tables = self.live.tables();
        let sizes = tables.iter().map(|table| table.hot);
        let hot = sizes.fold(HotSize::default(), HotSize::plus);
        Metrics {
            gateway: self.id.clone(),
            stats: self.upkeep.stats.snapshot(),
            maintenance: self.upkeep.maintenance.snapshot(),
            visible: self.live.seq(),
            hot,
            tables,
            queue_pushes: self.waiting(),
            queue_bytes: self.upkeep.waiting_bytes.load(Ordering::Relaxed),
        }
    }

    /// How often a flush has written something: a compaction scheduler waits for the next one.
    #[must_use]
    pub fn on_flushed(&self) -> watch::Receiver<u64> {
        self.upkeep.flushes.subscribe()
    }

    /// Whether so much is hot that it should be flushed and compacted at once.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.upkeep.pressure.is_high(self.live.hot().bytes)
    }
}
