//! How connections are taken: as many as there are places for, and given up when their peer takes nothing.
//!
//! **Invariant:** every connection holds a place and goes through the front's patience, beneath TLS.

use std::future::{Ready, ready};
use std::io;

use axum_server::accept::Accept;
use lakesync_gateway::http::{Front, Patient};
use tokio::net::TcpStream;

use super::connections::{Held, Limited};

/// Makes connections of the front's.
#[derive(Clone, Debug)]
pub(super) struct PatientAcceptor {
    pub(super) front: Front,
    pub(super) places: Limited,
}

impl<S> Accept<TcpStream, S> for PatientAcceptor {
    type Stream = Patient<Held>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let held = self.places.accept(stream, service).into_inner();
        ready(held.map(|(held, service)| (self.front.patient(held), service)))
    }
}
