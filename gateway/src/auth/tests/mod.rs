//! Tokens of every kind, and what becomes of them.

pub(crate) mod keys;
pub(crate) mod matrix;
