//! Requests that this server makes itself: key sets and webhooks.
//!
//! **Invariant:** each is bounded in time and in bytes and goes to the configured address only: no redirect is followed.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;

use crate::host::{is_private, is_this_machine};

/// An agent for one configured address. `timeout` is for a whole exchange, the connection included.
pub(crate) fn agent(url: &str, timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("lakesync/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(timeout));
    // A proxy cannot reach this machine's own loopback; elsewhere the environment's proxy is respected.
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host);
    let config = match host.is_some_and(is_this_machine) {
        true => config.proxy(None),
        false => config,
    };
    config.build().into()
}

/// Whether the address is one that [`agent`] can ask.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let uri = url.parse::<Uri>();
    match (host, uri) {
        (Some(host), Ok(uri)) if !host.is_empty() && uri.host().is_some() => Ok(()),
        _ => Err("it must be an address that begins with https:// or http://".to_owned()),
    }
}

/// Whether the address is one whose answer may be believed: what comes in the clear over a public network may be
/// anybody's.
pub(crate) fn check_trusted_url(url: &str) -> Result<(), String> {
    check_url(url)?;
    let uri = url.parse::<Uri>().map_err(|error| error.to_string())?;
    let clear = uri.scheme_str() != Some("https");
    match clear && !uri.host().is_some_and(is_private) {
        true => Err(
            "over http:// anybody on the way can put keys of their own in the answer: use https://, a `jwks` file, or \
             a host of this machine or of a private network (a private address, a name without a dot, or one that \
             ends in .local or .internal)"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

/// The scheme and the host of an address, for logs: its path and its query may hold what lets in.
pub(crate) fn shown(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    let shown = uri.and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.host()?)));
    shown.unwrap_or_else(|| "***".to_owned())
}

/// Reads to the end, or refuses at more than `bytes_max` bytes.
pub(crate) fn read_bounded(source: impl Read, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = source.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| ReadError::Failed(error.to_string()))?;
    match bytes.len() > bytes_max {
        true => Err(ReadError::TooLarge(bytes_max)),
        false => Ok(bytes),
    }
}

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It holds more.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    /// It broke off, or could not be read.
    #[error("{0}")]
    Failed(String),
}

/// A server for tests, on a port of its own, that answers as it is told and keeps what it was asked.
#[cfg(test)]
pub(crate) mod scripted {
    use std::collections::BTreeMap;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread::{self, JoinHandle};

    /// A request as it came.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Request {
        pub(crate) head: String,
        pub(crate) headers: BTreeMap<String, String>,
        pub(crate) body: String,
    }

    /// A status line's end, perhaps more header lines, and the body.
    pub(crate) type Answer = (String, Vec<u8>);

    /// The server. It ends with this handle.
    pub(crate) struct Server {
        address: SocketAddr,
        requests: Arc<Mutex<Vec<Request>>>,
        stopped: Arc<AtomicBool>,
        accepting: Option<JoinHandle<()>>,
    }

    impl Server {
        /// Answers each request by `answer`, which is given it and how many came before.
        pub(crate) fn start(
            answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
        ) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (requests, stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
            let (seen, end) = (Arc::clone(&requests), Arc::clone(&stopped));
            let answer = Arc::new(answer);
            let accepting = thread::spawn(move || {
                for socket in listener.incoming() {
                    if end.load(Ordering::SeqCst) {
                        break;
                    }
                    let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                    thread::spawn(move || exchange(socket.unwrap(), &seen, &*answer));
                }
            });
            Self {
                address,
                requests,
                stopped,
                accepting: Some(accepting),
            }
        }

        pub(crate) fn url(&self) -> String {
            format!("http://{}/hook", self.address)
        }

        pub(crate) fn requests(&self) -> Vec<Request> {
            self.requests.lock().unwrap().clone()
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.stopped.store(true, Ordering::SeqCst);
            // The loop is in `accept`: a last connection wakes it.
            drop(TcpStream::connect(self.address));
            if let Some(accepting) = self.accepting.take() {
                accepting.join().unwrap();
            }
        }
    }

    fn exchange(
        socket: TcpStream,
        seen: &Mutex<Vec<Request>>,
        answer: &dyn Fn(&Request, usize) -> Answer,
    ) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let Some(request) = read(&mut reader) else {
            return;
        };
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let (status, body) = answer(&request, before);
        let n = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {n}\r\nConnection: close\r\n\r\n");
        let mut socket = socket;
        // A client may leave before the end.
        let _ = socket.write_all(head.as_bytes());
        let _ = socket.write_all(&body);
    }

    fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut request = Request::default();
        reader.read_line(&mut request.head).ok()?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            let name = name.to_ascii_lowercase();
            request.headers.insert(name, value.to_owned());
        }
        let length = request.headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        request.body = String::from_utf8(body).unwrap();
        (!request.head.is_empty()).then_some(request)
    }
}
