//! The sync machine: what to ask the gateway next, and what its answers mean. It does no I/O.

mod backoff;
mod difference;
mod machine;
mod options;
mod session;
mod status;
mod step;
#[cfg(test)]
mod tests;

pub(crate) use difference::difference;
pub use options::{FirstSync, KeepUntil, Mode, SessionOptions, Updates, Wish};
pub use session::Session;
pub use status::{Phase, SchemaState, Status, SyncError, TableSchemaState};
pub use step::{CheckpointRequest, Pull, Reply, Step, Subscribe};
