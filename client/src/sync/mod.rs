//! The sync machine: what to ask the gateway next, and what its answers mean. It does no I/O.

mod step;

pub use step::{CheckpointRequest, Pull, Reply, Step, Subscribe};
