//! The tasks that look after an open lake while it is served: automatic flushes, deliveries of actions, maintenance of
//! the tables, and the last flush.
//!
//! **Invariant:** every gateway has exactly one flush task and one queue of actions, those that are made later too; when
//! [`Upkeep::stop`] returns, none of the tasks runs any more.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use lakesync_gateway::Gateway;
use lakesync_gateway::actions::{Actions, Connector, Webhooks};
use lakesync_gateway::http::Front;
use lakesync_proto::GatewayId;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::maintenance::Maintenance;
use crate::server::Server;

/// What the tasks are told.
#[derive(Clone, Debug, Default)]
pub struct UpkeepOptions {
    /// Where actions are delivered; without any, every action is answered that it is not supported.
    pub connectors: Vec<Connector>,
}

/// The running tasks.
#[derive(Debug)]
pub struct Upkeep {
    lake: Lake,
    stop: watch::Sender<bool>,
    gateways: JoinHandle<()>,
    maintenance: JoinHandle<()>,
}

impl Upkeep {
    /// Begins to look after `lake`, which `server` serves.
    ///
    /// # Errors
    /// When a connector is wrong, or the actions of a gateway cannot be opened.
    pub fn start(lake: &Lake, server: &Server, options: UpkeepOptions) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let webhooks = match options.connectors.is_empty() {
            true => None,
            false => {
                let webhooks = Webhooks::new(options.connectors);
                Some(webhooks.map_err(|error| Error::Invalid(error.to_string()))?)
            }
        };
        let mut gateways = Gateways {
            lake: lake.clone(),
            front: server.front().clone(),
            webhooks,
            stop: stopped.clone(),
            known: BTreeSet::new(),
            tasks: JoinSet::new(),
            random: RandomState::new(),
        };
        for gateway in lake.gateways() {
            gateways.take(&gateway)?;
        }
        let maintenance = match lake.maintenance().is_scheduled {
            true => {
                let maintenance = Maintenance::new(lake.clone());
                tokio::spawn(maintenance.with_front(server.front().clone()).run(stopped))
            }
            false => tokio::spawn(std::future::ready(())),
        };
        Ok(Self {
            lake: lake.clone(),
            gateways: tokio::spawn(gateways.run()),
            maintenance,
            stop,
        })
    }

    /// Ends the tasks, each when what it does is done, and flushes everything that is left.
    ///
    /// # Errors
    /// When a gateway could not be flushed; the others are. What is not flushed stays in its durable log.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        for task in [self.gateways, self.maintenance] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the upkeep ended early");
            }
        }
        let mut failed = Ok(());
        for gateway in self.lake.gateways() {
            match gateway.drain().await {
                Ok(reports) => {
                    let deltas: usize = reports.iter().map(|report| report.deltas).sum();
                    tracing::info!(gateway = %gateway.id(), deltas, "flushed before the end");
                }
                Err(error) => {
                    tracing::error!(gateway = %gateway.id(), %error, "the last flush failed; the durable log has it all");
                    failed = Err(error.into());
                }
            }
        }
        failed
    }
}

/// The tasks of the gateways.
struct Gateways {
    lake: Lake,
    front: Front,
    webhooks: Option<Arc<Webhooks>>,
    stop: watch::Receiver<bool>,
    known: BTreeSet<GatewayId>,
    tasks: JoinSet<()>,
    /// Retries need no secret, only that two gateways do not wait alike.
    random: RandomState,
}

impl Gateways {
    /// Begins the tasks of a gateway that is new here.
    fn take(&mut self, gateway: &Arc<Gateway>) -> Result<()> {
        if !self.known.insert(gateway.id().clone()) {
            return Ok(());
        }
        let seed = self.random.hash_one(gateway.id());
        let stop = self.stop.clone();
        self.tasks
            .spawn(Arc::clone(gateway).run_flushes(stop, seed));
        let Some(webhooks) = &self.webhooks else {
            return Ok(());
        };
        let path = self.lake.directory().actions_database(gateway.id());
        let clock = Arc::clone(self.lake.clock());
        let actions = Actions::open(&path, gateway.id().clone(), Arc::clone(webhooks), clock)?;
        self.front
            .put_actions(gateway.id().clone(), Arc::clone(&actions));
        let mut stop = self.stop.clone();
        // A sender that is gone wants nothing more either.
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        self.tasks.spawn(actions.run(stopped));
        Ok(())
    }

    /// Takes gateways as they are made, until told to stop; then waits for all tasks.
    async fn run(mut self) {
        let mut count = self.lake.registry().count();
        let mut stop = self.stop.clone();
        loop {
            count.mark_unchanged();
            for gateway in self.lake.gateways() {
                if let Err(error) = self.take(&gateway) {
                    tracing::error!(gateway = %gateway.id(), %error, "its actions cannot be opened");
                }
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                changed = count.changed() => if changed.is_err() { break },
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of a gateway ended early");
            }
        }
    }
}
