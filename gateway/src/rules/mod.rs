//! Sync rules: which rows a client may see and write, decided by the rows' merged state.

mod audience;

pub use audience::Audience;
pub(crate) use audience::Membership;
