//! Who asks, and what they may.
//!
//! **Invariant:** every request has an identity before any handler sees it; without a configured key it is
//! [`Identity::anyone`], and the server is on loopback only.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use lakesync_proto::{Claims, ClientId, ErrorCode, GatewayId};

use crate::error::Refusal;

/// What a token lets its holder do, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads with SQL; pulls; pushes nothing.
    Reader,
    /// Pushes and pulls as itself, as the sync rules say.
    Client,
    /// Pushes deltas of any client id, past the write rules; pulls everything.
    Ingest,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in a token's `role` claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Client => "client",
            Self::Ingest => "ingest",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Reader, Self::Client, Self::Ingest, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no role: reader, client, ingest and admin are"))
    }
}

/// The gateways that a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them: only without authentication.
    All,
    /// Those that its `gw` claim names.
    Only(BTreeSet<GatewayId>),
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The token's `sub`, which is the client id; none without authentication.
    pub subject: Option<ClientId>,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub scope: Scope,
    /// What sync rules may ask for.
    pub claims: Claims,
    /// When the token ends, in seconds since 1970, leeway not counted.
    pub expires_s: Option<u64>,
}

impl Identity {
    /// Whoever asks a server without authentication: everything is allowed, under any client id.
    #[must_use]
    pub fn anyone() -> Self {
        Self {
            subject: None,
            role: Role::Admin,
            scope: Scope::All,
            claims: Claims::new(),
            expires_s: None,
        }
    }

    /// Whether it may see `gateway` at all.
    #[must_use]
    pub fn reaches(&self, gateway: &str) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Only(names) => names.contains(gateway),
        }
    }

    /// Whether sync rules bind it: they do not bind `ingest` and `admin`.
    #[must_use]
    pub fn is_ruled(&self) -> bool {
        matches!(self.role, Role::Client | Role::Reader)
    }

    /// Refuses a client id that is not the token's own.
    ///
    /// # Errors
    /// 403 when a `client` or `reader` names another one.
    pub fn check_client(&self, client: &ClientId) -> Result<(), Refusal> {
        match &self.subject {
            Some(subject) if self.is_ruled() && subject != client => Err(Refusal::new(
                ErrorCode::Forbidden,
                format!(
                    "Client ID mismatch: the token is for `{subject}`, the request says `{client}`"
                ),
            )),
            _ => Ok(()),
        }
    }
}
