//! A catalog that misbehaves on order, and what commits make of that.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::BoxFuture;
use iceberg::{
    Catalog, Namespace, NamespaceIdent, TableCommit, TableCreation, TableRequirement, TableUpdate,
};

use super::*;

/// What happens to the next commit.
pub(super) enum Fault {
    /// Another writer comes first.
    Before(BoxFuture<'static, ()>),
    /// It takes effect and the answer is lost.
    LostAnswer,
    /// It does not arrive, which nobody knows.
    LostRequest,
    /// It is refused.
    Refused,
}

/// Forwards everything to the real catalog, less the faults.
#[derive(Debug)]
pub(super) struct FaultyCatalog {
    inner: Arc<dyn CatalogCommit>,
    faults: Mutex<VecDeque<Fault>>,
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fault")
    }
}

impl Lake {
    /// The lake's warehouse behind a catalog with these faults, first to last.
    pub(super) fn with_faults(&self, faults: impl IntoIterator<Item = Fault>) -> Warehouse {
        let catalog = FaultyCatalog {
            inner: self.warehouse.catalog(),
            faults: Mutex::new(faults.into_iter().collect()),
        };
        self.warehouse.clone().with_catalog(Arc::new(catalog))
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
    ) -> Result<Table, CommitError> {
        let fault = self.faults.lock().unwrap().pop_front();
        let lost = || CommitError::unknown(ident, "the connection broke");
        match fault {
            Some(Fault::LostRequest) => return Err(lost()),
            Some(Fault::Refused) => return Err(CommitError::failed(ident, "out of order")),
            Some(Fault::LostAnswer) => {
                self.inner
                    .commit(ident, requirements, updates, fence)
                    .await?;
                return Err(lost());
            }
            Some(Fault::Before(other)) => other.await,
            None => {}
        }
        self.inner.commit(ident, requirements, updates, fence).await
    }

    async fn compare_and_set_namespace(
        &self,
        namespace: &NamespaceIdent,
        expected: Properties<'_>,
        set: Properties<'_>,
    ) -> Result<(), LakeError> {
        self.inner
            .compare_and_set_namespace(namespace, expected, set)
            .await
    }
}

#[async_trait]
impl Catalog for FaultyCatalog {
    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> iceberg::Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<Namespace> {
        self.inner.create_namespace(namespace, properties).await
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<Namespace> {
        self.inner.get_namespace(namespace).await
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> iceberg::Result<bool> {
        self.inner.namespace_exists(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<()> {
        self.inner.update_namespace(namespace, properties).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<()> {
        self.inner.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> iceberg::Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> iceberg::Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn load_table(&self, table: &TableIdent) -> iceberg::Result<Table> {
        self.inner.load_table(table).await
    }

    async fn drop_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        self.inner.drop_table(table).await
    }

    async fn purge_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        self.inner.purge_table(table).await
    }

    async fn table_exists(&self, table: &TableIdent) -> iceberg::Result<bool> {
        self.inner.table_exists(table).await
    }

    async fn rename_table(&self, src: &TableIdent, dest: &TableIdent) -> iceberg::Result<()> {
        self.inner.rename_table(src, dest).await
    }

    async fn register_table(
        &self,
        table: &TableIdent,
        metadata_location: String,
    ) -> iceberg::Result<Table> {
        self.inner.register_table(table, metadata_location).await
    }

    async fn update_table(&self, commit: TableCommit) -> iceberg::Result<Table> {
        self.inner.update_table(commit).await
    }
}

fn snapshots(table: &Table) -> usize {
    table.metadata().snapshots().len()
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_the_commit_id() {
    let lake = Lake::with_table().await;
    let warehouse = lake.with_faults([Fault::LostAnswer]);
    let files = lake.files(&[&["a"]]).await;
    let table = Commit::append(files)
        .run(&warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(snapshots(&table), 1);
    assert_eq!(scanned(&lake.base().await).await, ["aA"]);
}

#[tokio::test]
async fn a_lost_answer_is_found_below_later_commits() {
    let lake = Lake::with_table().await;
    let (other, ident) = (lake.warehouse.clone(), lake.ident());
    let theirs = lake.files(&[&["b"]]).await;
    // The first try is lost after it took effect; then another writer comes; then it is looked for.
    let warehouse = lake.with_faults([Fault::LostAnswer]);
    let files = lake.files(&[&["a"]]).await;
    let commit = Commit::append(files).with_commit_id(uuid::Uuid::from_u128(7));
    commit.run(&warehouse, &ident).await.unwrap();
    Commit::append(theirs).run(&other, &ident).await.unwrap();
    let again = Commit::append(Vec::new()).with_commit_id(uuid::Uuid::from_u128(7));
    let table = again.run(&warehouse, &ident).await.unwrap();
    assert_eq!(snapshots(&table), 2);
    assert_eq!(scanned(&table).await, ["aA", "bB"]);
}

#[tokio::test]
async fn a_lost_request_is_sent_again() {
    let lake = Lake::with_table().await;
    let warehouse = lake.with_faults([Fault::LostRequest, Fault::LostRequest]);
    let files = lake.files(&[&["a"]]).await;
    let table = Commit::append(files)
        .run(&warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(snapshots(&table), 1);
    assert_eq!(scanned(&table).await, ["aA"]);
}

#[tokio::test]
async fn what_reading_again_does_not_tell_stays_unknown() {
    let lake = Lake::with_table().await;
    let retry = RetryPolicy {
        attempts: 1,
        ..RetryPolicy::default()
    };
    let warehouse = lake.with_faults([Fault::LostRequest]);
    let commit = Commit::append(lake.files(&[&["a"]]).await).with_retry(retry);
    let error = commit.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Unknown);

    let warehouse = lake.with_faults([Fault::LostRequest, Fault::Refused]);
    let commit = Commit::append(lake.files(&[&["a"]]).await);
    let error = commit.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Unknown);
}

#[tokio::test]
async fn a_refused_commit_leaves_no_metadata_behind() {
    let lake = Lake::with_table().await;
    let files = lake.files(&[&["a"]]).await;
    let before = lake.on_disk();
    let warehouse = lake.with_faults([Fault::Refused]);
    let error = Commit::append(files)
        .run(&warehouse, &lake.ident())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Failed);
    assert_eq!(lake.on_disk(), before);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_not_made_twice() {
    let lake = Lake::with_table().await;
    let warehouse = lake.with_faults([Fault::LostAnswer, Fault::LostRequest, Fault::LostAnswer]);
    let table = lake.pair().await;
    let evolution = table
        .schema
        .evolve(&definition(&[("a", "string"), ("b", "long")]))
        .unwrap();
    let pair = warehouse
        .evolve(&lake.gateway, &evolution, None)
        .await
        .unwrap();
    assert_eq!(*pair.schema, evolution.schema);
    for table in [&pair.log, &pair.base] {
        assert_eq!(table.metadata().schemas_iter().len(), 2);
        assert!(
            table
                .metadata()
                .current_schema()
                .field_by_name("b")
                .is_some()
        );
    }
}

#[tokio::test]
async fn the_log_evolves_before_the_base() {
    let lake = Lake::with_table().await;
    let nothing = Fault::Before(Box::pin(std::future::ready(())));
    let warehouse = lake.with_faults([nothing, Fault::Refused]);
    let schema = lake.pair().await.schema;
    let evolution = schema.evolve(&definition(&[("b", "long")])).unwrap();
    let evolved = warehouse.evolve(&lake.gateway, &evolution, None).await;
    evolved.unwrap_err();
    let catalog = lake.warehouse.catalog();
    let mut versions = Vec::new();
    for kind in [Kind::Log, Kind::Base] {
        let ident = kind.ident(&lake.gateway, &name("t"));
        let table = catalog.load_table(&ident).await.unwrap();
        versions.push(stored_schema(&table).unwrap().version);
    }
    assert_eq!(versions, [2, 1]);
    let pair = lake.pair().await;
    assert_eq!(stored_schema(&pair.base).unwrap(), evolution.schema);
}

#[tokio::test]
async fn a_writer_that_was_taken_over_cannot_commit() {
    let lake = Lake::with_table().await;
    let fence = |token: &str| Fence {
        namespace: lake.gateway.clone(),
        token: token.to_owned(),
    };
    let (old, new) = (fence("old"), fence("new"));
    let set = |expected, token| {
        let (expected, set) = ([(FENCE, expected)], [(FENCE, Some(token))]);
        let warehouse = lake.warehouse.clone();
        let gateway = lake.gateway.clone();
        async move {
            warehouse
                .set_namespace_properties(&gateway, &expected, &set)
                .await
        }
    };
    // Nobody holds it yet.
    let commit = Commit::append(lake.files(&[&["x"]]).await).with_fence(&old);
    let error = commit
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Fenced);

    set(None, "old").await.unwrap();
    let commit = Commit::append(lake.files(&[&["a"]]).await).with_fence(&old);
    commit.run(&lake.warehouse, &lake.ident()).await.unwrap();
    let error = set(None, "new").await.unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::Conflict);

    // It is taken over while the old holder commits.
    let files = lake.files(&[&["b"]]).await;
    let before = lake.on_disk();
    let takeover = set(Some("old"), "new");
    let takeover = Fault::Before(Box::pin(async move { takeover.await.unwrap() }));
    let warehouse = lake.with_faults([takeover]);
    let commit = Commit::append(files.clone()).with_fence(&old);
    let error = commit.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Fenced);
    assert!(error.to_string().contains("public"), "{error}");
    assert_eq!(lake.on_disk(), before, "nothing of it stays");
    let commit = Commit::append(files).with_fence(&new);
    let table = commit.run(&lake.warehouse, &lake.ident()).await.unwrap();
    assert_eq!(scanned(&table).await, ["aA", "bB"]);

    let evolution = lake
        .pair()
        .await
        .schema
        .evolve(&definition(&[("b", "long")]))
        .unwrap();
    let evolved = lake
        .warehouse
        .evolve(&lake.gateway, &evolution, Some(&old))
        .await;
    assert_eq!(evolved.unwrap_err().kind(), LakeErrorKind::Fenced);
}
