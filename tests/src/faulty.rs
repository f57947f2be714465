//! A catalog whose answers get lost on order.
//!
//! Invariant: it forwards everything to the real catalog but commits that a fault was ordered for, and a fault is used up
//! by the first commit to the table that it was ordered for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{
    Catalog, Namespace, NamespaceIdent, Result, TableCommit, TableCreation, TableIdent,
    TableRequirement, TableUpdate,
};
use lakesync_providers::lake::{CatalogCommit, CommitError, Fence, LakeError, Properties};

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes effect, and nobody hears of it.
    LostAnswer,
    /// It does not arrive, and nobody hears of that.
    LostRequest,
    /// It is refused.
    Refused,
}

/// The faults that were ordered: table name, and what happens to its next commit.
#[derive(Debug, Default)]
pub struct Faults(Mutex<VecDeque<(String, Fault)>>);

impl Faults {
    /// The next commit to this table of the catalog meets this; orders for one table queue up.
    pub fn order(&self, table: &str, fault: Fault) {
        self.lock().push_back((table.to_owned(), fault));
    }

    /// How many were ordered and not met.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Forgets what was ordered and not met.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn next(&self, ident: &TableIdent) -> Option<Fault> {
        let mut faults = self.lock();
        let at = faults.iter().position(|(table, _)| table == ident.name())?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Fault)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The real catalog, less the faults.
#[derive(Debug)]
pub struct FaultyCatalog {
    inner: Arc<dyn CatalogCommit>,
    faults: Arc<Faults>,
}

impl FaultyCatalog {
    /// A catalog in front of `inner`.
    pub fn new(inner: Arc<dyn CatalogCommit>, faults: &Arc<Faults>) -> FaultyCatalog {
        FaultyCatalog {
            inner,
            faults: Arc::clone(faults),
        }
    }
}

#[async_trait]
impl CatalogCommit for FaultyCatalog {
    async fn commit(
        &self,
        ident: &TableIdent,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
        fence: Option<&Fence>,
    ) -> std::result::Result<Table, CommitError> {
        let lost = || CommitError::Unknown {
            table: ident.to_string(),
            source: "the connection broke".into(),
        };
        match self.faults.next(ident) {
            Some(Fault::LostRequest) => return Err(lost()),
            Some(Fault::Refused) => {
                return Err(CommitError::Failed {
                    table: ident.to_string(),
                    source: "the catalog is out of order".into(),
                });
            }
            Some(Fault::LostAnswer) => {
                let inner = &self.inner;
                inner.commit(ident, requirements, updates, fence).await?;
                return Err(lost());
            }
            None => {}
        }
        self.inner.commit(ident, requirements, updates, fence).await
    }

    async fn compare_and_set_namespace(
        &self,
        namespace: &NamespaceIdent,
        expected: Properties<'_>,
        set: Properties<'_>,
    ) -> std::result::Result<(), LakeError> {
        let inner = &self.inner;
        inner
            .compare_and_set_namespace(namespace, expected, set)
            .await
    }
}

#[async_trait]
impl Catalog for FaultyCatalog {
    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<Namespace> {
        self.inner.create_namespace(namespace, properties).await
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> Result<Namespace> {
        self.inner.get_namespace(namespace).await
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        self.inner.namespace_exists(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        self.inner.update_namespace(namespace, properties).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.inner.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        self.inner.load_table(table).await
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.drop_table(table).await
    }

    async fn purge_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.purge_table(table).await
    }

    async fn table_exists(&self, table: &TableIdent) -> Result<bool> {
        self.inner.table_exists(table).await
    }

    async fn rename_table(&self, src: &TableIdent, dest: &TableIdent) -> Result<()> {
        self.inner.rename_table(src, dest).await
    }

    async fn register_table(&self, table: &TableIdent, metadata: String) -> Result<Table> {
        self.inner.register_table(table, metadata).await
    }

    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        self.inner.update_table(commit).await
    }
}
