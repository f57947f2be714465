//! `lakesync serve`: the gateways' routes and SQL over HTTP, on one listener.
//!
//! | route | does | role |
//! |---|---|---|
//! | the gateway's | see [`lakesync_gateway::http`] | |
//! | `POST /v1/sql` | one statement that reads; body `{"sql": "…", "gateway"?: "…"}` | reader |
//! | `POST /v1/admin/sql` | one statement that may also be `INSERT` or `CALL` | admin |
//! | `POST /v1/admin/maintenance/{g}/pause`, `…/resume` | the scheduler leaves tables alone, or not | admin |
//!
//! **Invariant:** without authentication the listener is on loopback only, and pages of other sites are refused.

mod accept;
mod connections;
mod maintenance;
mod rows;
mod sql;
mod statements;
mod tls;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use lakesync_gateway::auth::{AuthConfig, Authenticator};
use lakesync_gateway::http::{Front, HttpConfig};

use accept::PatientAcceptor;

use crate::config::TlsFiles;
use crate::error::{Error, Result};
use crate::lake::Lake;

pub use statements::StatementLimits;

pub(crate) use rows::ARROW_STREAM;

use connections::Limited;
use sql::Sql;
use statements::Statements;

/// How often an HTTP/2 connection that says nothing is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);

/// How a lake is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The certificate and its key; none serves plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How tokens are checked; none lets only this machine ask.
    pub auth: Option<AuthConfig>,
    /// The limits of the routes.
    pub http: HttpConfig,
    /// How long a stop waits for requests that are under way.
    pub drain: Duration,
    /// How long a connection may take to send the head of a request, the first or the next: one that says nothing holds
    /// a descriptor.
    pub idle: Duration,
    /// How many TCP connections are open at most.
    pub tcp_connections: usize,
    /// How many statements run, and for how long.
    pub statements: StatementLimits,
}

impl ServeOptions {
    /// The defaults, at `listen`: plain HTTP, no authentication.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            auth: None,
            http: HttpConfig::default(),
            drain: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            tcp_connections: 10_000,
            statements: StatementLimits::default(),
        }
    }
}

/// A bound listener: its address is known before it serves.
pub struct Server {
    lake: Lake,
    front: Front,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    drain: Duration,
    idle: Duration,
    connections: Limited,
    sql: Sql,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// As [`Server::bind_with`], with the defaults at `address`.
    ///
    /// # Errors
    /// As [`Server::bind_with`].
    pub async fn bind(lake: Lake, address: SocketAddr) -> Result<Self> {
        Self::bind_with(lake, ServeOptions::at(address)).await
    }

    /// Binds the address and writes the URL into the directory's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the address is taken, other machines reach it and there is no authentication, or a
    /// certificate or key cannot be used.
    #[expect(
        clippy::unused_async,
        reason = "only inside a runtime is there something to serve with"
    )]
    pub async fn bind_with(lake: Lake, options: ServeOptions) -> Result<Self> {
        let listen = options.listen;
        if options.auth.is_none() && !listen.ip().is_loopback() {
            return Err(Error::Invalid(format!(
                "{listen} can be reached from other machines, and nothing says who may ask; configure [auth] (see \
                 `lakesync config`), or listen on 127.0.0.1 and put a proxy that authenticates before it"
            )));
        }
        let tls = options.tls.as_ref().map(tls::server_config).transpose()?;
        let authenticator = options.auth.map(Authenticator::new).transpose();
        let authenticator = authenticator.map_err(|error| Error::Invalid(error.to_string()))?;
        let bound = TcpListener::bind(listen).and_then(|l| l.local_addr().map(|a| (l, a)));
        let (listener, address) = bound.map_err(|error| {
            Error::Invalid(format!(
                "cannot listen on {listen}: {error}; choose another with --listen"
            ))
        })?;
        let sql = Sql {
            lake: lake.clone(),
            statements: Statements::new(options.statements)?,
            body_timeout: options.http.timeout,
        };
        let front = Front::new(
            lake.registry().clone(),
            options.http,
            authenticator.map(Arc::new),
            Arc::clone(lake.clock()),
        );
        let server = Self {
            lake,
            front,
            listener,
            address,
            tls,
            drain: options.drain,
            idle: options.idle,
            connections: Limited::new(options.tcp_connections),
            sql,
        };
        server.lake.directory().say(Some(&server.url()))?;
        Ok(server)
    }

    /// The base URL by which this machine reaches it, such as `http://127.0.0.1:7420`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut address = self.address;
        match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
                address.set_ip(Ipv4Addr::LOCALHOST.into())
            }
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
                address.set_ip(Ipv6Addr::LOCALHOST.into())
            }
            _ => {}
        }
        format!("{scheme}://{address}")
    }

    /// What makes the routes.
    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// Serves until `stop` resolves, then takes no more requests and finishes those that are under way.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let handle = axum_server::Handle::new();
        let (stopping, front, drain) = (handle.clone(), self.front.clone(), self.drain);
        let lake = self.lake.clone();
        let stopper = tokio::spawn(async move {
            stop.await;
            // As long as the lock names the address it must be ours: tools of this machine send it their tokens.
            let said = lake.directory().say(None);
            front.drain();
            stopping.graceful_shutdown(Some(drain));
            said
        });
        let routes = self.front.router(sql::routes(self.sql));
        let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
        let acceptor = PatientAcceptor {
            front: self.front.clone(),
            places: self.connections,
        };
        let served = async {
            let mut server = axum_server::from_tcp(self.listener)?
                .handle(handle)
                .first_request_timeout(self.idle)
                .accept_error_handler(
                    |peer, error| tracing::debug!(?peer, %error, "a connection was not made"),
                );
            let builder = server.http_builder();
            builder.http1().header_read_timeout(self.idle);
            let mut http2 = builder.http2();
            http2.keep_alive_interval(PING).keep_alive_timeout(PING);
            match self.tls {
                None => server.acceptor(acceptor).serve(routes).await,
                Some(tls) => {
                    let tls = RustlsAcceptor::new(RustlsConfig::from_config(tls));
                    let tls = tls.acceptor(acceptor);
                    server.acceptor(tls).serve(routes).await
                }
            }
        };
        let served: io::Result<()> = served.await;
        stopper.abort();
        self.lake.directory().say(None)?;
        served.map_err(|error| Error::Invalid(format!("the server stopped: {error}")))
    }
}
