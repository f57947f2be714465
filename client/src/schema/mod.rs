//! Which tables this database has, and how they follow the gateway's.

mod registry;

pub(crate) use registry::{LocalColumn, LocalTable, Registry, Slot, TableNumber};
