//! One lake: its catalog and its files.
//!
//! ```text
//! <data dir>/catalog.db                      which metadata file is current
//! <data dir>/warehouse/<gateway>/<table>/    metadata/, data/
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::execution::object_store::ObjectStoreUrl;
use iceberg::io::FileIOBuilder;
use iceberg::table::Table;
use iceberg::{ErrorKind, NamespaceIdent, TableIdent};
use lakesync_proto::{GatewayId, WallClock};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::catalog::{CatalogCommit, Properties, SqliteCatalog};
use super::error::LakeError;
use super::schema::LOG_SUFFIX;
use super::storage::{LakeStorage, create_directory, sync_directory};

/// A lake: catalog, files, and the clock its snapshots are stamped by. A clone is cheap and the same
/// lake.
#[derive(Clone)]
pub struct Warehouse {
    catalog: Arc<dyn CatalogCommit>,
    storage: LakeStorage,
    store: Arc<dyn ObjectStore>,
    store_url: ObjectStoreUrl,
    clock: Arc<dyn WallClock>,
}

impl fmt::Debug for Warehouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warehouse")
            .field("catalog", &self.catalog)
            .field("store_url", &self.store_url)
            .finish_non_exhaustive()
    }
}

/// The machine's clock, of a lake that was opened without another.
#[derive(Debug)]
struct MachineClock;

impl WallClock for MachineClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "a lake opened alone still stamps its snapshots, for people to read"
    )]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }
}

impl Warehouse {
    /// Opens the lake in a directory, or creates both. Must run in the tokio runtime that its tables
    /// will be read in.
    ///
    /// # Errors
    /// `Io` when the directory cannot be made, `NewerFormat` for a lake of a newer program, `Catalog`
    /// when the catalog cannot be opened.
    pub async fn open_local(data_dir: &Path) -> Result<Self, LakeError> {
        Self::open_local_with_clock(data_dir, Arc::new(MachineClock)).await
    }

    /// As [`Self::open_local`], with another clock than the machine's: every time in the tables' metadata is by it, those
    /// of snapshots and those of changes that make none.
    ///
    /// # Errors
    /// As [`Self::open_local`].
    pub async fn open_local_with_clock(
        data_dir: &Path,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, LakeError> {
        let data_dir = data_dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&data_dir, clock)).await;
        opened.unwrap_or_else(|stopped| {
            let stopped = std::io::Error::other(stopped);
            Err(LakeError::io("open", Path::new("the lake"))(stopped))
        })
    }

    /// Puts another catalog in place of the lake's own: one that injects faults, or a remote one.
    #[must_use]
    pub fn with_catalog(mut self, catalog: Arc<dyn CatalogCommit>) -> Self {
        self.catalog = catalog;
        self
    }

    /// The store that holds the files, rooted so that it reads any URL under
    /// [`Self::object_store_url`].
    #[must_use]
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The URL to register [`Self::object_store`] with DataFusion under.
    #[must_use]
    pub fn object_store_url(&self) -> &ObjectStoreUrl {
        &self.store_url
    }

    /// The path in [`Self::object_store`] of a file's URI, as manifests give it.
    ///
    /// # Errors
    /// `Iceberg` for a URI outside the store.
    pub fn object_path(&self, uri: &str) -> Result<object_store::path::Path, LakeError> {
        self.storage
            .object_path(uri)
            .map_err(LakeError::iceberg("find the file", uri))
    }

    /// The URI of a path in [`Self::object_store`], as manifests give it.
    #[must_use]
    pub fn uri(&self, path: &object_store::path::Path) -> String {
        self.storage.uri(path)
    }

    pub(super) fn storage(&self) -> &LakeStorage {
        &self.storage
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> Arc<dyn CatalogCommit> {
        Arc::clone(&self.catalog)
    }

    /// Milliseconds since 1970 by the lake's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Makes a gateway's namespace; nothing when it is there.
    ///
    /// # Errors
    /// `Iceberg` when the catalog refuses.
    pub async fn create_namespace(&self, gateway: &GatewayId) -> Result<(), LakeError> {
        let namespace = namespace_of(gateway);
        let created = self
            .catalog
            .create_namespace(&namespace, HashMap::new())
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NamespaceAlreadyExists => Ok(()),
            Err(e) => Err(LakeError::iceberg("create the gateway", gateway)(e)),
        }
    }

    /// The gateways whose namespaces are there. A namespace that is no gateway's name is left out.
    ///
    /// # Errors
    /// `Iceberg` when the catalog refuses.
    pub async fn namespaces(&self) -> Result<Vec<GatewayId>, LakeError> {
        let found = self.catalog.list_namespaces(None).await;
        let found = found.map_err(LakeError::iceberg("list gateways", "catalog"))?;
        let gateways = found.iter().map(ToString::to_string);
        Ok(gateways
            .filter_map(|name| GatewayId::parse(&name).ok())
            .collect())
    }

    /// The names of the tables in a gateway's namespace that another program made, sorted: those of no table of ours.
    ///
    /// # Errors
    /// `NotFound` without the gateway.
    pub async fn foreign_tables(&self, gateway: &GatewayId) -> Result<Vec<String>, LakeError> {
        let found = self.catalog.list_tables(&namespace_of(gateway)).await;
        let found = found.map_err(LakeError::iceberg("list its tables", gateway))?;
        let names: BTreeSet<&str> = found.iter().map(TableIdent::name).collect();
        let foreign = names.iter().filter(|name| {
            !name.ends_with(LOG_SUFFIX) && !names.contains(format!("{name}{LOG_SUFFIX}").as_str())
        });
        Ok(foreign.map(ToString::to_string).collect())
    }

    /// A table in a gateway's namespace that another program made; none when there is no such table.
    ///
    /// # Errors
    /// `Iceberg` when the catalog or the table's metadata cannot be read.
    pub async fn foreign_table(
        &self,
        gateway: &GatewayId,
        name: &str,
    ) -> Result<Option<Table>, LakeError> {
        let ident = TableIdent::new(namespace_of(gateway), name.to_owned());
        if name.is_empty() || name.ends_with(LOG_SUFFIX) {
            return Ok(None);
        }
        match self.catalog.load_table(&ident).await {
            Ok(table) => Ok(Some(table)),
            Err(e) if e.kind() == ErrorKind::TableNotFound => Ok(None),
            Err(e) => Err(LakeError::iceberg("load the table", &ident)(e)),
        }
    }

    /// The properties of a gateway's namespace.
    ///
    /// # Errors
    /// `NotFound` without one.
    pub async fn namespace_properties(
        &self,
        gateway: &GatewayId,
    ) -> Result<HashMap<String, String>, LakeError> {
        let namespace = self.catalog.get_namespace(&namespace_of(gateway)).await;
        let namespace = namespace.map_err(LakeError::iceberg("read its properties", gateway))?;
        Ok(namespace.properties().clone())
    }

    /// Sets (or with `None` removes) properties of a gateway's namespace, all or none, if all
    /// `expected` ones are as given (`None`: absent).
    ///
    /// # Errors
    /// [`LakeError::NamespaceChanged`] when one is not, `NotFound` without the namespace.
    pub async fn set_namespace_properties(
        &self,
        gateway: &GatewayId,
        expected: Properties<'_>,
        set: Properties<'_>,
    ) -> Result<(), LakeError> {
        let namespace = namespace_of(gateway);
        let catalog = &self.catalog;
        catalog
            .compare_and_set_namespace(&namespace, expected, set)
            .await
    }
}

/// A gateway's namespace.
pub(super) fn namespace_of(gateway: &GatewayId) -> NamespaceIdent {
    NamespaceIdent::new(gateway.to_string())
}

fn open(data_dir: &Path, clock: Arc<dyn WallClock>) -> Result<Warehouse, LakeError> {
    let files = data_dir.join("warehouse");
    create_directory(&files).map_err(LakeError::io("create", &files))?;
    let data_dir = data_dir.canonicalize();
    let data_dir = data_dir.map_err(LakeError::io("resolve", &files))?;
    let Some(name) = data_dir.to_str() else {
        let reason = std::io::Error::other("its name is not valid UTF-8");
        return Err(LakeError::io("use", &data_dir)(reason));
    };
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let storage = LakeStorage::local(Arc::clone(&store), data_dir.clone());
    let file_io = FileIOBuilder::new(Arc::new(storage.clone())).build();
    let location = format!("file://{name}/warehouse");
    let path = data_dir.join("catalog.db");
    refuse_lost_catalog(&path, &data_dir)?;
    let catalog = SqliteCatalog::open(&path, &location, file_io, Arc::clone(&clock))?;
    sync_directory(&data_dir).map_err(LakeError::io("sync", &data_dir))?;
    Ok(Warehouse {
        catalog: Arc::new(catalog),
        storage,
        store,
        store_url: ObjectStoreUrl::local_filesystem(),
        clock,
    })
}

/// A catalog is made before anything else is, so a directory that has something else and no catalog has lost it.
/// A new, empty one would make everything in there unreachable, in silence.
fn refuse_lost_catalog(catalog: &Path, data_dir: &Path) -> Result<(), LakeError> {
    // Empty is as good as missing: a catalog has a header from its first moment on.
    let size = match std::fs::metadata(catalog) {
        Ok(file) => file.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(LakeError::io("look at", catalog)(e)),
    };
    if size > 0 {
        return Ok(());
    }
    for (folder, ending) in [("warehouse", ""), ("gateways", ".db")] {
        let folder = data_dir.join(folder);
        if holds(&folder, ending).map_err(LakeError::io("list", &folder))? {
            return Err(LakeError::CatalogLost {
                catalog: catalog.display().to_string(),
                found: folder.display().to_string(),
            });
        }
    }
    Ok(())
}

/// Whether a folder has anything whose name ends so; one that is not there has nothing.
fn holds(folder: &Path, ending: &str) -> std::io::Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    for entry in entries {
        if entry?.file_name().to_string_lossy().ends_with(ending) {
            return Ok(true);
        }
    }
    Ok(false)
}
