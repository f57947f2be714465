//! Which tables this database has, and how they follow the gateway's.

mod alter;
mod ddl;
mod intact;
mod moment;
mod registry;
mod table;
#[cfg(test)]
mod tests;
mod triggers;
mod union;

pub(crate) use moment::take_over;
pub(crate) use registry::Registry;
pub(crate) use table::{LocalColumn, LocalTable, Slot, TableNumber};
pub(crate) use triggers::{
    CHANGES, DELETE, FIXED_COLUMNS, INSERT, MET, MOVE, NULL, UPDATE, loosen_changes,
};
