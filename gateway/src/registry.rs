//! The gateways that one process serves, and how another one is opened while it runs.
//!
//! **Invariant:** a gateway that was found once stays open as long as the registry lives; a name has one gateway.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use lakesync_proto::{ErrorCode, GatewayId, WallClock};
use lakesync_providers::lake::Warehouse;
use tokio::sync::watch;

use crate::auth::Identity;
use crate::config::GatewayConfig;
use crate::error::{Error, Refusal, Result};
use crate::gateway::{Components, Gateway};
use crate::pressure::{PressureLimits, ProcessLoad};

/// How many gateways one process may serve: each has a thread, a database and its files open.
pub const GATEWAYS_MAX: usize = 1_000;

/// What every gateway of a registry is made of.
#[derive(Clone, Debug)]
pub struct GatewayFolder {
    /// The lake that the gateways flush to.
    pub warehouse: Warehouse,
    /// The folder of their databases, `<g>.db` each; it exists.
    pub folder: PathBuf,
    /// The wall clock.
    pub clock: Arc<dyn WallClock>,
    /// The lock of the directory, as in [`Components`].
    pub lock: Option<Arc<File>>,
    /// The settings of every gateway.
    pub config: GatewayConfig,
    /// The settings of gateways that have their own, in place of `config`.
    pub overrides: BTreeMap<GatewayId, GatewayConfig>,
}

impl GatewayFolder {
    async fn open(&self, id: GatewayId) -> Result<Arc<Gateway>> {
        let components = Components {
            warehouse: self.warehouse.clone(),
            database: self.folder.join(format!("{id}.db")),
            clock: Arc::clone(&self.clock),
            lock: self.lock.clone(),
        };
        let config = self.overrides.get(&id).unwrap_or(&self.config).clone();
        Gateway::open(id, components, config).await
    }
}

/// The gateways that one process serves, by name. Clones share them.
#[derive(Clone, Debug)]
pub struct Gateways(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: RwLock<BTreeMap<GatewayId, Arc<Gateway>>>,
    folder: Option<GatewayFolder>,
    /// Held while a gateway is opened, so that two requests for one name open it once.
    opening: tokio::sync::Mutex<()>,
    load: Arc<ProcessLoad>,
    /// How many are open: it moves with every new one.
    count: watch::Sender<usize>,
}

impl Default for Gateways {
    fn default() -> Self {
        Self::new([])
    }
}

impl Gateways {
    /// A set of open gateways, to which none can be added by name.
    #[must_use]
    pub fn new(gateways: impl IntoIterator<Item = Arc<Gateway>>) -> Self {
        let registry = Self::with(None, PressureLimits::of_process());
        for gateway in gateways {
            registry.insert(gateway);
        }
        registry
    }

    /// No gateway yet; [`Gateways::create`] opens them in `folder`. All together may hold as much as
    /// `limits` say.
    #[must_use]
    pub fn in_folder(folder: GatewayFolder, limits: PressureLimits) -> Self {
        Self::with(Some(folder), limits)
    }

    fn with(folder: Option<GatewayFolder>, limits: PressureLimits) -> Self {
        Self(Arc::new(Inner {
            open: RwLock::default(),
            folder,
            opening: tokio::sync::Mutex::default(),
            load: Arc::new(ProcessLoad::new(limits)),
            count: watch::Sender::new(0),
        }))
    }

    /// The gateway with this name, opened now when it is new to this process.
    ///
    /// # Errors
    /// [`Error::Refused`] when the registry was made of open gateways, or holds [`GATEWAYS_MAX`]; else as
    /// [`Gateway::open`].
    ///
    /// # Cancel safety
    /// A gateway whose opening was cut off is opened by the next call.
    pub async fn create(&self, id: GatewayId) -> Result<Arc<Gateway>> {
        let _held = self.0.opening.lock().await;
        if let Some(open) = self.get(id.as_ref()) {
            return Ok(open);
        }
        let Some(folder) = &self.0.folder else {
            let text = format!(
                "gateway `{id}` cannot be created: this server was given its gateways when it began"
            );
            return Err(Refusal::new(ErrorCode::NotSupported, text).into());
        };
        if self.len() >= GATEWAYS_MAX {
            let text = format!(
                "gateway `{id}` cannot be created: this server has {GATEWAYS_MAX} already, the most it takes; start \
                 another one with its own directory"
            );
            return Err(Refusal::new(ErrorCode::ValidationError, text).into());
        }
        let gateway = folder.open(id).await?;
        self.insert(Arc::clone(&gateway));
        Ok(gateway)
    }

    /// The gateway with this name.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none.
    pub fn find(&self, name: &str) -> Result<Arc<Gateway>> {
        self.get(name).ok_or_else(|| {
            // Other names are not told: they may be another tenant's.
            let text = format!(
                "there is no gateway `{name}` here; check the name, or create it with POST /v1/admin/gateways/{name}"
            );
            Error::Refused(Refusal::new(ErrorCode::NotFound, text))
        })
    }

    /// The gateway with this name, when there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Gateway>> {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(name).map(Arc::clone)
    }

    /// All of them as they are now, by name.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Gateway>> + use<> {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<_> = open.values().map(Arc::clone).collect();
        now.into_iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        open.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names that `identity` may know of.
    #[must_use]
    pub fn names_for(&self, identity: &Identity) -> Vec<GatewayId> {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        let names = open.keys();
        names
            .filter(|name| identity.reaches(name.as_ref()))
            .cloned()
            .collect()
    }

    /// How many there are, as it grows: who looks after each gateway learns of new ones.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<usize> {
        self.0.count.subscribe()
    }

    /// What all of them hold together.
    #[must_use]
    pub fn load(&self) -> &ProcessLoad {
        &self.0.load
    }

    fn insert(&self, gateway: Arc<Gateway>) {
        gateway.upkeep.pressure.join(&self.0.load);
        let mut open = self.0.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(gateway.id().clone(), gateway);
        self.0.count.send_replace(open.len());
    }
}
