//! Authentication: from a bearer token to an [`Identity`]. Start at [`Authenticator`].
//!
//! ```text
//! token ─► Compact (well formed) ─► signature: secrets │ key set ─► claims ─► Identity
//!                                                         ▲
//!                                          file or address, kept up to date
//! ```
//! **Invariant:** a request's identity comes from a verified token and from nothing else that the request says.

mod authenticator;
mod claims;
mod config;
mod identity;
mod jwks;
mod keys;
mod mint;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod verified;

pub use authenticator::{AuthConfigError, Authenticator};
pub use claims::TOKEN_GATEWAYS_MAX;
pub use config::{AuthConfig, JwksSource, SECRET_BYTES_MIN, Secret};
pub use identity::{Identity, Role, Scope};
pub use jwks::Fetch;
pub use keys::JWKS_BYTES_MAX;
pub use mint::{MintClaims, mint};
pub use token::TOKEN_BYTES_MAX;
