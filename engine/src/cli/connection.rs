//! The way to a data directory: in this process when nobody holds it, else through the server that does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lakesync_proto::{GatewayId, Push, PushAck, Schemas, TableDefinition, TableName, TableSchema};

use super::CliError;
use super::remote::Remote;
use crate::config::{Config, Sources};
use crate::directory::Holder;
use crate::error::Error;
use crate::lake::{Lake, LakeBuilder};

/// An open way to a gateway of a data directory.
#[derive(Debug)]
pub enum Connection {
    /// This process holds the directory.
    Embedded {
        /// The lake.
        lake: Lake,
        /// The gateway's name.
        gateway: GatewayId,
    },
    /// A server holds it.
    Server(Arc<Remote>),
}

impl Connection {
    /// Opens `dir`, or finds the server that has it open. The gateway must be there; a server answers for
    /// itself when it is asked.
    ///
    /// # Errors
    /// When the directory is held by a process that does not serve, cannot be opened, or has no such gateway.
    pub async fn open(dir: &Path, gateway: &str) -> Result<Self, CliError> {
        if !dir.join("lakesync.json").exists() {
            return Err(format!(
                "there is no LakeSync data in {}; `lakesync serve` or `lakesync push` make a directory, --dir names another",
                dir.display()
            )
            .into());
        }
        let connection = Self::over(dir, configured(dir)?, GatewayId::parse(gateway)?).await?;
        if let Self::Embedded { lake, gateway } = &connection {
            lake.gateway(gateway.as_ref())?;
        }
        Ok(connection)
    }

    /// As [`Self::open`], but makes the gateway when this process holds the directory and there is none.
    ///
    /// # Errors
    /// When the directory is held by a process that does not serve, or cannot be opened.
    pub async fn open_or_create(dir: &Path, gateway: &str) -> Result<Self, CliError> {
        let gateway = GatewayId::parse(gateway)?;
        let lake = configured(dir)?.with_gateway(gateway.clone());
        Self::over(dir, lake, gateway).await
    }

    /// The server at `url`, asked with the token of the environment.
    ///
    /// # Errors
    /// When the URL or the gateway's name is none.
    pub fn at(url: &str, gateway: &str) -> Result<Self, CliError> {
        let gateway = GatewayId::parse(gateway)?;
        Ok(Self::Server(Arc::new(Remote::at(url, gateway)?)))
    }

    async fn over(dir: &Path, lake: LakeBuilder, gateway: GatewayId) -> Result<Self, CliError> {
        match lake.open().await {
            Ok(lake) => Ok(Self::Embedded { lake, gateway }),
            Err(Error::Held {
                holder: Some(Holder { url: Some(url), .. }),
                ..
            }) => Ok(Self::Server(Arc::new(Remote::new(dir, &url, gateway)))),
            Err(error) => Err(error.into()),
        }
    }

    /// The schema of a table, when there is one.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn schema(&self, table: &TableName) -> Result<Option<Arc<TableSchema>>, CliError> {
        Ok(self.schemas().await?.schema(table))
    }

    /// The schemas of all tables.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn schemas(&self) -> Result<KnownSchemas, CliError> {
        let schemas = match self {
            Self::Embedded { lake, gateway } => lake.gateway(gateway.as_ref())?.live().schemas(),
            Self::Server(remote) => {
                let schemas = blocking(remote, |remote| remote.schemas()).await?;
                schemas.into_iter().map(Arc::new).collect()
            }
        };
        let by_name = schemas
            .into_iter()
            .map(|schema| (schema.table.clone(), schema));
        Ok(KnownSchemas(by_name.collect()))
    }

    /// Creates or evolves a table.
    ///
    /// # Errors
    /// When the change is refused.
    pub async fn put_schema(&self, definition: TableDefinition) -> Result<(), CliError> {
        match self {
            Self::Embedded { lake, gateway } => {
                lake.gateway(gateway.as_ref())?
                    .put_schema(&definition)
                    .await?;
            }
            Self::Server(remote) => {
                blocking(remote, move |remote| remote.put_schema(&definition)).await?;
            }
        }
        Ok(())
    }

    /// Pushes a batch; durable when this returns.
    ///
    /// # Errors
    /// When the batch is refused: nothing of it was stored.
    pub async fn push(&self, push: Push) -> Result<PushAck, CliError> {
        match self {
            Self::Embedded { lake, gateway } => {
                Ok(lake.gateway(gateway.as_ref())?.push(push).await?)
            }
            Self::Server(remote) => blocking(remote, move |remote| remote.push(&push)).await,
        }
    }
}

/// The lake in `dir` as its own configuration says.
fn configured(dir: &Path) -> Result<LakeBuilder, CliError> {
    let config = Config::read(&Sources::of_process(None, dir)?)?;
    Ok(lake_of(dir, &config))
}

/// The lake in `dir` as `config` says.
pub(super) fn lake_of(dir: &Path, config: &Config) -> LakeBuilder {
    let lake = Lake::builder(dir)
        .with_config(config.gateway.clone())
        .with_maintenance(config.maintenance.clone())
        .with_limits(config.limits);
    let overrides = config.gateway_overrides.clone().into_iter();
    overrides.fold(lake, |lake, (id, own)| lake.with_gateway_config(id, own))
}

/// The schemas of a gateway's tables at one moment.
#[derive(Clone, Debug)]
pub struct KnownSchemas(BTreeMap<TableName, Arc<TableSchema>>);

impl Schemas for KnownSchemas {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.0.get(table).map(Arc::clone)
    }
}

/// Runs a blocking call to the server where it may block.
async fn blocking<T: Send + 'static>(
    remote: &Arc<Remote>,
    call: impl FnOnce(&Remote) -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let remote = Arc::clone(remote);
    tokio::task::spawn_blocking(move || call(&remote)).await?
}
