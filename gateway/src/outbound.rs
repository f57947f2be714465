//! Requests that this server makes itself: key sets and webhooks.
//!
//! **Invariant:** each is bounded in time and in bytes and goes to the configured address only: no redirect is followed.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;

/// An agent for one configured address. `timeout` is for a whole exchange, the connection included.
pub(crate) fn agent(url: &str, timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("lakesync/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(timeout));
    // A proxy cannot reach this machine's own loopback; elsewhere the environment's proxy is respected.
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let loopback = ["127.", "localhost", "[::1]"]
        .iter()
        .any(|own| host.starts_with(own));
    let config = match loopback {
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
    let uri = url.parse::<ureq::http::Uri>();
    match (host, uri) {
        (Some(host), Ok(uri)) if !host.is_empty() && uri.host().is_some() => Ok(()),
        _ => Err("it must be an address that begins with https:// or http://".to_owned()),
    }
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
