//! One request and its answer.
//!
//! Invariant: every exchange is bounded, in bytes and in time. A gateway that hangs or floods costs an error. The clock
//! that is kept belongs to the last exchange, or there is none.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use ureq::{Agent, AsSendBody, Body};

use crate::transport::address::Address;
use crate::transport::answer::{failed, foreign, shown, text};
use crate::transport::credentials::Credentials;
use crate::transport::date::Heard;
use crate::transport::roots::Roots;
use crate::transport::{Refusal, TransportError};

/// Longest answer that is read, in bytes after inflating: a page of ordinary rows is a hundredth of it.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest answer to a refused request that is read, in bytes: an error body has some hundred.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

/// How long an exchange may take in all. A slow line needs minutes for a page; an answer that comes byte by byte must end.
const EXCHANGE_MAX: Duration = Duration::from_secs(600);

/// How long a transport waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// For an answer to begin, once the request is sent. What is large may take longer to come, ten minutes at most; a
    /// checkpoint as long as it takes.
    pub exchange: Duration,
    /// For the next bytes of an answer that has begun; and for a sign of life of a live connection, which is asked for one
    /// when half of this has passed.
    pub silence: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 60 s for an answer to begin: twice what a gateway gives itself to answer. 60 s of silence: a gateway asks
    /// its live connections every 30 s whether they are there.
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            exchange: Duration::from_secs(60),
            silence: Duration::from_secs(60),
        }
    }
}

/// Whether an answer is bounded as a whole, or comes for as long as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Whole,
    Stream,
}

/// What to ask.
pub(super) struct Ask<'a> {
    /// With a slash before it.
    pub(super) path: &'a str,
    /// The content type that the answer must be of.
    pub(super) accept: &'static str,
    pub(super) length: Length,
}

/// What a request carries.
pub(super) struct Content {
    pub(super) content_type: &'static str,
    pub(super) zipped: bool,
    pub(super) bytes: Vec<u8>,
}

/// A successful answer whose body has not been read.
pub(super) struct Opened {
    pub(super) url: String,
    /// Inflated.
    pub(super) body: Box<dyn Read + Send>,
    /// Until when it is read.
    pub(super) until: Deadline,
}

/// Until when an answer is read. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<Instant>>);

/// Reads until its deadline, however slowly the bytes drip, and also when they inflate to nothing.
struct Bounded<R> {
    reader: R,
    until: Deadline,
}

impl Deadline {
    fn begin() -> Deadline {
        Deadline(Arc::new(Mutex::new(Instant::now() + EXCHANGE_MAX)))
    }

    /// The next part of an answer may take as long as a whole exchange.
    pub(super) fn renew(&self) {
        *self.instant() = Instant::now() + EXCHANGE_MAX;
    }

    fn instant(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match Instant::now() < *self.until.instant() {
            true => self.reader.read(buffer),
            false => {
                let text = "the answer comes too slowly";
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }
}

/// What does exchanges with one server.
#[derive(Clone, Debug)]
pub(super) struct Exchanges {
    agent: Agent,
    pub(super) address: Address,
    pub(super) credentials: Credentials,
    #[cfg(any(feature = "live", feature = "tls"))]
    pub(super) timeouts: Timeouts,
    pub(super) roots: Roots,
    heard: Arc<Mutex<Option<Heard>>>,
}

impl Exchanges {
    pub(super) fn new(address: Address, timeouts: Timeouts, roots: Roots) -> Exchanges {
        let agent = agent(&address, timeouts, &roots);
        Exchanges {
            agent,
            address,
            credentials: Credentials::default(),
            #[cfg(any(feature = "live", feature = "tls"))]
            timeouts,
            roots,
            heard: Arc::default(),
        }
    }

    /// The same with other timeouts or roots; the rest stays.
    pub(super) fn rebuilt(self, timeouts: Timeouts, roots: Roots) -> Exchanges {
        Exchanges {
            credentials: self.credentials,
            ..Exchanges::new(self.address, timeouts, roots)
        }
    }

    /// The proxy between here and the server, when there is one.
    #[cfg(feature = "live")]
    pub(super) fn proxy(&self) -> Option<&ureq::Proxy> {
        let proxy = self.agent.config().proxy()?;
        let uri = self.address.url("").parse().ok()?;
        (!proxy.is_no_proxy(&uri)).then_some(proxy)
    }

    /// The clock that the last answer showed, as it is now.
    pub(super) fn gateway_ms(&self) -> Option<u64> {
        self.heard().as_ref().map(Heard::gateway_ms)
    }

    /// Forgets the last answer's clock and takes that of an answer that has just come.
    pub(super) fn hear(&self, head: Option<&HeaderMap>) {
        // An answer out of a cache tells when it was made, not what time it is.
        let fresh = head.filter(|head| !head.contains_key("age"));
        let date = fresh.and_then(|head| text(head, "date"));
        *self.heard() = date.and_then(Heard::now);
    }

    pub(super) fn get(&self, ask: &Ask<'_>) -> Result<Opened, TransportError> {
        self.send(ask, Method::GET, |request| request.body(()))
    }

    pub(super) fn post(&self, ask: &Ask<'_>, content: Content) -> Result<Opened, TransportError> {
        self.send(ask, Method::POST, |request| {
            let request = request.header("Content-Type", content.content_type);
            let request = match content.zipped {
                true => request.header("Content-Encoding", "gzip"),
                false => request,
            };
            request.body(content.bytes)
        })
    }

    fn send<S: AsSendBody>(
        &self,
        ask: &Ask<'_>,
        method: Method,
        finish: impl FnOnce(ureq::http::request::Builder) -> Result<Request<S>, ureq::http::Error>,
    ) -> Result<Opened, TransportError> {
        self.hear(None);
        let url = self.address.url(ask.path);
        let mut request = Request::builder()
            .method(method)
            .uri(&url)
            .header("Accept", ask.accept)
            .header("Accept-Encoding", "gzip");
        if let Some(bearer) = self.credentials.header()? {
            request = request.header("Authorization", bearer);
        }
        let request = finish(request).map_err(|error| unreachable(&url, error))?;
        let request = match ask.length {
            Length::Whole => request,
            Length::Stream => {
                let config = self.agent.configure_request(request);
                config.timeout_global(None).build()
            }
        };
        let answer = self.agent.run(request);
        self.opened(url, ask, answer.map_err(Box::new))
    }

    fn opened(
        &self,
        url: String,
        ask: &Ask<'_>,
        answer: Result<Response<Body>, Box<ureq::Error>>,
    ) -> Result<Opened, TransportError> {
        let (head, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(source) => return Err(unreachable(&url, source)),
        };
        let until = Deadline::begin();
        let reader = Bounded {
            reader: body.into_reader(),
            until: until.clone(),
        };
        let body = inflated(&url, &head.headers, reader)?;
        let opened = Opened { url, body, until };
        if head.status.is_success() {
            return match is_of(&head.headers, ask.accept) {
                true => {
                    self.hear(Some(&head.headers));
                    Ok(opened)
                }
                false => Err(opened.refused(head.status, &head.headers, foreign)),
            };
        }
        let error = opened.refused(head.status, &head.headers, failed);
        if matches!(&error, TransportError::Refused(refusal) if is_gateways(refusal)) {
            self.hear(Some(&head.headers));
        }
        Err(error)
    }

    fn heard(&self) -> MutexGuard<'_, Option<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// The whole body.
    pub(super) fn whole(self) -> Result<(String, Vec<u8>), TransportError> {
        let Opened { url, body, .. } = self;
        let mut bytes = Vec::new();
        let read = body.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes);
        if let Err(source) = read {
            return Err(unreachable(&url, source));
        }
        if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > ANSWER_BYTES_MAX) {
            let limit_bytes = ANSWER_BYTES_MAX;
            return Err(TransportError::TooLong { url, limit_bytes });
        }
        Ok((url, bytes))
    }

    fn refused(
        self,
        status: StatusCode,
        head: &HeaderMap,
        as_error: fn(&str, StatusCode, &HeaderMap, &[u8]) -> TransportError,
    ) -> TransportError {
        let mut bytes = Vec::new();
        // A text that breaks off is still what there is to show.
        let _ = self.body.take(REFUSAL_BYTES_MAX).read_to_end(&mut bytes);
        as_error(&self.url, status, head, &bytes)
    }
}

fn agent(address: &Address, timeouts: Timeouts, roots: &Roots) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("lakesync-client/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.exchange))
        .timeout_per_read(Some(timeouts.silence))
        .timeout_per_write(Some(timeouts.silence))
        .timeout_global(Some(EXCHANGE_MAX));
    // A proxy cannot reach this machine's own loopback; elsewhere the environment's proxy is respected.
    let config = match address.is_loopback() {
        true => config.proxy(None),
        false => config,
    };
    #[cfg(feature = "tls")]
    let config = config.tls_config(roots.for_requests());
    #[cfg(not(feature = "tls"))]
    let _ = roots;
    config.build().into()
}

fn inflated(
    url: &str,
    head: &HeaderMap,
    reader: impl Read + Send + 'static,
) -> Result<Box<dyn Read + Send>, TransportError> {
    match text(head, "content-encoding") {
        None | Some("identity" | "") => Ok(Box::new(reader)),
        Some("gzip" | "x-gzip") => Ok(Box::new(MultiGzDecoder::new(reader))),
        Some(other) => Err(TransportError::Answer {
            url: url.to_owned(),
            reason: format!("it is packed as {}, which nobody asked for", shown(other)),
        }),
    }
}

fn is_of(head: &HeaderMap, wanted: &str) -> bool {
    text(head, "content-type").is_some_and(|of| of.trim_start().starts_with(wanted))
}

/// Whether a gateway said it: a proxy's clock is nobody's concern.
fn is_gateways(refusal: &Refusal) -> bool {
    !refusal.code.is_empty()
}

pub(super) fn unreachable(
    url: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TransportError {
    // What was asked in detail, cursors and ids, tells nobody why there was no answer.
    let place = url.split_once('?').map_or(url, |(place, _)| place);
    TransportError::Unreachable {
        url: place.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members of gzip that hold nothing, without end.
    struct Nothing(std::io::Cursor<Vec<u8>>);

    impl Read for Nothing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => {
                    self.0.set_position(0);
                    self.0.read(buffer)
                }
                bytes => Ok(bytes),
            }
        }
    }

    #[test]
    fn an_answer_that_inflates_to_nothing_without_end_ends() {
        let member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let until = Deadline(Arc::new(Mutex::new(
            Instant::now() + Duration::from_millis(20),
        )));
        let reader = Bounded {
            reader: Nothing(std::io::Cursor::new(member.finish().unwrap())),
            until,
        };
        let mut head = HeaderMap::new();
        head.insert("content-encoding", "gzip".parse().unwrap());
        let mut body = inflated("memory", &head, reader).unwrap();
        let error = body.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
