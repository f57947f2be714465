//! ★ A lake: a data directory with its gateways, its tables and one SQL engine over both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::prelude::DataFrame;
use lakesync_gateway::auth::Identity;
use lakesync_gateway::{Gateway, GatewayConfig, GatewayFolder, Gateways, PressureLimits};
use lakesync_proto::{GatewayId, TableDefinition, TableSchema, WallClock};
use lakesync_providers::lake::Warehouse;
use tokio::sync::Semaphore;

use crate::clock::SystemClock;
use crate::directory::DataDirectory;
use crate::error::{Error, Result};
use crate::maintenance::{JOBS_MAX, MaintenanceSettings, Running, RunningJobs};
use crate::statement::{Access, Grant, Runner};
use crate::syntax::{LakeStatement, parse};

/// The gateway (SQL schema) that exists from the start.
const DEFAULT_GATEWAY: &str = "public";

/// The name of the gateway that a statement is for when nothing else is said.
pub(crate) fn default_gateway() -> GatewayId {
    GatewayId::parse(DEFAULT_GATEWAY).expect("`public` is a name")
}

/// An open lake. Clones share it; the directory is given up when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Lake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Gateways before the directory: fields drop in this order, so the lock outlives every writer.
    gateways: Gateways,
    runner: Runner,
    maintenance: MaintenanceSettings,
    /// A permit for each job that may run.
    jobs: Arc<Semaphore>,
    running: RunningJobs,
    clock: Arc<dyn WallClock>,
    directory: DataDirectory,
}

/// How to open a lake: the path is needed, the rest has defaults.
#[derive(Debug)]
pub struct LakeBuilder {
    path: PathBuf,
    clock: Arc<dyn WallClock>,
    config: GatewayConfig,
    overrides: BTreeMap<GatewayId, GatewayConfig>,
    limits: PressureLimits,
    maintenance: MaintenanceSettings,
    gateways: Vec<GatewayId>,
}

impl LakeBuilder {
    /// Another wall clock than the machine's, for stamps and for the times of snapshots.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Other settings for every gateway.
    #[must_use]
    pub fn with_config(mut self, config: GatewayConfig) -> Self {
        self.config = config;
        self
    }

    /// Settings for the gateway `id` in place of those for every gateway, also when it is created later.
    #[must_use]
    pub fn with_gateway_config(mut self, id: GatewayId, config: GatewayConfig) -> Self {
        self.overrides.insert(id, config);
        self
    }

    /// Other limits for what all gateways hold together.
    #[must_use]
    pub fn with_limits(mut self, limits: PressureLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Other settings for the maintenance of its tables.
    #[must_use]
    pub fn with_maintenance(mut self, maintenance: MaintenanceSettings) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// One more gateway than those that exist.
    #[must_use]
    pub fn with_gateway(mut self, gateway: GatewayId) -> Self {
        self.gateways.push(gateway);
        self
    }

    /// Opens the lake.
    ///
    /// # Errors
    /// [`Error::Held`] when another process owns the directory; errors of the directory, the catalog and
    /// the gateways' databases, each naming the file and what to do.
    pub async fn open(self) -> Result<Lake> {
        let directory = DataDirectory::take(&self.path)?;
        let clock = Arc::clone(&self.clock);
        let warehouse = Warehouse::open_local_with_clock(directory.root(), clock).await?;
        let mut names = self.gateways;
        names.push(default_gateway());
        names.extend(warehouse.namespaces().await?);
        for name in directory.gateways()? {
            names.extend(GatewayId::parse(&name));
        }
        names.sort();
        names.dedup();
        let runner = Runner::new(&warehouse);
        let folder = GatewayFolder {
            warehouse,
            folder: directory.gateway_folder(),
            clock: Arc::clone(&self.clock),
            lock: Some(directory.lock()),
            config: self.config,
            overrides: self.overrides,
        };
        let gateways = Gateways::in_folder(folder, self.limits);
        for name in names {
            gateways.create(name).await?;
        }
        Ok(Lake {
            inner: Arc::new(Inner {
                gateways,
                runner,
                maintenance: self.maintenance.agreed(),
                jobs: Arc::new(Semaphore::new(JOBS_MAX)),
                running: RunningJobs::default(),
                clock: self.clock,
                directory,
            }),
        })
    }
}

impl Lake {
    /// Opens the data directory at `path`, making it when there is none.
    ///
    /// # Errors
    /// As [`LakeBuilder::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// A lake to open with other components or settings than the defaults.
    #[must_use]
    pub fn builder(path: impl AsRef<Path>) -> LakeBuilder {
        LakeBuilder {
            path: path.as_ref().to_owned(),
            clock: Arc::new(SystemClock),
            config: GatewayConfig::default(),
            overrides: BTreeMap::new(),
            limits: PressureLimits::of_process(),
            maintenance: MaintenanceSettings::default(),
            gateways: Vec::new(),
        }
    }

    /// Plans one SQL statement of the default gateway; `collect` or `execute_stream` on the answer runs it.
    ///
    /// Besides DataFusion's SQL: `t VERSION AS OF <snapshot id or 'tag'>`, `t TIMESTAMP AS OF <time>`,
    /// `t AT (SEQ => <seq>, HLC => <hlc>)`, the metadata tables `t$deltas` and
    /// `t$snapshots`, `INSERT … ON CONFLICT`, `UPDATE … FROM`, `DELETE … USING` and `MERGE`, which become deltas, and
    /// `CALL system.flush('t')`, `CALL system.compact('t')` and the other procedures of maintenance, which
    /// `CALL system.help()` lists, with `OPTIMIZE` and `VACUUM` for two of them; `CREATE TABLE` with `PRIMARY KEY`, `PARTITIONED BY` and `SORTED BY`, `ALTER TABLE`, `DESCRIBE`.
    /// Procedures and statements about tables run at once. What would be gone after the statement is refused: views
    /// and `SET`.
    ///
    /// # Errors
    /// [`Error::Syntax`] with the position, [`Error::Query`], or what a procedure answers.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        let mut statements = parse(sql)?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => {
                self.run(statement, Access::Everything, &default_gateway())
                    .await
            }
            (None, _) => Err(Error::Invalid("the SQL text holds no statement".to_owned())),
            (Some(_), false) => Err(Error::Invalid(format!(
                "the SQL text holds {} statements; give them one at a time",
                statements.len() + 1
            ))),
        }
    }

    /// Plans one parsed statement, as far as `access` allows. Tables without a schema are those of `gateway`.
    ///
    /// # Errors
    /// As [`Lake::sql`]; [`Error::Invalid`] when the statement needs more access,
    /// [`Error::UnknownGateway`].
    pub async fn run(
        &self,
        statement: LakeStatement,
        access: Access,
        gateway: &GatewayId,
    ) -> Result<DataFrame> {
        let identity = Identity::anyone();
        let grant = Grant {
            access,
            identity: &identity,
        };
        self.run_as(statement, grant, gateway).await
    }

    /// As [`Lake::run`], for somebody for whom only some gateways exist.
    ///
    /// # Errors
    /// As [`Lake::run`]; a gateway out of reach is as unknown as one that is not there.
    pub async fn run_as(
        &self,
        statement: LakeStatement,
        grant: Grant<'_>,
        gateway: &GatewayId,
    ) -> Result<DataFrame> {
        let runner = &self.inner.runner;
        runner.run(self, statement, grant, gateway).await
    }

    /// Creates or evolves a table of the default gateway from its JSON definition.
    ///
    /// # Errors
    /// When the JSON is no definition, or the change is not allowed.
    pub async fn create_table(&self, definition: &str) -> Result<Arc<TableSchema>> {
        let definition: TableDefinition = serde_json::from_str(definition)
            .map_err(|error| Error::Invalid(format!("the table definition: {error}")))?;
        let (schema, _) = self
            .gateway(DEFAULT_GATEWAY)?
            .put_schema(&definition)
            .await?;
        Ok(schema)
    }

    /// The gateway called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownGateway`].
    pub fn gateway(&self, name: &str) -> Result<Arc<Gateway>> {
        self.gateway_for(name, &Identity::anyone())
    }

    /// The gateway called `name`, when `identity` reaches it; the error names only what it reaches.
    pub(crate) fn gateway_for(&self, name: &str, identity: &Identity) -> Result<Arc<Gateway>> {
        let gateways = &self.inner.gateways;
        let found = gateways.get(name).filter(|_| identity.reaches(name));
        found.ok_or_else(|| {
            let known = gateways.names_for(identity);
            let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
            Error::UnknownGateway {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// Every gateway as it is now, by name.
    pub fn gateways(&self) -> impl Iterator<Item = Arc<Gateway>> + use<> {
        self.inner.gateways.iter()
    }

    /// The gateways themselves, to which others can be added while the lake is open.
    #[must_use]
    pub fn registry(&self) -> &Gateways {
        &self.inner.gateways
    }

    /// How its tables are maintained.
    #[must_use]
    pub fn maintenance(&self) -> &MaintenanceSettings {
        &self.inner.maintenance
    }

    /// The maintenance jobs that run now, the oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        self.inner.running.now()
    }

    pub(crate) fn running_jobs(&self) -> &RunningJobs {
        &self.inner.running
    }

    /// A permit for each job that may run.
    pub(crate) fn jobs(&self) -> &Arc<Semaphore> {
        &self.inner.jobs
    }

    /// The wall clock of this lake.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn WallClock> {
        &self.inner.clock
    }

    /// The directory that this lake owns.
    #[must_use]
    pub fn directory(&self) -> &DataDirectory {
        &self.inner.directory
    }
}
