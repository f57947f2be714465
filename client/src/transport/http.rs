//! A gateway behind HTTP: protobuf for what there is much of, JSON for the rest.
//!
//! Invariant: what goes over the wire is decided here and nowhere else in the client: paths, types, packing.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use lakesync_proto::{
    ClientId, GatewayId, PullPage, Push, PushAck, TableDefinition, TableName, TableSchema,
    decode_ack_protobuf, decode_page_protobuf, encode_push_protobuf,
};
use serde::Deserialize;

use crate::digest::{GatewayDigest, TableDigest};
#[cfg(feature = "live")]
use crate::sync::Subscribe;
use crate::sync::{CheckpointRequest, Pull};
use crate::transport::address::Address;
use crate::transport::checkpoint::HttpChunks;
use crate::transport::credentials::Credentials;
use crate::transport::exchange::{Ask, Content, Exchanges, Length, Timeouts};
use crate::transport::roots::Roots;
use crate::transport::{Chunks, Transport, TransportError};
#[cfg(feature = "live")]
use crate::transport::{LiveConnection, LiveEvents, live};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const CHECKPOINT: &str = "application/x-lakesync-checkpoint-stream";

/// A shorter push is sent as it is: packing would cost more than it saves.
const PACKED_BYTES_MIN: usize = 1 << 10;

/// A gateway behind HTTP.
///
/// ```no_run
/// use std::sync::Arc;
/// use lakesync_client::{HttpTransport, LocalDb, SessionOptions, SyncHandle, SystemClock};
/// use lakesync_proto::{ClientId, GatewayId};
///
/// let db = LocalDb::open("todos.db", ClientId::parse("laptop-1")?, Arc::new(SystemClock))?;
/// let transport = HttpTransport::new("https://sync.example.org", GatewayId::parse("public")?)?
///     .with_token_source(|| Ok(std::fs::read_to_string("token")?.trim().to_owned()));
/// let syncing = SyncHandle::start(db.clone(), transport, SessionOptions::default());
/// db.execute("UPDATE todos SET done = 1", [])?; // is on its way
/// syncing.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A clone shares the connections and the token.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    exchanges: Exchanges,
    gateway: GatewayId,
}

impl HttpTransport {
    /// The gateway `gateway` of the server at `base_url`, such as `https://sync.example.org` or
    /// `http://127.0.0.1:7420`.
    ///
    /// # Errors
    /// [`TransportError::Address`] when the URL is none that this transport speaks.
    pub fn new(base_url: &str, gateway: GatewayId) -> Result<HttpTransport, TransportError> {
        let address = Address::parse(base_url)?;
        let exchanges = Exchanges::new(address, Timeouts::default(), Roots::default());
        Ok(HttpTransport { exchanges, gateway })
    }

    /// Presents this bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> HttpTransport {
        self.exchanges.credentials = Credentials::of_token(token);
        self
    }

    /// Presents the bearer tokens that `source` gives: one before the first request, and another whenever the gateway has
    /// refused the last. It is called from the thread that syncs, which waits for it.
    #[must_use]
    pub fn with_token_source(
        mut self,
        source: impl Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> HttpTransport {
        self.exchanges.credentials = Credentials::of_source(Arc::new(source));
        self
    }

    /// Waits this long instead of the default.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> HttpTransport {
        let roots = self.exchanges.roots.clone();
        self.exchanges = self.exchanges.rebuilt(timeouts, roots);
        self
    }

    /// Trusts the certificates in the text of a PEM file, and no longer the public authorities. Called again, it adds
    /// more of them. A server's own certificate may be among them when it says that it is no authority
    /// (`basicConstraints=CA:FALSE`).
    ///
    /// # Errors
    /// [`TransportError::Certificate`] when there is none in it, or one that cannot be read.
    #[cfg(feature = "tls")]
    pub fn with_root_certificate(mut self, pem: &[u8]) -> Result<HttpTransport, TransportError> {
        let roots = self.exchanges.roots.clone().with_pem(pem)?;
        let timeouts = self.exchanges.timeouts;
        self.exchanges = self.exchanges.rebuilt(timeouts, roots);
        Ok(self)
    }

    fn of_gateway(&self, rest: &str) -> String {
        format!("/v1/sync/{}/{rest}", self.gateway)
    }

    fn json<'de, T: Deserialize<'de>>(url: &str, body: &'de [u8]) -> Result<T, TransportError> {
        serde_json::from_slice(body).map_err(|error| TransportError::Answer {
            url: url.to_owned(),
            reason: error.to_string(),
        })
    }
}

fn whole<'a>(path: &'a str, accept: &'static str) -> Ask<'a> {
    Ask {
        path,
        accept,
        length: Length::Whole,
    }
}

/// The answer to `GET …/schema`.
#[derive(Deserialize)]
struct SchemasAnswer {
    tables: Vec<serde_json::Value>,
}

/// The answer to `GET …/digest`.
#[derive(Deserialize)]
struct DigestAnswer {
    cursor: String,
    tables: Vec<TableDigestAnswer>,
}

#[derive(Deserialize)]
struct TableDigestAnswer {
    table: String,
    rows: u64,
    cells: u64,
    /// Decimal: it has 64 bits.
    hash: String,
}

impl TableDigestAnswer {
    fn read(&self) -> Result<TableDigest, String> {
        let table = TableName::parse(&self.table).map_err(|error| error.to_string())?;
        let hash = self.hash.parse();
        Ok(TableDigest {
            table,
            rows: self.rows,
            cells: self.cells,
            hash: hash.map_err(|_| "a hash is a decimal number of 64 bits".to_owned())?,
        })
    }
}

impl Transport for HttpTransport {
    fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
        let path = self.of_gateway("push");
        let body = encode_push_protobuf(push);
        let content = match body.len() < PACKED_BYTES_MIN {
            true => Content {
                content_type: PROTOBUF,
                zipped: false,
                bytes: body,
            },
            false => Content {
                content_type: PROTOBUF,
                zipped: true,
                bytes: packed(&body),
            },
        };
        let answer = self.exchanges.post(&whole(&path, PROTOBUF), content)?;
        let (_, body) = answer.whole()?;
        Ok(decode_ack_protobuf(&body)?)
    }

    fn pull(&self, pull: &Pull) -> Result<PullPage, TransportError> {
        let cursor = percent_encode(&pull.cursor);
        let client_id = percent_encode(pull.client_id.as_str());
        let mut path = self.of_gateway(&format!(
            "pull?cursor={cursor}&clientId={client_id}&limit={}",
            pull.limit
        ));
        if let Some(hash) = pull.schemas_hash {
            path.push_str(&format!("&schemas={hash}"));
        }
        let (_, body) = self.exchanges.get(&whole(&path, PROTOBUF))?.whole()?;
        Ok(decode_page_protobuf(&body, pull.schemas.as_ref())?)
    }

    fn checkpoint(&self, request: &CheckpointRequest) -> Result<Box<dyn Chunks>, TransportError> {
        let client_id = percent_encode(request.client_id.as_str());
        let mut path = self.of_gateway(&format!("checkpoint?form=native&clientId={client_id}"));
        if !request.tables.is_empty() {
            let names: Vec<&str> = request.tables.iter().map(TableName::as_str).collect();
            path.push_str(&format!("&tables={}", names.join(",")));
        }
        if let Some(resume) = &request.resume {
            path.push_str(&format!("&resume={}", percent_encode(resume)));
        }
        let opened = self.exchanges.get(&Ask {
            path: &path,
            accept: CHECKPOINT,
            length: Length::Stream,
        })?;
        let schemas = Arc::clone(&request.schemas);
        Ok(Box::new(HttpChunks::new(opened, schemas)))
    }

    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> {
        let path = self.of_gateway("schema");
        let (url, body) = self.exchanges.get(&whole(&path, JSON))?.whole()?;
        let answer: SchemasAnswer = Self::json(&url, &body)?;
        let tables = answer.tables.iter();
        let schemas = tables.map(|table| TableSchema::from_json(&table.to_string()));
        schemas.collect::<Result<_, _>>().map_err(|error| {
            let reason = error.to_string();
            TransportError::Answer { url, reason }
        })
    }

    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError> {
        let path = format!("/v1/admin/schema/{}", self.gateway);
        let content = Content {
            content_type: JSON,
            zipped: false,
            bytes: serde_json::to_vec(definition).expect("a table definition is plain JSON"),
        };
        let answer = self.exchanges.post(&whole(&path, JSON), content)?;
        answer.whole().map(|_| ())
    }

    fn digest(&self, client_id: &ClientId) -> Result<GatewayDigest, TransportError> {
        let client_id = percent_encode(client_id.as_str());
        let path = self.of_gateway(&format!("digest?clientId={client_id}"));
        let (url, body) = self.exchanges.get(&whole(&path, JSON))?.whole()?;
        let answer: DigestAnswer = Self::json(&url, &body)?;
        let tables = answer.tables.iter().map(TableDigestAnswer::read);
        Ok(GatewayDigest {
            cursor: answer.cursor,
            tables: tables
                .collect::<Result<_, _>>()
                .map_err(|reason| TransportError::Answer { url, reason })?,
        })
    }

    #[cfg(feature = "live")]
    fn live(
        &self,
        subscribe: &Subscribe,
        events: LiveEvents,
    ) -> Result<Box<dyn LiveConnection>, TransportError> {
        self.exchanges.hear(None);
        let path = self.of_gateway("ws?native=true");
        live::open(&self.exchanges, &path, subscribe, events)
    }

    fn refresh_token(&self) -> bool {
        self.exchanges.credentials.refresh()
    }

    fn gateway_ms(&self) -> Option<u64> {
        self.exchanges.gateway_ms()
    }
}

fn packed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("a vector takes everything")
}

/// For a value in a query string: everything but letters, digits and `-._~` (RFC 3986).
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
