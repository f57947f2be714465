//! Which tables this database has, and how they follow the gateway's.

mod alter;
mod ddl;
mod gate;
mod intact;
mod moment;
mod registry;
mod table;
#[cfg(test)]
mod tests;
mod triggers;
mod union;

pub(crate) use gate::{Gate, Stand};
pub(crate) use registry::Registry;
pub(crate) use table::{LocalColumn, LocalTable, Slot, TableNumber};
pub(crate) use triggers::{
    ADD, CHANGES, DELETE, FIXED_COLUMNS, INSERT, MET, MOVE, NULL, UPDATE, loosen_changes,
};
