//! The agreement as its users see it: vectors of the contract, laws as properties, random histories.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod actions;
mod bad_input;
mod checkpoints;
mod checks;
mod clock;
mod delta_ids;
mod fold_model;
mod frames;
mod generated;
mod laws;
mod native_fields;
mod round_trips;
mod samples;
mod values;
mod vectors;
