//! The catalog: which metadata file is each table's current one.
//!
//! **Invariant**: a table's pointer moves only by compare-and-set, inside one `BEGIN IMMEDIATE`
//! transaction that also checks the writer's fence, after the new metadata file is durable, and only
//! a checked `COMMIT` counts. So of two writers that read the same state exactly one wins, and a
//! writer that was taken over cannot win at all.
//!
//! ```text
//! catalog.db  iceberg_tables                (catalog_name, table_namespace, table_name,
//!                                            metadata_location, previous_metadata_location,
//!                                            iceberg_type)
//!             iceberg_namespace_properties  (catalog_name, namespace, property_key, property_value)
//! ```
//! These are exactly the tables of PyIceberg's `SqlCatalog`, so PyIceberg attaches to a live
//! directory with `name="lakesync"` and `uri=sqlite:///…/catalog.db`.

mod format;
mod namespaces;
mod order;
mod swap;
mod tables;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuilder};
use iceberg::table::Table;
use iceberg::{
    Catalog, Error, ErrorKind, MetadataLocation, Namespace, NamespaceIdent, Result, Runtime,
    TableCommit, TableCreation, TableIdent, TableRequirement, TableUpdate,
};
use lakesync_proto::{GatewayId, WallClock};
use rusqlite::Connection;

use super::error::{CommitError, LakeError};

pub(super) use swap::DELETE_OLD_METADATA;

/// The catalog's name: the `catalog_name` column, and what PyIceberg must be given.
pub const CATALOG_NAME: &str = "lakesync";

/// The namespace property that holds the token of the one writer that may commit.
pub const FENCE: &str = "lakesync.fence";

/// A writer's right to commit: every commit of ours requires that the namespace's property
/// [`FENCE`] is a token of this writer, checked inside the catalog's transaction.
///
/// A token is `<writer>` or `<writer>/<turn>`: its writer may put others of its own there, as every flush does, and what
/// it began before that may still be committed. Only another writer ends its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The gateway, which is the namespace.
    pub namespace: GatewayId,
    /// The token that this writer put there.
    pub token: String,
}

impl Fence {
    /// Whether `token`, as found in the catalog, is of the same writer.
    #[must_use]
    pub fn is_held_by(&self, token: &str) -> bool {
        self.writer() == writer_of(token)
    }

    /// The part of the token that all tokens of the writer begin with.
    #[must_use]
    pub fn writer(&self) -> &str {
        writer_of(&self.token)
    }
}

fn writer_of(token: &str) -> &str {
    token.split_once('/').map_or(token, |(writer, _)| writer)
}

/// Pairs of property and value; `None` means absent.
pub type Properties<'a> = &'a [(&'a str, Option<&'a str>)];

/// A catalog that can commit what [`iceberg::Catalog`] cannot express: any updates under any
/// requirements, and only for the writer that holds the fence.
#[async_trait]
pub trait CatalogCommit: Catalog {
    /// Applies `updates` to a table if all `requirements` hold and the fence is ours.
    ///
    /// # Errors
    /// `Conflict` when a requirement fails or another commit was first, `Fenced` when the token is
    /// another one, `Unknown` when it may have happened, `Failed` when it did not.
    ///
    /// Not cancel safe: a dropped call may still commit.
    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
        fence: Option<&Fence>,
    ) -> std::result::Result<Table, CommitError>;

    /// Sets (or with `None` removes) properties of a namespace if all `expected` ones are as given.
    ///
    /// # Errors
    /// [`LakeError::NamespaceChanged`] when one is not, `NotFound` without such a namespace.
    async fn compare_and_set_namespace(
        &self,
        namespace: &NamespaceIdent,
        expected: Properties<'_>,
        set: Properties<'_>,
    ) -> std::result::Result<(), LakeError>;
}

/// The catalog in a SQLite file.
pub struct SqliteCatalog {
    path: PathBuf,
    /// Where tables without a location of their own go, without a slash at the end.
    warehouse: String,
    file_io: FileIO,
    /// What times in the tables' metadata are by.
    clock: Arc<dyn WallClock>,
    runtime: Runtime,
    connection: Arc<Mutex<Connection>>,
    /// The newest state of each table that was loaded, with iceberg's cache of its manifests.
    loaded: Mutex<HashMap<TableIdent, Table>>,
}

impl fmt::Debug for SqliteCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteCatalog")
            .field("path", &self.path)
            .field("warehouse", &self.warehouse)
            .finish_non_exhaustive()
    }
}

impl SqliteCatalog {
    /// Opens the catalog at `path`, or creates it. `warehouse` is the URI below which new tables
    /// go; `clock` is what the times in their metadata are by. Blocks on the disk.
    ///
    /// # Errors
    /// `NewerFormat` for a catalog of a newer program, `Catalog` when SQLite refuses the file, and
    /// `Iceberg` outside a tokio runtime, which its tables need.
    pub fn open(
        path: &Path,
        warehouse: &str,
        file_io: FileIO,
        clock: Arc<dyn WallClock>,
    ) -> std::result::Result<Self, LakeError> {
        let runtime = Runtime::try_current().map_err(LakeError::iceberg("open", path.display()))?;
        let connection = format::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            warehouse: warehouse.trim_end_matches('/').to_owned(),
            file_io,
            clock,
            runtime,
            connection: Arc::new(Mutex::new(connection)),
            loaded: Mutex::default(),
        })
    }

    /// Runs `work` with the connection on a thread that may block.
    async fn with_connection<T, W>(&self, work: W) -> rusqlite::Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let job = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        match job.await {
            Ok(result) => result,
            Err(stopped) => Err(rusqlite::Error::ToSqlConversionFailure(Box::new(stopped))),
        }
    }

    /// As [`Self::with_connection`], for the methods of [`Catalog`].
    async fn query<T, W>(&self, action: &str, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.with_connection(work).await.map_err(|e| {
            let message = format!("catalog {}: cannot {action}", self.path.display());
            Error::new(ErrorKind::Unexpected, message).with_source(e)
        })
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }

    fn build(&self, ident: &TableIdent, location: &str, metadata: TableMetadata) -> Result<Table> {
        let table = Table::builder()
            .identifier(ident.clone())
            .file_io(self.file_io.clone())
            .metadata_location(location)
            .metadata(metadata)
            .runtime(self.runtime.clone())
            .build()?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(ident.clone(), table.clone());
        Ok(table)
    }

    fn remembered(&self, ident: &TableIdent, location: &str) -> Option<Table> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded
            .get(ident)
            .filter(|table| table.metadata_location() == Some(location))
            .cloned()
    }

    fn forget(&self, ident: &TableIdent) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.remove(ident);
    }

    async fn require_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        if self.namespace_exists(namespace).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NamespaceNotFound,
            format!("gateway {namespace} does not exist"),
        ))
    }

    /// The location of a new table: `<warehouse>/<namespace>/<table>`, or with a suffix when another
    /// table (a renamed one) lives there, because maintenance owns all files below a location.
    async fn free_location(&self, namespace: &NamespaceIdent, table: &str) -> Result<String> {
        let location = format!("{}/{}/{table}", self.warehouse, namespace.join("/"));
        let wanted = location.clone();
        let taken = self
            .query("look for tables", move |c| {
                tables::location_in_use(c, &wanted)
            })
            .await?;
        if !taken {
            return Ok(location);
        }
        Ok(format!("{location}-{}", uuid::Uuid::now_v7().simple()))
    }

    async fn insert(&self, ident: &TableIdent, location: &str) -> Result<()> {
        let (row, to) = (tables::Row::of(ident), location.to_owned());
        let inserted = self
            .query("add a table", move |c| tables::insert(c, &row, &to))
            .await?;
        if inserted {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TableAlreadyExists,
            format!("table {ident} already exists"),
        ))
    }
}

fn table_not_found(ident: &TableIdent) -> Error {
    Error::new(
        ErrorKind::TableNotFound,
        format!("table {ident} does not exist"),
    )
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        if let Some(parent) = parent {
            self.require_namespace(parent).await?;
        }
        let parent = parent.map(|p| p.to_vec()).unwrap_or_default();
        let names = self.query("list gateways", namespaces::all).await?;
        namespaces::children(&names, &parent)
            .into_iter()
            .map(NamespaceIdent::from_vec)
            .collect()
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<Namespace> {
        let name = namespace.to_string();
        let created = self
            .query("create a gateway", move |c| {
                namespaces::create(c, &name, &properties)
            })
            .await?;
        if !created {
            return Err(Error::new(
                ErrorKind::NamespaceAlreadyExists,
                format!("gateway {namespace} already exists"),
            ));
        }
        self.get_namespace(namespace).await
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> Result<Namespace> {
        self.require_namespace(namespace).await?;
        let name = namespace.to_string();
        let properties = self
            .query("read a gateway", move |c| namespaces::properties(c, &name))
            .await?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        let name = namespace.to_string();
        self.query("look for a gateway", move |c| namespaces::exists(c, &name))
            .await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        self.require_namespace(namespace).await?;
        let name = namespace.to_string();
        self.query("change a gateway", move |c| {
            namespaces::replace(c, &name, &properties)
        })
        .await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.require_namespace(namespace).await?;
        let name = namespace.to_string();
        let empty = self
            .query("drop a gateway", move |c| namespaces::remove(c, &name))
            .await?;
        if empty {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::PreconditionFailed,
            format!("gateway {namespace} still has tables: drop them first"),
        ))
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.require_namespace(namespace).await?;
        let name = namespace.to_string();
        let names = self
            .query("list tables", move |c| tables::names(c, &name))
            .await?;
        Ok(names
            .into_iter()
            .map(|name| TableIdent::new(namespace.clone(), name))
            .collect())
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        mut creation: TableCreation,
    ) -> Result<Table> {
        self.require_namespace(namespace).await?;
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        if self.table_exists(&ident).await? {
            return Err(Error::new(
                ErrorKind::TableAlreadyExists,
                format!("table {ident} already exists"),
            ));
        }
        if creation.location.is_none() {
            creation.location = Some(self.free_location(namespace, ident.name()).await?);
        }
        let metadata = TableMetadataBuilder::from_table_creation(creation)?
            .build()?
            .metadata;
        let metadata = order::created_at(&metadata, self.now_ms())?;
        let location = MetadataLocation::new_with_metadata(metadata.location(), &metadata);
        metadata.write_to(&self.file_io, &location).await?;
        let location = location.to_string();
        self.insert(&ident, &location).await?;
        self.build(&ident, &location, metadata)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let row = tables::Row::of(ident);
        let location = self
            .query("look up a table", move |c| tables::location(c, &row))
            .await?
            .ok_or_else(|| table_not_found(ident))?;
        if let Some(table) = self.remembered(ident, &location) {
            return Ok(table);
        }
        let metadata = TableMetadata::read_from(&self.file_io, &location).await?;
        self.build(ident, &location, metadata)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        let row = tables::Row::of(ident);
        let dropped = self
            .query("drop a table", move |c| tables::remove(c, &row))
            .await?;
        self.forget(ident);
        if dropped {
            return Ok(());
        }
        Err(table_not_found(ident))
    }

    async fn purge_table(&self, ident: &TableIdent) -> Result<()> {
        let table = self.load_table(ident).await?;
        self.drop_table(ident).await?;
        iceberg::drop_table_data(&table).await
    }

    async fn table_exists(&self, ident: &TableIdent) -> Result<bool> {
        let row = tables::Row::of(ident);
        let location = self
            .query("look up a table", move |c| tables::location(c, &row))
            .await?;
        Ok(location.is_some())
    }

    async fn rename_table(&self, src: &TableIdent, dest: &TableIdent) -> Result<()> {
        self.require_namespace(dest.namespace()).await?;
        let (from, to) = (tables::Row::of(src), tables::Row::of(dest));
        let renamed = self
            .query("rename a table", move |c| tables::rename(c, &from, &to))
            .await?;
        self.forget(src);
        match renamed {
            tables::Renamed::Done => Ok(()),
            tables::Renamed::NoSource => Err(table_not_found(src)),
            tables::Renamed::Taken => Err(Error::new(
                ErrorKind::TableAlreadyExists,
                format!("table {dest} already exists"),
            )),
        }
    }

    async fn register_table(&self, ident: &TableIdent, metadata_location: String) -> Result<Table> {
        self.require_namespace(ident.namespace()).await?;
        let metadata = TableMetadata::read_from(&self.file_io, &metadata_location).await?;
        self.insert(ident, &metadata_location).await?;
        self.build(ident, &metadata_location, metadata)
    }

    async fn update_table(&self, mut commit: TableCommit) -> Result<Table> {
        let (requirements, updates) = (commit.take_requirements(), commit.take_updates());
        let table = self.commit(commit.identifier(), requirements, updates, None);
        Ok(table.await?)
    }
}

#[async_trait]
impl CatalogCommit for SqliteCatalog {
    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
        fence: Option<&Fence>,
    ) -> std::result::Result<Table, CommitError> {
        swap::commit(
            self,
            ident,
            swap::Change {
                requirements,
                updates,
            },
            fence,
        )
        .await
    }

    async fn compare_and_set_namespace(
        &self,
        namespace: &NamespaceIdent,
        expected: Properties<'_>,
        set: Properties<'_>,
    ) -> std::result::Result<(), LakeError> {
        let change = namespaces::Change::new(namespace.to_string(), expected, set);
        let outcome = self
            .with_connection(move |c| namespaces::compare_and_set(c, &change))
            .await
            .map_err(|source| LakeError::Catalog {
                action: "change a gateway",
                path: self.path.display().to_string(),
                source,
            })?;
        outcome.into_result(namespace)
    }
}
