//! The integration tests of LakeSync: one binary, one module a subject.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod checkpoint;
mod checkpoint_rules;
mod clean;
mod client;
mod clock_in_log;
mod dead_rows;
mod dml;
mod evolution;
mod expiry;
mod fold_changes;
mod foreign;
mod gateway;
mod large;
mod layouts;
mod maintenance;
mod merge_agreement;
mod metadata;
mod names;
mod overlay;
mod replay;
mod restore;
mod rules;
mod slt;
mod small_histories;
mod sql;
mod system;
mod tidy;
mod time_travel;
mod travel_edges;
mod union_read;
mod upkeep;
