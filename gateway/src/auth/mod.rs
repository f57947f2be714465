//! Authentication: from a bearer token to an [`Identity`].

mod identity;

pub use identity::{Identity, Role, Scope};
