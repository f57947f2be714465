//! `lakesync serve`: the gateways' routes and SQL over HTTP, on one listener.
//!
//! | route | does |
//! |---|---|
//! | the gateway's | see [`lakesync_gateway::http`] |
//! | `POST /v1/sql` | one statement that reads; body `{"sql": "…", "gateway"?: "…"}` |
//! | `POST /v1/admin/sql` | one statement that may also be `INSERT` or `CALL` |
//!
//! **Invariant:** without authentication the listener is on loopback only, and pages of other sites are refused.

mod guard;
mod rows;
mod sql;
mod tls;

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::post;
use lakesync_gateway::http::router as gateway_router;
use tokio::net::TcpListener;

use crate::error::{Error, Result};
use crate::lake::Lake;

pub(crate) use rows::ARROW_STREAM;

/// Every route of a lake's server.
pub fn router(lake: &Lake) -> Router {
    let gateways = lake.registry().clone();
    let routes = Router::new()
        .route("/v1/sql", post(sql::read))
        .route("/v1/admin/sql", post(sql::write))
        .with_state(lake.clone())
        .layer(axum::Extension(lakesync_gateway::auth::Identity::anyone()))
        .merge(gateway_router(gateways));
    guard::guarded(routes)
}

/// A bound listener: its address is known before it serves.
#[derive(Debug)]
pub struct Server {
    lake: Lake,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds `address` (port 0 picks a free one) and writes the URL into the directory's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the address is not loopback or is taken.
    pub async fn bind(lake: Lake, address: SocketAddr) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::Invalid(format!(
                "{address} can be reached from other machines, and this server has no authentication yet; listen on \
                 127.0.0.1 and put a proxy that authenticates before it"
            )));
        }
        let bound = TcpListener::bind(address)
            .await
            .and_then(|l| l.local_addr().map(|a| (l, a)));
        let (listener, address) = bound.map_err(|error| {
            Error::Invalid(format!(
                "cannot listen on {address}: {error}; choose another with --listen"
            ))
        })?;
        let server = Self {
            lake,
            listener,
            address,
        };
        server.lake.directory().say(Some(&server.url()))?;
        Ok(server)
    }

    /// The base URL, such as `http://127.0.0.1:7420`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `stop` resolves, then finishes the requests that are under way.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let served = axum::serve(self.listener, router(&self.lake))
            .with_graceful_shutdown(stop)
            .await;
        self.lake.directory().say(None)?;
        served.map_err(|error| Error::Invalid(format!("the server stopped: {error}")))
    }
}
