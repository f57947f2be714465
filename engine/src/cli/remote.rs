//! The server that holds a data directory, as the tools of the same machine ask it: with a token and over TLS when the
//! server wants them.
//!
//! **Invariant:** it only ever speaks to the address that the directory's lock names, which is this machine's, or to the one
//! that somebody gave, whose certificate it checks; a token that it makes itself goes to the former only, and is good for
//! one gateway and one minute, should another process listen there by then.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use lakesync_gateway::auth::AuthConfig;
use lakesync_proto::{
    GatewayId, Push, PushAck, TableDefinition, TableSchema, decode_ack_json, encode_push_json,
};
use serde_json::Value as Json;
use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::{CliError, token};
use crate::config::{Config, Sources};

/// The longest answer to anything but a query, in bytes: an acknowledgement of the largest push is a tenth of it.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a server of this machine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The variable that a token is taken from.
const TOKEN_VARIABLE: &str = "LAKESYNC_TOKEN";

/// A server of this machine, and the gateway that is asked for.
#[derive(Clone)]
pub struct Remote {
    agent: Agent,
    url: String,
    gateway: GatewayId,
    token: Token,
}

/// Where the token of a request comes from.
#[derive(Clone)]
enum Token {
    /// Somebody gave it.
    Given(String),
    /// Made for each request from the secret of the directory's own configuration, for the gateway that is asked for.
    Minted(Box<AuthConfig>),
    /// There is none.
    None,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.url)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// The server at `url` that holds `dir`.
    pub(super) fn new(dir: &Path, url: &str, gateway: GatewayId) -> Self {
        // The address was read from the lock that the server holds, and while it listens nobody else can; a certificate
        // is made for a name that other machines use, not for this address.
        let tls = TlsConfig::builder().disable_verification(true).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .proxy(None)
            .tls_config(tls);
        let own = || own_auth(dir).map_or(Token::None, |auth| Token::Minted(Box::new(auth)));
        Self {
            agent: config.build().into(),
            url: url.to_owned(),
            token: given_token().map_or_else(own, Token::Given),
            gateway,
        }
    }

    /// The server at `url`, wherever it is: its certificate is checked, and the token is the environment's.
    ///
    /// # Errors
    /// When it is no URL of a server.
    pub(super) fn at(url: &str, gateway: GatewayId) -> Result<Self, CliError> {
        let scheme = ["https://", "http://"]
            .into_iter()
            .find(|scheme| url.starts_with(scheme));
        if scheme.is_none_or(|scheme| url.len() == scheme.len()) {
            return Err(
                format!("`{url}` is no URL of a server; write it as https://lake.example").into(),
            );
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT));
        Ok(Self {
            agent: config.build().into(),
            url: url.trim_end_matches('/').to_owned(),
            token: given_token().map_or(Token::None, Token::Given),
            gateway,
        })
    }

    /// The gateway that is asked for.
    pub(super) fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    fn bearer(&self) -> Option<String> {
        match &self.token {
            Token::Given(token) => Some(token.clone()),
            Token::Minted(auth) => token::of_this_machine(auth, self.gateway.clone()),
            Token::None => None,
        }
    }

    /// Sends a JSON body; an answer that is no success is an error with its text.
    pub(super) fn post(
        &self,
        path: &str,
        body: &[u8],
        accept: &str,
    ) -> Result<Response<Body>, CliError> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        request = request
            .header("content-type", "application/json")
            .header("accept", accept);
        if let Some(token) = self.bearer() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        checked(request.send(body)?)
    }

    fn get(&self, path: &str) -> Result<Response<Body>, CliError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = self.bearer() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        checked(request.call()?)
    }

    /// The schemas of all tables.
    pub(super) fn schemas(&self) -> Result<Vec<TableSchema>, CliError> {
        let answer = self.get(&format!("/v1/sync/{}/schema", self.gateway))?;
        let json: Json = serde_json::from_slice(&whole(answer)?)?;
        let tables = json["tables"].as_array();
        let tables = tables.ok_or("the server's answer has no list of tables")?;
        let schemas = tables
            .iter()
            .map(|table| TableSchema::from_json(&table.to_string()));
        Ok(schemas.collect::<Result<_, _>>()?)
    }

    /// Creates or evolves a table.
    pub(super) fn put_schema(&self, definition: &TableDefinition) -> Result<(), CliError> {
        let path = format!("/v1/admin/schema/{}", self.gateway);
        self.post(&path, &serde_json::to_vec(definition)?, "application/json")?;
        Ok(())
    }

    /// Pushes a batch; durable when this returns.
    pub(super) fn push(&self, push: &Push) -> Result<PushAck, CliError> {
        let path = format!("/v1/sync/{}/push", self.gateway);
        let answer = self.post(&path, &encode_push_json(push), "application/json")?;
        Ok(decode_ack_json(&whole(answer)?)?)
    }
}

/// The token of the environment.
fn given_token() -> Option<String> {
    let token = std::env::var(TOKEN_VARIABLE).ok();
    token.filter(|token| !token.is_empty())
}

/// What whoever may read the directory's own configuration may sign with.
fn own_auth(dir: &Path) -> Option<AuthConfig> {
    let sources = Sources::of_process(None, dir).ok()?;
    Config::read(&sources).ok()?.auth
}

fn checked(mut answer: Response<Body>) -> Result<Response<Body>, CliError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.body_mut().read_to_string()?;
    let said: Option<Json> = serde_json::from_str(&text).ok();
    let said = said.as_ref().and_then(|said| said["error"].as_str());
    let said = said.map_or_else(
        || format!("the server answered {status}: {text}"),
        str::to_owned,
    );
    let hint = match status.as_u16() {
        401 => {
            "; set LAKESYNC_TOKEN to a token, as `lakesync token --role admin` makes it from the server's configuration"
        }
        _ => "",
    };
    Err(format!("{said}{hint}").into())
}

fn whole(answer: Response<Body>) -> Result<Vec<u8>, CliError> {
    let mut body = Vec::new();
    let reader = answer
        .into_body()
        .into_with_config()
        .limit(ANSWER_BYTES_MAX)
        .reader();
    reader.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut body)?;
    Ok(body)
}
