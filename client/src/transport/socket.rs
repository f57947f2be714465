//! A TCP connection that does not hang, with TLS when the address asks for it.
//!
//! Invariant: until the deadline of its opening, no read or write takes longer than what is left; afterwards none takes
//! longer than its timeout. Once it is closing, reads fail at once, so that whoever reads says goodbye.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::transport::exchange::{Exchanges, unreachable};
use crate::transport::{TransportError, proxy};

/// How long a goodbye may take to be written.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A connection to a server, through its proxy if need be.
pub(super) enum Socket {
    Plain(Timed),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, Timed>>),
}

/// A TCP connection whose reads and writes end in time.
pub(super) struct Timed {
    stream: TcpStream,
    deadline: Option<Instant>,
    closing: Arc<AtomicBool>,
}

/// Ends a connection from another thread.
pub(super) struct Closer {
    stream: TcpStream,
    closing: Arc<AtomicBool>,
}

impl Closer {
    /// Wakes whoever reads. Only its reading half ends here; the goodbye still goes out.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        // One that has gone already needs no waking.
        let _ = self.stream.set_write_timeout(Some(CLOSE_MAX));
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

impl Socket {
    /// Connects, and has done so by `deadline`.
    pub(super) fn open(
        exchanges: &Exchanges,
        url: &str,
        deadline: Instant,
    ) -> Result<(Socket, Arc<Closer>), TransportError> {
        let stream = tcp(exchanges, url, deadline)?;
        let ready = |stream: &TcpStream| {
            stream.set_nodelay(true)?;
            stream.try_clone()
        };
        let closing = Arc::default();
        let closer = Arc::new(Closer {
            stream: ready(&stream).map_err(|source| unreachable(url, source))?,
            closing: Arc::clone(&closing),
        });
        let mut timed = Timed {
            stream,
            deadline: Some(deadline),
            closing,
        };
        if let Some(proxy) = exchanges.proxy() {
            proxy::tunnel(&mut timed, proxy, &exchanges.address.authority())
                .map_err(|source| unreachable(url, source))?;
        }
        let socket = match exchanges.address.is_secure() {
            false => Socket::Plain(timed),
            true => secured(exchanges, url, timed)?,
        };
        Ok((socket, closer))
    }

    /// From now on a read waits this long, and a write as long as an exchange.
    pub(super) fn settle(&mut self, read: Duration, write: Duration) -> io::Result<()> {
        let timed = self.timed();
        timed.deadline = None;
        timed.stream.set_read_timeout(Some(read))?;
        timed.stream.set_write_timeout(Some(write))
    }

    fn timed(&mut self) -> &mut Timed {
        match self {
            Socket::Plain(timed) => timed,
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => &mut stream.sock,
        }
    }
}

#[cfg(feature = "tls")]
fn secured(exchanges: &Exchanges, url: &str, timed: Timed) -> Result<Socket, TransportError> {
    let host = exchanges.address.host().to_owned();
    let name =
        rustls::pki_types::ServerName::try_from(host).map_err(|error| unreachable(url, error))?;
    let connection = rustls::ClientConnection::new(exchanges.roots.for_sockets()?, name)
        .map_err(|error| unreachable(url, error))?;
    let stream = rustls::StreamOwned::new(connection, timed);
    Ok(Socket::Tls(Box::new(stream)))
}

#[cfg(not(feature = "tls"))]
fn secured(_: &Exchanges, url: &str, _: Timed) -> Result<Socket, TransportError> {
    Err(unreachable(url, "this program was built without TLS"))
}

/// A connection to the server or to its proxy: the first of its addresses that answers.
fn tcp(exchanges: &Exchanges, url: &str, deadline: Instant) -> Result<TcpStream, TransportError> {
    let (host, port) = match exchanges.proxy() {
        Some(proxy)
            if proxy.protocol() == ureq::ProxyProtocol::Http && proxy.username().is_none() =>
        {
            (proxy.host(), proxy.port())
        }
        Some(_) => {
            return Err(TransportError::NotLive {
                reason: "the proxy between here and the gateway is of a kind that it cannot go through",
            });
        }
        None => (exchanges.address.host(), exchanges.address.port()),
    };
    let by = deadline.min(Instant::now() + exchanges.timeouts.connect);
    let addresses = addresses((host, port), by).map_err(|source| unreachable(url, source))?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        let connected = left(by).and_then(|left| TcpStream::connect_timeout(&address, left));
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(unreachable(url, failure))
}

/// The addresses of a host. A resolver knows no deadline, so it is asked in a thread of its own, which is left behind when it
/// takes too long, and ends with its answer.
fn addresses((host, port): (&str, u16), by: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (found, answer) = sync_channel(1);
    let host = host.to_owned();
    thread::Builder::new()
        .name("lakesync-dns".to_owned())
        .spawn(move || {
            let addresses = (host.as_str(), port).to_socket_addrs();
            // Nobody may be waiting any more.
            let _ = found.send(addresses.map(Iterator::collect));
        })?;
    let late = |_| {
        let text = "the host's address was not found in time";
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    };
    answer.recv_timeout(left(by)?).unwrap_or_else(late)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the connection was not ready in time",
        )),
        false => Ok(left),
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(deadline) = self.deadline {
            self.stream.set_read_timeout(Some(left(deadline)?))?;
        }
        let read = self.stream.read(buffer)?;
        // The reading half was ended from this side: that is no end of the other.
        match read == 0 && self.closing.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(read),
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            self.stream.set_write_timeout(Some(left(deadline)?))?;
        }
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(timed) => timed.read(buffer),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(timed) => timed.write(buffer),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(timed) => timed.flush(),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.flush(),
        }
    }
}
