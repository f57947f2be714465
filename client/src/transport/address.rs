//! Where a gateway is.
//!
//! Invariant: an address that was taken can be asked; what a person may have pasted instead is refused with what to write.

use std::fmt;

use ureq::http::Uri;

use crate::transport::TransportError;

/// The server's base URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    secure: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The base URL's own path: empty, or with a slash before and none behind it.
    path: String,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Address, TransportError> {
        let refuse = |reason| TransportError::Address {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url
            .trim()
            .parse()
            .map_err(|_| refuse("write it as http://host:port, and nothing behind it"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some("https") => {
                return Err(refuse(
                    "this program was built without TLS: enable the feature tls",
                ));
            }
            Some("ws" | "wss") => {
                return Err(refuse(
                    "write http or https; the live connection finds its own address from that",
                ));
            }
            _ => return Err(refuse("it must start with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse(
                "give the token apart from it, not a user and a password",
            ));
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(refuse("it has no host"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(refuse("it must be a host and a port, and perhaps a path"));
        }
        let path = uri.path().trim_end_matches('/');
        if path == "/v1" || path.contains("/v1/") {
            return Err(refuse(
                "leave away /v1 and what follows: the name of the gateway is given apart from it",
            ));
        }
        Ok(Address {
            secure,
            host: host.to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            path: path.to_owned(),
        })
    }

    /// Whether it is this machine itself, which no proxy can reach.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host == "::1" || self.host.starts_with("127.")
    }

    /// The URL of a path that begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.authority(), self.path)
    }

    /// As [`Address::url`], for a WebSocket.
    #[cfg(feature = "live")]
    pub(super) fn socket_url(&self, path: &str) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}{}{path}", self.authority(), self.path)
    }

    #[cfg(feature = "live")]
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    #[cfg(feature = "live")]
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    #[cfg(feature = "live")]
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with the brackets that an IPv6 address needs.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(""))
    }
}
