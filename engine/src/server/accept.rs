//! How connections are taken: without delay, and given up when their peer takes nothing.
//!
//! **Invariant:** every connection goes through the front's patience, beneath TLS.

use std::future::{Ready, ready};
use std::io;

use axum_server::accept::Accept;
use lakesync_gateway::http::{Front, Patient};
use tokio::net::TcpStream;

/// Makes connections of the front's.
#[derive(Clone, Debug)]
pub(super) struct PatientAcceptor(pub(super) Front);

impl<S> Accept<TcpStream, S> for PatientAcceptor {
    type Stream = Patient<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let made = stream.set_nodelay(true);
        ready(made.map(|()| (self.0.patient(stream), service)))
    }
}
