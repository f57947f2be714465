//! HTTP with JSON bodies.
//!
//! Invariant: every exchange is bounded, in bytes and in time. A gateway that hangs or floods costs an error.

use std::io::Read;
use std::time::Duration;

use lakesync_proto::{
    GatewayId, PullPage, Push, PushAck, Schemas, TableDefinition, TableSchema, decode_ack_json,
    decode_page_json, encode_push_json,
};
use serde_json::Value as Json;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::transport::{Pull, Refusal, Transport, TransportError};

/// Longest answer that is read, in bytes: a page of ordinary rows is a hundredth of it.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest text kept of an error answer that is no JSON, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// A gateway behind HTTP.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    agent: Agent,
    base_url: String,
    gateway: GatewayId,
    token: Option<String>,
}

/// How long an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// For the whole exchange, the connection included.
    pub exchange: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 60 s for the whole: twice what a gateway gives itself to answer.
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            exchange: Duration::from_secs(60),
        }
    }
}

impl HttpTransport {
    /// The gateway `gateway` of the server at `base_url`, such as `http://127.0.0.1:4400`.
    ///
    /// # Errors
    /// [`TransportError::Address`] when the URL is none that this transport speaks.
    pub fn new(base_url: &str, gateway: GatewayId) -> Result<HttpTransport, TransportError> {
        let address = |reason| TransportError::Address {
            url: base_url.to_owned(),
            reason,
        };
        let host = base_url
            .strip_prefix("http://")
            .ok_or_else(|| address("it must start with http://"))?;
        if host.trim_matches('/').is_empty() || host.contains(['?', '#']) {
            return Err(address("it must be a host and a port, and perhaps a path"));
        }
        Ok(HttpTransport {
            agent: agent(Timeouts::default(), host),
            base_url: base_url.trim_end_matches('/').to_owned(),
            gateway,
            token: None,
        })
    }

    /// Presents this bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> HttpTransport {
        self.token = Some(token.to_owned());
        self
    }

    /// Waits this long instead of the default.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> HttpTransport {
        let host = self.base_url.trim_start_matches("http://");
        self.agent = agent(timeouts, host);
        self
    }

    fn get(&self, path: &str) -> Result<Answer, TransportError> {
        let url = format!("{}{path}", self.base_url);
        let mut request = self.agent.get(&url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        answer(url, request.call())
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Answer, TransportError> {
        let url = format!("{}{path}", self.base_url);
        let mut request = self
            .agent
            .post(&url)
            .header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        answer(url, request.send(body))
    }
}

impl Transport for HttpTransport {
    fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
        let answer = self.post(
            &format!("/v1/sync/{}/push", self.gateway),
            &encode_push_json(push),
        )?;
        Ok(decode_ack_json(&answer.body)?)
    }

    fn pull(&self, pull: &Pull, schemas: &dyn Schemas) -> Result<PullPage, TransportError> {
        let (since, limit) = (pull.since, pull.limit);
        let client_id = percent_encode(pull.client_id.as_str());
        let answer = self.get(&format!(
            "/v1/sync/{}/pull?since={since}&clientId={client_id}&limit={limit}",
            self.gateway
        ))?;
        Ok(decode_page_json(&answer.body, schemas)?)
    }

    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> {
        let answer = self.get(&format!("/v1/sync/{}/schema", self.gateway))?;
        let unreadable = |reason: String| TransportError::Answer {
            url: answer.url.clone(),
            reason,
        };
        let json: Json =
            serde_json::from_slice(&answer.body).map_err(|error| unreadable(error.to_string()))?;
        let tables = json["tables"]
            .as_array()
            .ok_or_else(|| unreadable("it has no list of tables".to_owned()))?;
        tables
            .iter()
            .map(|table| {
                TableSchema::from_json(&table.to_string())
                    .map_err(|error| unreadable(error.to_string()))
            })
            .collect()
    }

    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError> {
        let path = format!("/v1/admin/schema/{}", self.gateway);
        let body = serde_json::to_vec(definition).expect("a table definition is plain JSON");
        self.post(&path, &body).map(|_| ())
    }
}

/// The body of a 2xx answer.
struct Answer {
    url: String,
    body: Vec<u8>,
}

fn agent(timeouts: Timeouts, host: &str) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(timeouts.connect))
        .timeout_global(Some(timeouts.exchange));
    // A proxy cannot reach this machine's own loopback; elsewhere the environment's proxy is respected.
    let loopback = ["127.", "localhost", "[::1]"]
        .iter()
        .any(|own| host.starts_with(own));
    let config = if loopback { config.proxy(None) } else { config };
    config.build().into()
}

fn answer(
    url: String,
    response: Result<Response<Body>, ureq::Error>,
) -> Result<Answer, TransportError> {
    let mut response = match response {
        Ok(response) => response,
        Err(source) => return Err(unreachable(url, source)),
    };
    let mut body = Vec::new();
    let read = response
        .body_mut()
        .as_reader()
        .take(ANSWER_BYTES_MAX + 1)
        .read_to_end(&mut body);
    if let Err(source) = read {
        return Err(unreachable(url, source));
    }
    if u64::try_from(body.len()).is_ok_and(|bytes| bytes > ANSWER_BYTES_MAX) {
        let limit_bytes = ANSWER_BYTES_MAX;
        return Err(TransportError::TooLong { url, limit_bytes });
    }
    if response.status().is_success() {
        return Ok(Answer { url, body });
    }
    Err(TransportError::Refused(Box::new(refusal(&response, &body))))
}

fn unreachable(
    url: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TransportError {
    let source = source.into();
    TransportError::Unreachable { url, source }
}

/// `{"error", "code", "requestId"?, "index"?}`, or whatever a proxy in between has to say.
fn refusal(response: &Response<Body>, body: &[u8]) -> Refusal {
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let json: Json = serde_json::from_slice(body).unwrap_or(Json::Null);
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    Refusal {
        status: response.status().as_u16(),
        code: text("code").unwrap_or_default(),
        message: text("error").unwrap_or_else(|| shortened(body)),
        index: json["index"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok()),
        request_id: text("requestId").or_else(|| header("X-Request-Id").map(str::to_owned)),
        retry_after: header("Retry-After")
            .and_then(|s| s.parse().ok())
            .map(Duration::from_secs),
    }
}

fn shortened(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .take(TEXT_CHARS_MAX)
        .collect();
    if text.trim().is_empty() {
        "an answer without a text".to_owned()
    } else {
        text
    }
}

/// For a value in a query string: everything but letters, digits and `-._~` (RFC 3986).
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
