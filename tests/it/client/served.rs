//! A gateway behind its real server, and clients that reach it over HTTP.
//!
//! Invariant: everything is as in production but the folder, the port and the wall clocks of the clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lakesync::Lake;
use lakesync::SystemClock;
use lakesync::server::Server;
use lakesync_client::{
    CheckpointRequest, Chunks, GatewayDigest, HttpTransport, LiveConnection, LiveEvents, LocalDb,
    Pull, Subscribe, Transport, TransportError,
};
use lakesync_gateway::{Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, GatewayId, ManualClock, PullPage, Push, PushAck, TableDefinition, TableSchema,
    WallClock,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A table without a key.
pub(super) const TABLE: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"},
    {"name": "done", "type": "boolean"},
    {"name": "n", "type": "long"}
]}"#;

/// A running server. What it tells is for threads that may block.
pub(super) struct Served {
    pub(super) runtime: Handle,
    folder: tempfile::TempDir,
    lake: Lake,
    url: String,
    _stop: oneshot::Sender<()>,
}

impl Served {
    /// Serves a new lake with the table, and tells `story` of it on a thread that may block.
    pub(super) async fn tell(config: GatewayConfig, story: impl FnOnce(Served) + Send + 'static) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::builder(folder.path().join("lake")).with_config(config);
        let lake = lake.open().await.unwrap();
        lake.create_table(TABLE).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(lake.clone(), address).await.unwrap();
        let url = server.url();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.run(async move { drop(stopped.await) }));
        let served = Served {
            runtime: Handle::current(),
            folder,
            lake,
            url,
            _stop: stop,
        };
        tokio::task::spawn_blocking(move || story(served))
            .await
            .unwrap();
        serving.await.unwrap().unwrap();
    }

    pub(super) fn gateway(&self) -> Arc<Gateway> {
        self.lake.gateway("public").unwrap()
    }

    pub(super) fn transport(&self) -> HttpTransport {
        let gateway = GatewayId::parse("public").unwrap();
        HttpTransport::new(&self.url, gateway).unwrap()
    }

    pub(super) fn path(&self, client: &str) -> PathBuf {
        self.folder.path().join(format!("{client}.db"))
    }

    /// The database of a client, at this machine's time.
    pub(super) fn open(&self, client: &str) -> LocalDb {
        self.open_at(client, Arc::new(SystemClock))
    }

    pub(super) fn open_at(&self, client: &str, clock: Arc<dyn WallClock>) -> LocalDb {
        let id = ClientId::parse(client).unwrap();
        let db = LocalDb::open(self.path(client), id, clock).unwrap();
        db.register(&lakesync_tests::schemas::schema(TABLE))
            .unwrap();
        db
    }

    /// A clock that shows this machine's time less `behind_ms`.
    pub(super) fn clock(behind_ms: u64) -> Arc<ManualClock> {
        Arc::new(ManualClock::new(SystemClock.now_ms() - behind_ms))
    }
}

/// What a test does at a push: before it is sent, and to its answer.
pub(super) struct Meddling<'a> {
    pub(super) inner: HttpTransport,
    pub(super) before: Box<dyn Fn() + Send + 'a>,
    pub(super) after: Box<dyn Fn(PushAck) -> Result<PushAck, TransportError> + Send + 'a>,
}

impl<'a> Meddling<'a> {
    pub(super) fn new(inner: HttpTransport) -> Meddling<'a> {
        Meddling {
            inner,
            before: Box::new(|| {}),
            after: Box::new(Ok),
        }
    }
}

impl Transport for Meddling<'_> {
    fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
        (self.before)();
        (self.after)(self.inner.push(push)?)
    }

    fn pull(&self, pull: &Pull) -> Result<PullPage, TransportError> {
        self.inner.pull(pull)
    }

    fn checkpoint(&self, request: &CheckpointRequest) -> Result<Box<dyn Chunks>, TransportError> {
        self.inner.checkpoint(request)
    }

    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> {
        self.inner.schemas()
    }

    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError> {
        self.inner.put_schema(definition)
    }

    fn digest(&self, client_id: &ClientId) -> Result<GatewayDigest, TransportError> {
        self.inner.digest(client_id)
    }

    fn live(
        &self,
        subscribe: &Subscribe,
        events: LiveEvents,
    ) -> Result<Box<dyn LiveConnection>, TransportError> {
        self.inner.live(subscribe, events)
    }

    fn refresh_token(&self) -> bool {
        self.inner.refresh_token()
    }

    fn gateway_ms(&self) -> Option<u64> {
        self.inner.gateway_ms()
    }
}
