//! A gateway behind its routes on a real socket, for the tests of this module.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum::serve::{IncomingStream, Listener};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, GatewayId, Hlc, ManualClock, Op, Push, RowDelta,
    RowId, Seq, TableDefinition, TableName, Value, WallClock,
};
use lakesync_providers::lake::Warehouse;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{Front, Gateways, HttpConfig, Patient};
use crate::auth::{AuthConfig, Authenticator, MintClaims, Role, Secret, mint};
use crate::gateway::Gateway;
use crate::registry::GatewayFolder;
use crate::{GatewayConfig, PressureLimits};

pub(super) const NOW_MS: u64 = 1_700_000_000_000;
const SECRET: &str = "a secret that is long enough for this test";

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One gateway `g` with a table `todos (title string)`.
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) front: Front,
    gateways: Gateways,
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
    folder: TempDir,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: ureq::http::HeaderMap,
    pub(super) bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Json {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| Json::String(String::from_utf8_lossy(&self.bytes).into_owned()))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (self.status, text("code"), text("error"))
    }
}

impl World {
    pub(super) async fn open() -> Self {
        Self::with(HttpConfig::default(), None).await
    }

    pub(super) async fn secured() -> Self {
        Self::with(HttpConfig::default(), Some(authenticator())).await
    }

    pub(super) async fn with(
        config: HttpConfig,
        authenticator: Option<Arc<Authenticator>>,
    ) -> Self {
        Self::with_routes(config, authenticator, Router::new()).await
    }

    pub(super) async fn with_routes(
        config: HttpConfig,
        authenticator: Option<Arc<Authenticator>>,
        own: Router,
    ) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), config, authenticator, own).await
    }

    /// The same lake after a new start of the process, which has forgotten what was only in memory.
    pub(super) async fn started_again(mut self) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let config = HttpConfig::default();
        Self::in_folder(folder, config, Some(authenticator()), Router::new()).await
    }

    async fn in_folder(
        folder: TempDir,
        config: HttpConfig,
        authenticator: Option<Arc<Authenticator>>,
        own: Router,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let warehouse = Warehouse::open_local(folder.path()).await.unwrap();
        let databases = folder.path().join("gateways");
        std::fs::create_dir_all(&databases).unwrap();
        let gateways = Gateways::in_folder(
            GatewayFolder {
                warehouse,
                folder: databases,
                clock: Arc::clone(&clock) as Arc<dyn WallClock>,
                lock: None,
                config: GatewayConfig::default(),
                overrides: BTreeMap::new(),
            },
            PressureLimits::of_process(),
        );
        let gateway = gateways
            .create(GatewayId::parse("g").unwrap())
            .await
            .unwrap();
        let definition = br#"{"table":"todos","columns":[{"name":"title","type":"string"}]}"#;
        let definition = TableDefinition::from_json(definition).unwrap();
        if gateway.live().views().tables.is_empty() {
            gateway.put_schema(&definition).await.unwrap();
        }
        let front = Front::new(
            gateways.clone(),
            config,
            authenticator,
            Arc::clone(&clock) as Arc<dyn WallClock>,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = front.router(own).layer(map_request(with_address));
        let listener = Listening(listener, front.clone());
        let serving = tokio::spawn(async move {
            let routes = routes.into_make_service_with_connect_info::<Peer>();
            axum::serve(listener, routes).await.unwrap();
        });
        Self {
            clock,
            front,
            gateways,
            address,
            serving,
            folder,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a second gateway.
    pub(super) async fn create(&self, id: GatewayId) {
        self.gateways.create(id).await.unwrap();
    }

    pub(super) fn gateway(&self) -> Arc<Gateway> {
        self.gateways.get("g").unwrap()
    }

    /// A turn of `client` at reading whole tables of `g`, as its requests take it.
    pub(super) fn reader(&self, client: &str) -> Result<impl Sized, crate::Error> {
        let mut identity = crate::auth::Identity::anyone();
        identity.subject = Some(ClientId::parse(client).unwrap());
        let caller = super::security::Caller {
            identity: Arc::new(identity),
            gateway: self.gateway(),
            rate_key: client.into(),
        };
        self.front.reader(&caller)
    }

    /// Pushes an INSERT of each row, past the routes.
    pub(super) async fn push(&self, client: &str, rows: &[&str]) {
        self.gateway().push(push(client, rows)).await.unwrap();
    }

    pub(super) async fn ask(&self, request: ureq::http::Request<Vec<u8>>) -> Answer {
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("http://{}{}", self.address, parts.uri)
            .parse()
            .unwrap();
        let request = ureq::http::Request::from_parts(parts, body);
        tokio::task::spawn_blocking(move || {
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .allow_non_standard_methods(true);
            let agent: ureq::Agent = config.build().into();
            let mut answer = agent.run(request).unwrap();
            Answer {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                bytes: answer.body_mut().read_to_vec().unwrap(),
            }
        })
        .await
        .unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask(request("GET", path, &[])).await
    }

    pub(super) async fn get_as(&self, path: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.ask(request("GET", path, &[("authorization", &bearer)]))
            .await
    }

    pub(super) async fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.ask(request("POST", path, &[]).map(|_| body.to_vec()))
            .await
    }

    /// Opens a WebSocket, or tells the status that was answered instead.
    pub(super) async fn connect(&self, path: &str) -> Result<Socket, u16> {
        use tokio_tungstenite::tungstenite::Error;
        let url = format!("ws://{}{path}", self.address);
        match tokio_tungstenite::connect_async(url).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A token of `subject` for the gateways `names`, for an hour.
    pub(super) fn token(&self, subject: &str, role: Role, names: &[&str]) -> String {
        self.token_until(subject, role, names, 3_600)
    }

    pub(super) fn token_until(
        &self,
        subject: &str,
        role: Role,
        names: &[&str],
        ttl_s: u64,
    ) -> String {
        let names = names.iter().map(|name| GatewayId::parse(name).unwrap());
        let now_s = self.clock.now_ms() / 1_000;
        let claims = MintClaims::new(
            ClientId::parse(subject).unwrap(),
            names.collect(),
            role,
            now_s,
            now_s + ttl_s,
        );
        mint(&secret(), &claims)
    }
}

/// A listener whose connections are [`Patient`], as a server's are.
struct Listening(TcpListener, Front);

impl Listener for Listening {
    type Io = Patient<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address) = self.0.accept().await.unwrap();
        (self.1.patient(stream), address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Where a connection comes from.
#[derive(Clone)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Listening>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listening>) -> Self {
        Self(*stream.remote_addr())
    }
}

async fn with_address(mut request: Request) -> Request {
    if let Some(ConnectInfo(Peer(address))) = request.extensions_mut().remove() {
        request.extensions_mut().insert(ConnectInfo(address));
    }
    request
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(super) fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

pub(super) fn authenticator() -> Arc<Authenticator> {
    let config = AuthConfig {
        hs256: vec![secret()],
        ..AuthConfig::default()
    };
    Arc::new(Authenticator::new(config).unwrap())
}

pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> ureq::http::Request<Vec<u8>> {
    let request = ureq::http::Request::builder().method(method).uri(path);
    headers
        .iter()
        .fold(request, |request, (name, value)| {
            request.header(*name, *value)
        })
        .body(Vec::new())
        .unwrap()
}

/// A push that INSERTs each row, stamped in the order of the list.
pub(super) fn push(client: &str, rows: &[&str]) -> Push {
    let client = ClientId::parse(client).unwrap();
    let delta = |(nth, row): (usize, &&str)| {
        let counter = u16::try_from(nth).unwrap();
        let key = DeltaKey {
            table: TableName::parse("todos").unwrap(),
            row_id: RowId::parse(row).unwrap(),
            client_id: client.clone(),
            hlc: Hlc::new(NOW_MS, counter).unwrap(),
        };
        let change = ColumnChange {
            column: ColumnName::parse("title").unwrap(),
            value: Value::from(format!("{row} of {client}")),
        };
        RowDelta::new(Op::Insert, key, vec![change])
    };
    Push {
        client_id: client.clone(),
        deltas: rows.iter().enumerate().map(delta).collect(),
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

/// The next binary message.
pub(super) async fn binary(socket: &mut Socket) -> Vec<u8> {
    use futures::StreamExt as _;
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => return bytes.to_vec(),
            Message::Ping(_) | Message::Pong(_) => {}
            message => panic!("{message:?}"),
        }
    }
}

/// The close that comes next, whatever comes before it.
pub(super) async fn closed(socket: &mut Socket) -> (u16, String) {
    use futures::StreamExt as _;
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Close(Some(close))) => {
                return (close.code.into(), close.reason.to_string());
            }
            Ok(_) => {}
            Err(error) => panic!("no close: {error}"),
        }
    }
    panic!("no close")
}
